"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients, 14 findings.

The labels were read from the reports by a text miner. Wang X, Peng Y, Lu L, Lu Z, Bagheri M,
Summers RM. "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised
Classification and Localization of Common Thorax Diseases". CVPR 2017, 3462-3471. The NIH Clinical
Center provides the data and asks for this citation.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.sources.catalog import Catalog, extensions_of, hierarchical_paths
from hilum.sources.csv import first_file, mapped, read_csv, refuse, whole_numbers
from hilum.targets import NIH_TARGETS, canonical_target

INDEX_NAMES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
)
_SPLIT_LISTS = {"train_val_list.txt": "train_val", "test_list.txt": "test"}


def open_catalog(root: Path) -> Catalog:
    """The whole index as a catalog; the official train_val and test lists are honoured if they are there.

    Args:
        root: the folder with `Data_Entry_2017_v2020.csv` and the images, in `images/` or in the
            `images_001/images/` … `images_012/images/` of the official archives.

    Raises:
        HilumError: a missing index, column or image, a finding, sex or view that is none of the data
            set's, an image listed twice, a split list that does not cover the images.
    """
    csv_path = first_file(
        root, INDEX_NAMES, lambda names: f"root must be the folder that holds ChestX-ray14's {names}."
    )
    raw = read_csv(csv_path, _COLUMNS)
    names = raw["Image Index"]
    refuse(
        csv_path,
        names,
        names.duplicated(),
        "stands in an earlier line too",
        "Remove one of the two lines.",
    )
    ages = raw["Patient Age"].str.removesuffix("Y").rename("Patient Age")  # "058Y" before 2020
    table = pd.DataFrame(
        {
            "PatientID": whole_numbers(csv_path, raw["Patient ID"], "is no patient number"),
            "StudyID": whole_numbers(csv_path, raw["Follow-up #"], "is no follow-up number"),
            "Age": whole_numbers(csv_path, ages, "is no age in years"),
            "Sex_Male": mapped(csv_path, raw["Patient Gender"], {"M": 1, "F": 0}),
            "Sex_Unknown": 0,
            "Orientation_PA": mapped(csv_path, raw["View Position"], {"PA": 1, "AP": 0}),
            "Support Devices": np.nan,
            "Image_Path": _locate(root, csv_path, names),
            "Hierarchical_Path": hierarchical_paths(np.arange(len(raw)), extensions=extensions_of(names)),
        }
    )
    table = pd.concat([table, _findings(csv_path, raw["Finding Labels"])], axis=1)
    table.index.name = "ImageID"
    return Catalog(
        name="nih",
        table=table,
        targets=NIH_TARGETS,
        root=root,
        origin=csv_path,
        fixed_split=_official_split(root, names, table.index),
    )


def _findings(csv_path: Path, labels: pd.Series) -> pd.DataFrame:
    """`"Edema|Effusion"` as a 1.0 in each of its columns."""
    refuse(csv_path, labels, labels.str.strip() == "", "names no finding, not even No Finding")
    mentioned = labels.str.get_dummies("|")
    columns = {name: np.zeros(len(labels)) for name in ("No_Finding", *NIH_TARGETS)}
    for finding in mentioned.columns:
        name = canonical_target(finding)
        if name not in columns:
            refuse(csv_path, labels, mentioned[finding] == 1, f"has the unknown finding {finding!r}")
        columns[name] = np.maximum(columns[name], mentioned[finding])  # two spellings are one finding
    findings = pd.DataFrame(columns, index=labels.index)
    both = (findings.pop("No_Finding") == 1) & findings.any(axis=1)
    refuse(csv_path, labels, both, "has No Finding beside a finding")
    return findings


def _locate(root: Path, csv_path: Path, names: pd.Series) -> list[str]:
    """Each image's path below `root`; the folders are listed once, not asked once per image."""
    folders = [root / "images", *sorted(root.glob("images_*/images"))]
    found: dict[str, str] = {}
    for folder in folders:
        if folder.is_dir():
            below = folder.relative_to(root).as_posix()
            found.update((entry.name, f"{below}/{entry.name}") for entry in os.scandir(folder))
    missing = ~names.isin(found.keys())
    refuse(
        csv_path,
        names,
        missing,
        f"is in the index but in no images folder of {root}",
        "Complete the download, or remove the lines without an image.",
    )
    return [found[name] for name in names]


def _official_split(root: Path, names: pd.Series, index: pd.Index) -> pd.Series | None:
    lists = {part: root / name for name, part in _SPLIT_LISTS.items()}
    present = {part: path for part, path in lists.items() if path.is_file()}
    if not present:
        return None
    if len(present) == 1:
        (found,) = present.values()
        other = next(path for path in lists.values() if path != found)
        raise HilumError(
            f"{found} is there but {other.name} is not. Bring both, or remove both to split anew."
        )
    part_of: dict[str, str] = {}
    for part, path in present.items():
        for name in path.read_text().split():
            if part_of.setdefault(name, part) != part:
                raise HilumError(f"{path}: {name} is in the other list too. An image has one part.")
    split = pd.Series([part_of.get(name) for name in names], index=index, dtype=object)
    if split.isna().any():
        name = names.iloc[int(split.isna().to_numpy().argmax())]
        raise HilumError(
            f"{lists['test']}: {name} is in neither of the two lists ({int(split.isna().sum()):,} such images). "
            "Use the official lists that belong to this index."
        )
    return split
