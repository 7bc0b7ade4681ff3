"""Any images with a CSV: the way in for a data set that has no module of its own.

One line per image: a column with its path below the root, and one column per target with 1 (positive),
0 (negative), blank (left out of the loss and of the scores) or -1 (uncertain; see `uncertain`). PNG,
JPEG and DICOM files may stand side by side. Cite the data set that the images come from.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.sources.catalog import Catalog, extensions_of, hierarchical_paths
from hilum.sources.csv import mapped, read_csv, refuse
from hilum.sources.images import absent, checked_window
from hilum.targets import canonical_target

#: By which names (without case, spaces, dashes and underscores) a column is found if it is not named.
KNOWN_NAMES = {
    "path": ("imagepath", "path", "filepath", "image", "filename", "file", "imageindex"),
    "patient": ("patientid", "patient", "subjectid", "subject"),
    "study": ("studyid", "study"),
    "age": ("age", "patientage"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "view": ("view", "viewposition", "orientation", "appa"),
    "split": ("split", "part"),
}

#: Columns that are no targets, though they may hold 1 and 0: the known ones, and those of a Catalog.
_NO_TARGETS = {
    *(name for names in KNOWN_NAMES.values() for name in names),
    *(
        "imageid",
        "sexmale",
        "sexunknown",
        "orientationpa",
        "supportdevices",
        "hierarchicalpath",
        "source",
        "",
    ),
}

_CODES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": np.nan}
_UNCERTAIN = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan, "policy": -1.0}
_SEXES = {
    **dict.fromkeys(("M", "m", "Male", "male"), 1),
    **dict.fromkeys(("F", "f", "Female", "female"), 0),
    **dict.fromkeys(("", "O", "U", "Unknown", "unknown"), None),
}
_VIEWS = {"PA": 1.0, "AP": 0.0, "": np.nan, "LL": np.nan, "RL": np.nan, "L": np.nan, "LATERAL": np.nan}
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("train_val", ""), "train_val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class NoPatientsWarning(UserWarning):
    """The data set does not say which images are of one patient, so no split can keep patients apart."""


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

    A column that is not named is found by its name (`KNOWN_NAMES`); "" says that there is none.
    Without a patient column each image counts as a patient of its own, with a warning.

    Args:
        root: the folder that the paths are relative to.
        csv: the index, relative to root; if left out, labels.csv or the only CSV there.
        path_column: of the images' paths.
        targets: the target columns; if left out, every other column that holds only 1, 0, -1 and blanks,
            and some 1 or 0.
        patient_column: any text that tells patients apart.
        study_column: any text.
        age_column: years, blank where unknown.
        sex_column: M, F, Male, Female, or O, U, Unknown or blank.
        view_column: PA, AP, a lateral view (LL, RL, L, LATERAL), or blank.
        split_column: train, val, test, or train_val or blank for what is to be drawn.
        uncertain: what -1 means: "zeros", "ones", "ignore" (left out), or "policy" (uncertain and blank
            are as uncertain_policy and blank_policy of the run say, as for CheXpert).
        window: [low, high], the samples of 16-bit images that become black and white, such as
            [0, 4095] for 12 bits; the full range if left out. Of a DICOM it replaces the header's window.

    Raises:
        HilumError: a missing file, column or image, an image listed twice, a value that none of the
            above allows, or -1 without `uncertain`.
    """
    csv_path = _find_csv(root, csv)
    raw = read_csv(csv_path)
    header = list(raw.columns)
    columns = {
        "path": path_column,
        "patient": patient_column,
        "study": study_column,
        "age": age_column,
        "sex": sex_column,
        "view": view_column,
        "split": split_column,
    }
    columns = {role: _find_column(csv_path, header, role, name) for role, name in columns.items()}
    if columns["path"] is None:
        raise HilumError(
            f"{csv_path}: no column tells the images' paths. Name it with path_column; its columns are "
            f"{', '.join(header)}."
        )
    if uncertain is not None and uncertain not in _UNCERTAIN:
        raise HilumError(f"uncertain must be {', '.join(_UNCERTAIN)} or left out; it is {uncertain!r}.")
    names = _target_columns(csv_path, raw, targets, {name for name in columns.values() if name})
    labels = _labels(csv_path, raw, names, uncertain)
    table = _features(root, csv_path, raw, columns)
    if window is not None:
        low, high = checked_window(window, "window")
        table["Image_Path"] += f"#window={low:g},{high:g}"
    binary = labels if uncertain != "policy" else (labels == 1).astype("float64")
    split = columns["split"]
    return Catalog(
        name="folder",
        table=table.join(binary),
        targets=tuple(labels.columns),
        root=root,
        origin=csv_path,
        fixed_split=None if split is None else mapped(csv_path, raw[split].str.lower(), _PARTS),
        codes=labels if uncertain == "policy" else None,
    )


def _find_csv(root: Path, csv: str | None) -> Path:
    if not root.is_dir():
        raise HilumError(f"{root}: there is no such folder. root must be the folder of the images.")
    if csv is not None:
        return root / csv
    found = [root / "labels.csv"] if (root / "labels.csv").is_file() else sorted(root.glob("*.csv"))
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise HilumError(
            f"{root}: expected labels.csv or a single CSV there; there is {there}. Name the index with "
            'source_kwargs csv, such as {csv = "train.csv"}.'
        )
    return found[0]


