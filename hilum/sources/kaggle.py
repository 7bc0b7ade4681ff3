"""Kaggle's "Chest X-Ray Images (Pneumonia)": 5,856 frontal (AP) radiographs of children aged 1 to 5.

From the Guangzhou Women and Children's Medical Center. 4,273 show a pneumonia, bacterial or viral, and 1,583 are
normal: 5,216 in train, 16 in val, 624 in test. Two physicians graded each image, and a third checked the test part.
Neither age nor sex nor study is recorded.

Kermany DS, Goldbaum M, Cai W, et al. "Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep
Learning". Cell 2018, 172(5), 1122-1131. The data: Kermany D, Zhang K, Goldbaum M, Mendeley Data, doi
10.17632/rscbjbr9sj (CC BY 4.0), and kaggle.com/paultimothymooney/chest-xray-pneumonia.
"""

from pathlib import Path

import pandas as pd

from hilum.errors import HilumError
from hilum.sources.catalog import Catalog, feature_table

PARTS = ("train", "val", "test")
_CLASSES = ("NORMAL", "PNEUMONIA")
_SUFFIXES = (".jpeg", ".jpg", ".png")

#: The patient, and the cause of a pneumonia, in a file's name: Kaggle's edition, then Mendeley's.
_NAMES = (
    r"(?P<patient>person\d+)_(?P<cause>bacteria|virus)_\d+",
    r"(?P<patient>(?:NORMAL2-)?IM-\d+)-\d+(?:-\d+)?",
    r"(?P<patient>(?:(?P<cause>BACTERIA|VIRUS)|NORMAL)-\d+)-\d+",
)
_CAUSES = {"Bacterial_Pneumonia": "bacteria", "Viral_Pneumonia": "virus"}


def open_catalog(root: Path, official_val: bool = False, causes: bool = False) -> Catalog:
    """All images, with the test part fixed.

    The patient is read from the file's name: `person123_bacteria_456.jpeg` is of person123, `NORMAL2-IM-0927-0001.jpeg`
    of NORMAL2-IM-0927. A person with a bacterial and a viral image counts as one patient. The test part numbers its
    patients independently: a PatientID there has the prefix `test-`. Train and val are numbered together.

    Args:
        root: the folder `chest_xray`, or the one around it.
        official_val: keep the 16 images of val as the validation part; else they join train, and the validation part is
            drawn from both by patient. (val shares patients with train, so a split by patient raises an error.)
        causes: two more targets, `Bacterial_Pneumonia` and `Viral_Pneumonia`.

    Raises:
        HilumError: a folder is missing or has no image, a name has no patient, or the name of a pneumonia image is in
            the folder of the normal ones or the other way round.
    """
    folder = _data_folder(root)
    files = pd.DataFrame(
        [(part, kind, name) for part in PARTS for kind in _CLASSES for name in _images(folder / part / kind)],
        columns=["part", "kind", "name"],
    )
    patients, cause = _read_names(folder, files)
    table = feature_table(
        patients=patients.where(files["part"] != "test", "test-" + patients),
        pa=0,
        image_paths=files["part"] + "/" + files["kind"] + "/" + files["name"],
    )
    labels = {"Pneumonia": files["kind"] == "PNEUMONIA"}
    if causes:
        labels |= {target: cause == word for target, word in _CAUSES.items()}
    parts = files["part"] if official_val else files["part"].where(files["part"] == "test", "train_val")
    table = table.join(pd.DataFrame(labels).astype("float64"))
    return Catalog("kaggle", table, tuple(labels), folder, origin=folder, fixed_split=parts)


def _data_folder(root: Path) -> Path:
    """The folder with train, val and test: `root`, or a chest_xray in it, which some archives nest twice."""
    for folder in (root, root / "chest_xray", root / "chest_xray" / "chest_xray"):
        if all((folder / part).is_dir() for part in ("train", "test")):
            return folder
    problem = f"{root}: the folders train and test are neither there nor in its chest_xray."
    raise HilumError(f"{problem} root must be the folder chest_xray of the Kermany pneumonia data set.")


def _images(folder: Path) -> list[str]:
    """The images of a class in order; Mendeley's edition has no val."""
    if not folder.is_dir():
        if folder.parent.name == "val" and not folder.parent.is_dir():
            return []
        raise HilumError(f"{folder}: there is no such folder. Complete the download of the data set.")
    # Archives packed on a Mac have a `._name` for each file.
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    images = [name for name in names if name.lower().endswith(_SUFFIXES)]
    if not images:
        raise HilumError(f"{folder}: it contains no image. Complete the download of the data set.")
    return images


def _read_names(folder: Path, files: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Each file's patient, and the cause of its pneumonia in lower case (missing if not in the name)."""
    patients = pd.Series(None, index=files.index, dtype=object)
    cause = patients.copy()
    for pattern in _NAMES:
        found = files["name"].str.extract(rf"^{pattern}\.\w+$")
        patients = patients.fillna(found["patient"])
        if "cause" in found:
            cause = cause.fillna(found["cause"].str.lower())
    expected = (
        "Expected person<number>_<bacteria|virus>_<number>, IM-<number>-<number> or "
        "NORMAL2-IM-<number>-<number>; the split needs it to keep patients apart."
    )
    _check_files(folder, files, patients.notna(), "the name contains no patient", expected)
    placed = cause.notna() == (files["kind"] == "PNEUMONIA")
    problem = "the name and the folder disagree on whether this is a pneumonia"
    _check_files(folder, files, placed, problem, "Restore the folders from the data set.")
    return patients, cause


def _check_files(folder: Path, files: pd.DataFrame, valid: pd.Series, problem: str, remedy: str) -> None:
    if not valid.all():
        first = folder.joinpath(*files.loc[(~valid).idxmax(), ["part", "kind", "name"]])
        raise HilumError(f"{first}: {problem} ({int((~valid).sum()):,} such files). {remedy}")
