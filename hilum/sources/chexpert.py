"""CheXpert: 223,414 chest radiographs of 64,540 patients, 14 findings read from the reports.

Each finding is 1 (positive), 0 (negative), -1 (uncertain) or blank (not mentioned). Irvin et al. 2019,
"CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison",
arXiv 1901.07031. The images come from Stanford's AIMI Center, under an agreement that forbids passing
them on.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs

from hilum.errors import HilumError
from hilum.files import replacing, sha256_of_file
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog, hierarchical_paths
from hilum.sources.csv import first_file, mapped, read_csv, refuse, whole_numbers
from hilum.sources.images import read_gray
from hilum.targets import CHEXPERT_FINDINGS, CHEXPERT_TARGETS

#: Mean and standard deviation of the pixels (0..1), as the founding project measured them.
PIXEL_STATS = (0.5064167, 0.16673872)

INDEX_NAMES = ("train.csv", "train.csv.gz")
FOLDER_NAMES = ("CheXpert-v1.0-small", "CheXpert-v1.0", "CheXpert-v1.0-small/CheXpert-v1.0-small")

_VIEWS = ("Frontal", "Lateral")
_ORIENTATIONS = ("AP", "PA", "LL", "RL", "")
_COLUMN_OF = {finding: finding.replace("_", " ") for finding in CHEXPERT_FINDINGS}
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *_COLUMN_OF.values())

#: What the four codes of CheXpert's labeller mean: positive, negative, uncertain, not mentioned.
CODES = {"1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": np.nan, "1": 1.0, "0": 0.0, "-1": -1.0}

#: Beginning of the columns that hold the raw codes, in the table that is kept.
_CODE = "code "

_PATH = r"(?:^|/)((?:train|valid|test)/patient(\d{1,15})/study(\d{1,15})/[^/]+\.(?:jpg|jpeg|png))$"

#: Raised when the cleaning changes, so that tables kept from before are not used.
_CLEANING_VERSION = 2


class CleanMetaData:
    """Cleans CheXpert's index into the table that everything else works on.

    The defaults leave 131,748 images of the training index: frontal views, taken AP or PA, of a
    patient's first four studies, with 12 binary targets. The cleaned table is kept as Parquet in
    the user's cache folder and used again while the CSV's SHA-256 and the filters are the same.

    Args:
        root: the folder that holds `train.csv` and `train/`, or the folder around it. May be left out
            if `csv_path` is given; then there is a table, but no image can be opened.
        csv_path: the index, plain or gzipped, if it is not `root`/train.csv.
        max_studies: studies with a higher number are left out; None keeps all.
        views: which of "Frontal" and "Lateral" to keep.
        orientations: which values of `AP/PA` to keep: "AP", "PA", "LL", "RL" or "" (blank, as it is
            for lateral views).
        name: the catalog's name.
        cache: False cleans anew and keeps nothing.

    Raises:
        HilumError: neither root nor csv_path, no index there, a filter that is no value of its
            column; and, once the table is asked for, a missing column, a path without patient and
            study, a label outside {1, 0, -1, blank}, an image listed twice.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        csv_path: str | Path | None = None,
        *,
        max_studies: int | None = 4,
        views: Sequence[str] = ("Frontal",),
        orientations: Sequence[str] = ("AP", "PA"),
        name: str = "chexpert",
        cache: bool = True,
    ):
        if root is None and csv_path is None:
            raise HilumError("CleanMetaData needs root (the data set's folder) or csv_path (its train.csv).")
        if max_studies is not None and (type(max_studies) is not int or max_studies < 1):
            raise HilumError(
                f"max_studies must be a whole number, 1 or more, or None for all studies; it is {max_studies!r}."
            )
        _refuse_unknown("views", views, _VIEWS)
        _refuse_unknown("orientations", orientations, _ORIENTATIONS)
        self.root = None if root is None else _data_folder(Path(root))
        if csv_path is None:
            csv_path = first_file(
                self.root,
                INDEX_NAMES,
                lambda names: f"root must be the folder that holds CheXpert's {names}.",
            )
        elif not isinstance(csv_path, str | Path):
            raise HilumError(f"csv_path must be the path of CheXpert's train.csv; it is {csv_path!r}.")
        elif root is not None and not self.root.is_dir():
            raise HilumError(f"{root}: there is no such folder. root must be the folder of the images.")
        self.csv_path = Path(csv_path)
        if not self.csv_path.is_file():
            raise HilumError(
                f"{self.csv_path}: there is no such file. csv_path must be CheXpert's train.csv."
            )
        self.name = name
        self.filters = {
            "max_studies": max_studies,
            "views": sorted(set(views)),
            "orientations": sorted(set(orientations)),
        }
        self.cache = cache

    @property
    def target_columns(self) -> list[str]:
        """The 12 targets, in CheXpert's order."""
        return list(CHEXPERT_TARGETS)

    def get_clean_df(self) -> pd.DataFrame:
        """The cleaned table, a copy: `FEATURE_COLUMNS`, then the targets, indexed by `ImageID`.

        `ImageID` is the row's position in the raw CSV, counted from 0.
        """
        return self._cleaned[[*FEATURE_COLUMNS, *CHEXPERT_TARGETS]].copy()

    def catalog(self) -> Catalog:
        """The cleaned table with its targets and the place of its images."""
        return Catalog(
            name=self.name,
            table=self.get_clean_df(),
            targets=CHEXPERT_TARGETS,
            root=self.root,
            origin=self.csv_path,
            codes=self._cleaned[[f"{_CODE}{target}" for target in CHEXPERT_TARGETS]].set_axis(
                list(CHEXPERT_TARGETS), axis="columns"
            ),
            pixel_stats=PIXEL_STATS,
        )

    def display_image(self, image_id: int) -> np.ndarray:
        """The radiograph as uint8 gray levels of shape (height, width), ready for `plt.imshow`."""
        return read_gray(self.catalog().image_path(image_id))

    @cached_property
    def _cleaned(self) -> pd.DataFrame:
        kept = self._cache_path()
        if self.cache and kept.is_file():
            try:
                return pd.read_parquet(kept)
            except (OSError, ValueError):
                kept.unlink(missing_ok=True)  # damaged: clean again below
        table = clean(self.csv_path, **self.filters)
        if self.cache:
            try:
                with replacing(kept) as partial:
                    table.to_parquet(partial)
            except OSError:
                pass  # a cache that cannot be written costs time, nothing else
        return table

    def _cache_path(self) -> Path:
        key = json.dumps([_CLEANING_VERSION, sha256_of_file(self.csv_path), self.filters], sort_keys=True)
        folder = os.environ.get("HILUM_CACHE") or platformdirs.user_cache_dir("hilum")
        return Path(folder) / f"chexpert-{hashlib.sha256(key.encode()).hexdigest()[:24]}.parquet"


