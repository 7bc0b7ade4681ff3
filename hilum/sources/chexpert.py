"""CheXpert: 223,414 chest radiographs of 64,540 patients, 14 findings read from the reports.

From Stanford Hospital, 2002 to 2017. CheXpert's labeller read the reports: each finding is 1 (positive), 0 (negative),
-1 (uncertain) or blank (not mentioned).

Irvin J, Rajpurkar P, Ko M, et al. "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert
Comparison". AAAI 2019, arXiv 1901.07031. From Stanford's AIMI Center; its agreement forbids passing the images on.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.files import cache_folder, replacing, sha256_of_file
from hilum.sources._csv import CsvTable, first_file, read_csv
from hilum.sources.catalog import FEATURE_COLUMNS, Catalog, check_choices, check_some_left, feature_table
from hilum.sources.images import read_gray
from hilum.targets import CHEXPERT_FINDINGS, CHEXPERT_TARGETS

#: Mean and standard deviation of the pixels (0..1), as the founding project measured them.
PIXEL_STATS = (0.5064167, 0.16673872)

INDEX_NAMES = ("train.csv", "train.csv.gz")
FOLDER_NAMES = ("CheXpert-v1.0-small", "CheXpert-v1.0", "CheXpert-v1.0-small/CheXpert-v1.0-small")

#: The label columns, by finding.
LABEL_COLUMNS = {finding: finding.replace("_", " ") for finding in CHEXPERT_FINDINGS}

#: The four codes of CheXpert's labeller: positive, negative, uncertain, not mentioned.
CODES = {"1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": np.nan, "1": 1.0, "0": 0.0, "-1": -1.0}

_VIEWS = ("Frontal", "Lateral")
_ORIENTATIONS = ("AP", "PA", "LL", "RL", "")
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABEL_COLUMNS.values())
_PATH = r"(?:^|/)((?:train|valid|test)/patient(\d{1,15})/study(\d{1,15})/[^/]+\.(?:jpg|jpeg|png))$"

#: Prefix of the columns with the raw codes, in the cached table.
_CODE = "code "

#: Raised when the cleaning changes, so that older cached tables are not used.
_CLEANING_VERSION = 2


class CleanMetaData:
    """Cleans CheXpert's index into the table that everything else works on.

    The defaults leave 131,748 images of the training index: frontal views, taken AP or PA, of a patient's first four
    studies, with 12 binary targets. The cleaned table is cached as Parquet in the user's cache folder and used again
    while the CSV's SHA-256 and the filters are the same.

    Args:
        root: the folder that holds `train.csv` and `train/`, or the folder around it. May be left out if `csv_path` is
            given; then there is a table, but no image can be opened.
        csv_path: the index, plain or gzipped, if it is not `root`/train.csv.
        max_studies: studies with a higher number are left out; None keeps all.
        views: which of "Frontal" and "Lateral" to keep.
        orientations: which values of `AP/PA` to keep: "AP", "PA", "LL", "RL" or "" (blank, as for lateral views).
        name: the catalog's name.
        cache: False cleans again and caches nothing.

    Raises:
        HilumError: neither root nor csv_path, no index there, or an unknown filter value; and, when the table is read,
            a missing column, a path without patient and study, a label outside {1, 0, -1, blank}, or an image listed
            twice.
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
        if max_studies is not None and (type(max_studies) is not int or max_studies < 1):
            expected = "a whole number, 1 or more, or None for all studies"
            raise HilumError(f"max_studies must be {expected}; it is {max_studies!r}.")
        check_choices("views", views, _VIEWS)
        check_choices("orientations", orientations, _ORIENTATIONS)
        self.root = None if root is None else _data_folder(Path(root))
        self.csv_path = _find_index(self.root, csv_path)
        self.name, self.cache = name, cache
        self.filters: dict[str, Any] = {"max_studies": max_studies}
        self.filters |= {"views": sorted(set(views)), "orientations": sorted(set(orientations))}

    @property
    def target_columns(self) -> list[str]:
        """The 12 targets, in CheXpert's order."""
        return list(CHEXPERT_TARGETS)

    def get_clean_df(self) -> pd.DataFrame:
        """A copy of the cleaned table: `FEATURE_COLUMNS`, then the targets; `ImageID` is the row in the CSV, from 0."""
        return self._cleaned[[*FEATURE_COLUMNS, *CHEXPERT_TARGETS]].copy()

    def catalog(self) -> Catalog:
        """The cleaned table with its targets and the folder of its images."""
        codes = self._cleaned[[f"{_CODE}{target}" for target in CHEXPERT_TARGETS]]
        codes = codes.set_axis(list(CHEXPERT_TARGETS), axis="columns")
        table, origin = self.get_clean_df(), self.csv_path
        return Catalog(
            self.name, table, CHEXPERT_TARGETS, self.root, origin=origin, codes=codes, pixel_stats=PIXEL_STATS
        )

    def display_image(self, image_id: int) -> np.ndarray:
        """The radiograph as uint8 gray levels of shape (height, width), ready for `plt.imshow`."""
        return read_gray(self.catalog().image_path(image_id))

    @cached_property
    def _cleaned(self) -> pd.DataFrame:
        key = json.dumps([_CLEANING_VERSION, sha256_of_file(self.csv_path), self.filters], sort_keys=True)
        path = cache_folder() / f"chexpert-{hashlib.sha256(key.encode()).hexdigest()[:24]}.parquet"
        if self.cache and path.is_file():
            try:
                return pd.read_parquet(path)
            except (OSError, ValueError):
                path.unlink(missing_ok=True)  # damaged: clean again below
        table = clean(self.csv_path, **self.filters)
        if self.cache:
            try:
                with replacing(path) as partial:
                    table.to_parquet(partial)
            except OSError:
                pass  # without a cache, the table is cleaned again next time
        return table