def _fold(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _find_column(csv_path: Path, header: list[str], role: str, name: str | None) -> str | None:
    """The column named, or the first that is called what such columns are called."""
    if name == "":
        return None
    if name is not None:
        if name not in header:
            raise HilumError(
                f"{csv_path}: the column {name!r} is missing, which {role}_column names.{nearest(name, header)} "
                f"Its columns are {', '.join(header)}."
            )
        return name
    by_fold = {_fold(column): column for column in reversed(header)}
    return next((by_fold[known] for known in KNOWN_NAMES[role] if known in by_fold), None)


def _target_columns(
    csv_path: Path, raw: pd.DataFrame, given: Sequence[str] | None, taken: set[str]
) -> list[str]:
    if given is None:
        codes = {*_CODES, "-1", "-1.0"}
        found = [
            name
            for name in raw.columns
            if name not in taken
            and _fold(name) not in _NO_TARGETS
            and set(raw[name]) <= codes
            and not set(raw[name]) <= {"", "-1", "-1.0"}
        ]
        if not found:
            raise HilumError(
                f"{csv_path}: no column holds only 1, 0, -1 and blanks. Name the target columns with targets."
            )
        return found
    if isinstance(given, str) or not given:
        raise HilumError(f"targets must be a list of columns; it is {given!r}.")
    for name in given:
        if name not in raw.columns:
            raise HilumError(
                f"{csv_path}: the target column {name!r} is missing.{nearest(name, raw.columns)} "
                f"Its columns are {', '.join(raw.columns)}."
            )
    return list(given)


def _labels(csv_path: Path, raw: pd.DataFrame, names: list[str], uncertain: str | None) -> pd.DataFrame:
    """Named by the findings' own names where they are known; 1, 0, NaN, or -1 where a policy decides."""
    codes = _CODES | ({} if uncertain is None else dict.fromkeys(("-1", "-1.0"), _UNCERTAIN[uncertain]))
    labels: dict[str, pd.Series] = {}
    for name in names:
        if uncertain is None:
            refuse(
                csv_path,
                raw[name],
                raw[name].isin(["-1", "-1.0"]),
                "is uncertain",
                'Say what that means with uncertain: "zeros", "ones", "ignore" or "policy".',
            )
        target = canonical_target(name)
        if target in labels:
            raise HilumError(
                f"{csv_path}: the target {target} has two columns, {name!r} the second. Name one."
            )
        labels[target] = mapped(csv_path, raw[name], codes).astype("float64")
    return pd.DataFrame(labels)


def _features(root: Path, csv_path: Path, raw: pd.DataFrame, columns: dict[str, str | None]) -> pd.DataFrame:
    paths = raw[columns["path"]].str.replace("\\", "/").str.removeprefix("./")
    outside = paths.str.startswith(("/", "../")) | paths.str.contains("/../", regex=False) | (paths == "")
    refuse(csv_path, paths, outside, "is no path below root", "Give each path relative to root.")
    refuse(
        csv_path, paths, paths.duplicated(), "stands in an earlier line too", "Remove one of the two lines."
    )
    refuse(
        csv_path,
        paths,
        pd.Series(absent(root, paths)),
        f"is not in {root}",
        "Bring the missing images, or remove their lines.",
    )

    def column(role: str) -> pd.Series | None:
        return None if columns[role] is None else raw[columns[role]]

    patients, studies, sexes, views = column("patient"), column("study"), column("sex"), column("view")
    if patients is None:
        warnings.warn(
            f"{csv_path}: no column tells the patients (patient_column), so each image counts as a patient of its "
            "own: a split cannot keep a patient's images on one side, and scores may be too good.",
            NoPatientsWarning,
            stacklevel=4,
        )
    else:
        refuse(
            csv_path, patients, patients == "", "is no patient", "The split keeps patients apart: name each."
        )
    known_sex = None if sexes is None else mapped(csv_path, sexes, _SEXES).astype("float64")
    table = pd.DataFrame(
        {
            "PatientID": np.arange(len(raw)) if patients is None else patients.astype("str"),
            "StudyID": np.nan if studies is None else studies.astype("str"),
            "Age": _ages(csv_path, column("age")),
            "Sex_Male": np.nan if known_sex is None else known_sex.fillna(0),
            "Sex_Unknown": np.nan if known_sex is None else known_sex.isna().astype("float64"),
            "Orientation_PA": np.nan if views is None else mapped(csv_path, views.str.upper(), _VIEWS),
            "Support Devices": np.nan,
            "Image_Path": paths.astype("str"),
            "Hierarchical_Path": hierarchical_paths(np.arange(len(raw)), extensions=extensions_of(paths)),
        }
    )
    table.index.name = "ImageID"
    return table


def _ages(csv_path: Path, ages: pd.Series | None) -> pd.Series | float:
    if ages is None:
        return np.nan
    refuse(csv_path, ages, ~ages.str.fullmatch(r"(\d{1,3}(\.\d*)?)?"), "is no age in years")
    return pd.to_numeric(ages)
