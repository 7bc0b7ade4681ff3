"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients, 14 findings.

From the NIH Clinical Center, 1992 to 2015. A text miner read the labels from the reports.

Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on
Weakly-Supervised Classification and Localization of Common Thorax Diseases". CVPR 2017, 3462-3471. The NIH Clinical
Center provides the data and asks for this citation.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.sources._csv import CsvTable, first_file, first_present, read_csv
from hilum.sources.catalog import Catalog, feature_table
from hilum.targets import NIH_TARGETS, canonical_target

INDEX_NAMES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_COLUMNS = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"),
    "View Position",
)
_SPLIT_LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}


def open_catalog(root: Path) -> Catalog:
    """The whole index as a catalog, with the official split if its two lists are there.

    Args:
        root: the folder with `Data_Entry_2017_v2020.csv` and the images, in `images/` or in the
            `images_001/images/` … `images_012/images/` of the official archives.

    Raises:
        HilumError: a missing index, column or image, an unknown finding, sex or view, an image listed twice, or a split
            list that does not cover the images.
    """
    raw = read_csv(first_file(root, INDEX_NAMES, "ChestX-ray14"), _COLUMNS)
    raw.check_unique("Image Index")
    table = feature_table(
        patients=raw.whole_numbers("Patient ID", "a patient number"),
        studies=raw.whole_numbers("Follow-up #", "a follow-up number"),
        ages=raw.whole_numbers("Patient Age", "an age in years", suffix="Y"),  # "058Y" before 2020
        male=raw.map("Patient Gender", {"M": 1, "F": 0}),
        sex_unknown=0,
        pa=raw.map("View Position", {"PA": 1, "AP": 0}),
        image_paths=_image_paths(root, raw),
        keep_extensions=True,
    )
    parts = _official_split(root, raw["Image Index"])
    return Catalog("nih", table.join(_findings(raw)), NIH_TARGETS, root, origin=raw.path, fixed_split=parts)


def _findings(raw: CsvTable) -> pd.DataFrame:
    """`"Edema|Effusion"` as a 1.0 in each of its columns."""
    column, labels = "Finding Labels", raw["Finding Labels"]
    raw.check(column, labels.str.strip() != "", "names no finding, not even No Finding")
    mentioned = labels.str.get_dummies("|")
    columns = {name: np.zeros(len(labels)) for name in ("No_Finding", *NIH_TARGETS)}
    for finding in mentioned.columns:
        name = canonical_target(finding)
        if name not in columns:
            raw.check(column, mentioned[finding] == 0, f"has the unknown finding {finding!r}")
        columns[name] = np.maximum(columns[name], mentioned[finding])  # two spellings are one finding
    findings = pd.DataFrame(columns, index=labels.index)
    both = (findings.pop("No_Finding") == 1) & findings.any(axis=1)
    raw.check(column, ~both, "has No Finding together with a finding")
    return findings


def _image_paths(root: Path, raw: CsvTable) -> pd.Series:
    folders = [*sorted(root.glob("images_*/images"), reverse=True), root / "images"]
    below = [folder.relative_to(root).as_posix() for folder in folders]
    paths = first_present(root, [f"{folder}/" + raw["Image Index"] for folder in below])
    raw.check_present("Image Index", paths != "", root)
    return paths


def _official_split(root: Path, names: pd.Series) -> pd.Series | None:
    """The part of each image, or None without the two lists."""
    lists = {part: root / name for part, name in _SPLIT_LISTS.items()}
    missing = [path for path in lists.values() if not path.is_file()]
    if len(missing) == len(lists):
        return None
    if missing:
        found = next(path for path in lists.values() if path not in missing)
        problem = f"{found} is there but {missing[0].name} is not."
        raise HilumError(f"{problem} Add it, or remove both lists to draw a new split.")
    part_of: dict[str, str] = {}
    for part, path in lists.items():
        for name in path.read_text().split():
            if part_of.setdefault(name, part) != part:
                raise HilumError(f"{path}: {name} is also in the other list. An image has one part.")
    split = names.map(part_of).astype(object).rename_axis("ImageID")
    if split.isna().any():
        raise HilumError(
            f"{lists['test']}: {names[split.isna()].iloc[0]} is in neither of the two lists "
            f"({int(split.isna().sum()):,} such images). Use the official lists that belong to this index."
        )
    return split
