"""Any images with a CSV: for data sets without a module of their own.

One line per image: a column with its path below the root, and one column per target with 1 (positive), 0 (negative),
blank (left out of the loss and of the scores) or -1 (uncertain; see `uncertain`). PNG, JPEG and DICOM files may be
mixed. Cite the data set that the images come from.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.sources._csv import CsvTable, read_csv
from hilum.sources.catalog import Catalog, feature_table
from hilum.sources.images import are_missing, parse_window
from hilum.targets import canonical_target, fold_name

#: The names (without case, spaces, dashes and underscores) by which a column is found if it is not given.
KNOWN_NAMES = {
    "path": ("imagepath", "path", "filepath", "image", "filename", "file", "imageindex"),
    "patient": ("patientid", "patient", "subjectid", "subject"),
    "study": ("studyid", "study"),
    "age": ("age", "patientage"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "view": ("view", "viewposition", "orientation", "appa"),
    "split": ("split", "part"),
}

#: Columns that are not targets, though they may hold 1 and 0: the known ones, and those of a Catalog.
_NOT_TARGETS = {
    *(name for names in KNOWN_NAMES.values() for name in names),
    *("imageid", "sexmale", "sexunknown", "orientationpa", "supportdevices", "hierarchicalpath"),
    *("source", ""),
}

_CODES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": np.nan}
_UNCERTAIN_CODES = ("-1", "-1.0")
_UNCERTAIN = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan, "policy": -1.0}
_SEXES = {
    **dict.fromkeys(("M", "m", "Male", "male"), 1),
    **dict.fromkeys(("F", "f", "Female", "female"), 0),
    **dict.fromkeys(("", "O", "U", "Unknown", "unknown"), None),
}
_VIEWS = {"PA": 1.0, "AP": 0.0, **dict.fromkeys(("", "LL", "RL", "L", "LATERAL"), np.nan)}
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("train_val", ""), "train_val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class NoPatientsWarning(UserWarning):
    """The data set does not record which images are of one patient, so no split can keep patients apart."""


def open_catalog(
    root: Path,
    csv: str | None = None,
    path_column: str | None = None,
    targets: Sequence[str] | None = None,
    patient_column: str | None = None,
    study_column: str | None = None,
    age_column: str | None = None,
    sex_column: str | None = None,
    view_column: str | None = None,
    split_column: str | None = None,
    uncertain: str | None = None,
    window: Sequence[float] | None = None,
) -> Catalog:
    """The images that the CSV lists. `ImageID` is the line, counted from 0 after the header.

    A column that is not given is found by its name (`KNOWN_NAMES`); "" means that it does not exist. Without a patient
    column each image counts as its own patient, with a warning.

    Args:
        root: the folder that the paths are relative to.
        csv: the index, relative to root; by default labels.csv or the only CSV there.
        path_column: of the images' paths.
        targets: the target columns; by default all others that hold 1 or 0, and else only -1 and blanks.
        patient_column: any text that identifies the patient.
        study_column: any text.
        age_column: years, blank where unknown.
        sex_column: M, F, Male, Female, or O, U, Unknown or blank.
        view_column: PA, AP, a lateral view (LL, RL, L, LATERAL), or blank.
        split_column: train, val, test, or train_val or blank for images to be drawn into train and val.
        uncertain: the meaning of -1: "zeros", "ones", "ignore" (left out), or "policy" (uncertain and blank follow the
            run's uncertain_policy and blank_policy, as for CheXpert).
        window: [low, high], the samples of 16-bit images that become black and white, such as [0, 4095] for 12 bits; by
            default the full range. For a DICOM it replaces the header's window.

    Raises:
        HilumError: a missing file, column or image, an image listed twice, or a value other than these.
    """
    if uncertain is not None and uncertain not in _UNCERTAIN:
        raise HilumError(f"uncertain must be {', '.join(_UNCERTAIN)} or left out; it is {uncertain!r}.")
    raw = read_csv(_find_csv(root, csv))
    given = {"path": path_column, "patient": patient_column, "study": study_column, "age": age_column}
    given |= {"sex": sex_column, "view": view_column, "split": split_column}
    columns = {role: _find_column(raw, role, name) for role, name in given.items()}
    labels = _labels(raw, _target_columns(raw, targets, set(columns.values())), uncertain)
    table = _features(root, raw, columns)
    if window is not None:
        low, high = parse_window(window, "window")
        table["Image_Path"] += f"#window={low:g},{high:g}"
    by_policy = uncertain == "policy"
    table = table.join((labels == 1).astype("float64") if by_policy else labels)
    codes = labels if by_policy else None
    split = columns["split"]
    parts = None if split is None else raw.map(split, _PARTS, str.lower)
    return Catalog("folder", table, tuple(labels), root, origin=raw.path, fixed_split=parts, codes=codes)


def _find_csv(root: Path, csv: str | None) -> Path:
    if not root.is_dir():
        raise HilumError(f"{root}: there is no such folder. root must be the folder of the images.")
    if csv is not None:
        return root / csv
    found = [root / "labels.csv"] if (root / "labels.csv").is_file() else sorted(root.glob("*.csv"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise HilumError(
            f"{root}: expected labels.csv or a single CSV there; found {names}. Name the index with "
            'source_kwargs csv, such as {csv = "train.csv"}.'
        )
    return found[0]


def _check_column(raw: CsvTable, name: str, setting: str) -> None:
    header = list(raw.cells.columns)
    if name not in header:
        raise HilumError(
            f"{raw.path}: the column {name!r} of {setting} is missing.{nearest(name, header)} "
            f"Its columns are {', '.join(header)}."
        )


def _find_column(raw: CsvTable, role: str, name: str | None) -> str | None:
    """The given column, or the first one with a known name of this role."""
    if name:
        _check_column(raw, name, f"{role}_column")
        return name
    by_name = {fold_name(column): column for column in reversed(raw.cells.columns)}
    known = () if name == "" else KNOWN_NAMES[role]
    return next((by_name[other] for other in known if other in by_name), None)


def _target_columns(raw: CsvTable, given: Sequence[str] | None, others: set[str | None]) -> list[str]:
    if given is not None:
        if isinstance(given, str) or not given:
            raise HilumError(f"targets must be a list of columns; it is {given!r}.")
        for name in given:
            _check_column(raw, name, "targets")
        return list(given)
    found = []
    for name in raw.cells.columns:
        values = set(raw[name])
        candidate = name not in others and fold_name(name) not in _NOT_TARGETS
        if candidate and values <= {*_CODES, *_UNCERTAIN_CODES} and not values <= {"", *_UNCERTAIN_CODES}:
            found.append(name)
    if not found:
        raise HilumError(f"{raw.path}: no column holds only 1, 0, -1 and blanks. Name some in targets.")
    return found


def _labels(raw: CsvTable, names: list[str], uncertain: str | None) -> pd.DataFrame:
    """The targets, by their canonical names: 1, 0, NaN, or -1 where a policy decides."""
    codes = dict(_CODES)
    if uncertain is not None:
        codes |= dict.fromkeys(_UNCERTAIN_CODES, _UNCERTAIN[uncertain])
    labels: dict[str, pd.Series] = {}
    for name in names:
        if uncertain is None:
            remedy = 'Set its meaning with uncertain: "zeros", "ones", "ignore" or "policy".'
            raw.check(name, ~raw[name].isin(_UNCERTAIN_CODES), "is uncertain", remedy)
        target = canonical_target(name)
        if target in labels:
            raise HilumError(f"{raw.path}: the target {target} has two columns; the second is {name!r}.")
        labels[target] = raw.map(name, codes).astype("float64")
    return pd.DataFrame(labels)


def _features(root: Path, raw: CsvTable, columns: Mapping[str, str | None]) -> pd.DataFrame:
    paths = _image_paths(root, raw, columns["path"])
    patient, study, age, sex, view = (columns[role] for role in ("patient", "study", "age", "sex", "view"))
    if patient is None:
        warnings.warn(
            f"{raw.path}: no column identifies the patients (patient_column), so each image counts as its own "
            "patient: a split cannot keep a patient's images on one side, and scores may be too good.",
            NoPatientsWarning,
            stacklevel=4,
        )
    else:
        raw.check(patient, raw[patient] != "", "is not a patient", "Name each: the split keeps them apart.")
    male = None if sex is None else raw.map(sex, _SEXES).astype("float64")
    if age is not None:
        raw.check(age, raw[age].str.fullmatch(r"(\d{1,3}(\.\d*)?)?"), "is not an age in years")
    return feature_table(
        patients=np.arange(len(paths)) if patient is None else raw[patient].astype("str"),
        studies=np.nan if study is None else raw[study].astype("str"),
        ages=np.nan if age is None else pd.to_numeric(raw[age]),
        male=np.nan if male is None else male.fillna(0),
        sex_unknown=np.nan if male is None else male.isna().astype("float64"),
        pa=np.nan if view is None else raw.map(view, _VIEWS, str.upper),
        image_paths=paths,
        keep_extensions=True,
    )


def _image_paths(root: Path, raw: CsvTable, column: str | None) -> pd.Series:
    if column is None:
        raise HilumError(
            f"{raw.path}: no column holds the images' paths. Name it with path_column; its columns are "
            f"{', '.join(raw.cells.columns)}."
        )
    paths = raw[column].str.replace("\\", "/").str.removeprefix("./")
    outside = paths.str.startswith(("/", "../")) | paths.str.contains("/../", regex=False) | (paths == "")
    raw.check(column, ~outside, "is not a path below root", "Give each path relative to root.")
    raw.check_unique(column, paths.duplicated())
    raw.check_present(column, ~are_missing(root, paths), root)
    return paths