#: Its keyword arguments are the filters of `open_catalog`.
FILTERS_OF = CleanMetaData


def open_catalog(root: Path, **filters: Any) -> Catalog:
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
    expected = "is not a CheXpert path: expected .../train/patientNNNNN/studyN/viewN_frontal.jpg"
    raw.check("Path", parts[0].notna(), expected)
    raw.check_unique("Path", parts[0].duplicated())
    raw.check("Frontal/Lateral", raw["Frontal/Lateral"].isin(_VIEWS), "is not Frontal or Lateral")
    raw.check("AP/PA", raw["AP/PA"].isin(_ORIENTATIONS), "is not AP, PA, LL, RL or blank")
    codes = label_codes(raw)
    # Everything but a positive counts as negative, until a label policy decides otherwise.
    binary = (codes == 1).astype("float64")
    features = feature_table(
        patients=parts[1].astype("int64"),
        studies=parts[2].astype("int64"),
        ages=raw.whole_numbers("Age", "an age in years"),
        male=raw.map("Sex", {"Male": 1, "Female": 0, "Unknown": 0}),
        sex_unknown=(raw["Sex"] == "Unknown").astype("int64"),
        pa=(raw["AP/PA"] == "PA").astype("int64"),
        devices=binary["Support_Devices"],
        image_paths=parts[0],
    )
    targets = list(CHEXPERT_TARGETS)
    table = pd.concat([features, binary[targets], codes[targets].add_prefix(_CODE)], axis="columns")
    kept = raw["Frontal/Lateral"].isin(views) & raw["AP/PA"].isin(orientations)
    if max_studies is not None:
        kept &= table["StudyID"] <= max_studies
    check_some_left(kept, csv_path, views=views, orientations=orientations, max_studies=max_studies)
    return table[kept]


def label_codes(raw: CsvTable) -> pd.DataFrame:
    """The codes of the 14 findings, one column each: 1.0, 0.0, -1.0 or NaN."""
    columns = {finding: raw.map(column, CODES) for finding, column in LABEL_COLUMNS.items()}
    return pd.DataFrame(columns).astype("float64").rename_axis("ImageID")


def _data_folder(root: Path) -> Path:
    """`root` itself if it holds the index, else CheXpert's own folder in it."""
    folders = (root, *(root / name for name in FOLDER_NAMES))
    return next((path for path in folders if any((path / name).is_file() for name in INDEX_NAMES)), root)


def _find_index(root: Path | None, csv_path: str | Path | None) -> Path:
    if csv_path is None:
        if root is None:
            raise HilumError("CleanMetaData needs root (the data set's folder) or csv_path (its train.csv).")
        return first_file(root, INDEX_NAMES, "CheXpert")
    if not isinstance(csv_path, str | Path):
        raise HilumError(f"csv_path must be the path of CheXpert's train.csv; it is {csv_path!r}.")
    if root is not None and not root.is_dir():
        raise HilumError(f"{root}: there is no such folder. root must be the folder of the images.")
    if not Path(csv_path).is_file():
        raise HilumError(f"{csv_path}: there is no such file. csv_path must be CheXpert's train.csv.")
    return Path(csv_path)