#: Whose keyword arguments `open_catalog` takes.
FILTERS_OF = CleanMetaData


def open_catalog(root: Path, **filters) -> Catalog:
    """CheXpert's cleaned catalog; `filters` are the keyword arguments of `CleanMetaData`."""
    return CleanMetaData(root, **filters).catalog()


def clean(
    csv_path: Path, max_studies: int | None, views: Sequence[str], orientations: Sequence[str]
) -> pd.DataFrame:
    """Reads CheXpert's index, checks every cell of it, filters, and makes the labels binary.

    Returns:
        `FEATURE_COLUMNS`, the binary targets, and each target's raw code in a column `code <target>`.
    """
    raw = read_csv(csv_path, _COLUMNS)
    parts = raw["Path"].str.extract(_PATH)
    refuse(
        csv_path,
        raw["Path"],
        parts[0].isna(),
        "is no CheXpert path: expected .../train/patientNNNNN/studyN/viewN_frontal.jpg",
    )
    refuse(
        csv_path,
        raw["Path"],
        parts[0].duplicated(),
        "stands in an earlier line too",
        "Remove one of the two lines.",
    )
    refuse(
        csv_path, raw["Frontal/Lateral"], ~raw["Frontal/Lateral"].isin(_VIEWS), "is not Frontal or Lateral"
    )
    refuse(csv_path, raw["AP/PA"], ~raw["AP/PA"].isin(_ORIENTATIONS), "is not AP, PA, LL, RL or blank")
    findings = {
        finding: mapped(csv_path, raw[column], CODES).astype("float64")
        for finding, column in _COLUMN_OF.items()
    }
    table = pd.DataFrame(
        {
            "PatientID": parts[1].astype("int64"),
            "StudyID": parts[2].astype("int64"),
            "Age": whole_numbers(csv_path, raw["Age"], "is no age in years"),
            "Sex_Male": mapped(csv_path, raw["Sex"], {"Male": 1, "Female": 0, "Unknown": 0}),
            "Sex_Unknown": (raw["Sex"] == "Unknown").astype("int64"),
            "Orientation_PA": (raw["AP/PA"] == "PA").astype("int64"),
            "Support Devices": (findings["Support_Devices"] == 1).astype("float64"),
            "Image_Path": parts[0].astype("str"),
            "Hierarchical_Path": hierarchical_paths(np.arange(len(raw))),
            # Everything but a positive counts as negative, until a label policy says otherwise.
            **{target: (findings[target] == 1).astype("float64") for target in CHEXPERT_TARGETS},
            **{f"{_CODE}{target}": findings[target] for target in CHEXPERT_TARGETS},
        }
    )
    table.index.name = "ImageID"
    keep = raw["Frontal/Lateral"].isin(views) & raw["AP/PA"].isin(orientations)
    if max_studies is not None:
        keep &= table["StudyID"] <= max_studies
    if not keep.any():
        raise HilumError(
            f"{csv_path}: no image is left after the filters views={list(views)}, "
            f"orientations={list(orientations)}, max_studies={max_studies}. Loosen one of them."
        )
    return table[keep]


def _data_folder(root: Path) -> Path:
    """`root` itself if it holds the index, else CheXpert's own folder in it."""
    for folder in (root, *(root / name for name in FOLDER_NAMES)):
        if any((folder / name).is_file() for name in INDEX_NAMES):
            return folder
    return root


def _refuse_unknown(setting: str, values: Sequence[str], known: Sequence[str]) -> None:
    if (
        not isinstance(values, list | tuple | set)
        or not values
        or any(value not in known for value in values)
    ):
        raise HilumError(f"{setting} must be a list of {', '.join(map(repr, known))}; it is {values!r}.")
