"""VinDr-CXR: 18,000 frontal (PA) radiographs with 27 findings marked by radiologists.

From Hospital 108 and Hanoi Medical University Hospital, 2018 to 2020. Each of the 15,000 training images was read by
three of 17 radiologists, alone; each of the 3,000 test images by a consensus of five. No patient is recorded: each
image counts as its own patient, so nobody can check that the parts share none. Age and sex are not in the index (some
DICOM headers have them).

Nguyen HQ, Lam K, Le LT, et al. "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations". Scientific
Data 2022, 9:429. From physionet.org/content/vindr-cxr, for credentialed users under an agreement that forbids passing
the data on.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.sources._csv import CsvTable, first_file, first_present, read_csv
from hilum.sources.catalog import Catalog, feature_table
from hilum.targets import VINDR_TARGETS, canonical_target

_READERS = 3

#: The columns of the index, by target. `Other_Disease` has another name in each part, and `Fracture` combines two.
COLUMN_OF = {
    canonical_target(column): column
    for column in (
        *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture"),
        *("Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity"),
        *("Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass", "Pleural effusion"),
        *("Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD"),
        *("Lung tumor", "Pneumonia", "Tuberculosis"),
    )
}
_OTHER = ("Other disease", "Other diseases")
_LABEL = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0}
_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg")


def open_catalog(root: Path, agreement: int = 2) -> Catalog:
    """All images, with the official test part fixed; `Fracture` is a fracture of a rib or a clavicle.

    Args:
        root: the folder with `train/` and `test/` and the labels, `image_labels_train.csv` and `image_labels_test.csv`
            (or `train.csv` and `test.csv`), in `annotations/` or in the folder itself. The images may be the DICOM
            files, or PNG or JPEG files converted from them.
        agreement: how many of a training image's three radiologists must have marked a finding, 1 to 3.

    Raises:
        HilumError: a missing file, column or image, a label that is not 0 or 1, an image or reader listed twice, or a
            training image that three have not read.
    """
    if type(agreement) is not int or not 1 <= agreement <= _READERS:
        raise HilumError(f"agreement must be 1, 2 or 3 of the three radiologists; it is {agreement!r}.")
    findings, paths = {}, {}
    for part in ("train", "test"):
        names = (f"annotations/image_labels_{part}.csv", f"image_labels_{part}.csv", f"{part}.csv")
        raw = read_csv(first_file(root, names, "VinDr-CXR"))
        marks = _marks(raw, ("image_id", "rad_id") if part == "train" else ("image_id",))
        findings[part] = _majority(raw, marks, agreement) if part == "train" else _consensus(raw, marks)
        paths[part] = _image_paths(root, raw, part, findings[part].index)
    labels = pd.concat(findings.values())
    labels["Fracture"] = labels[["Clavicle_Fracture", "Rib_Fracture"]].max(axis=1)
    images = pd.concat(paths.values(), ignore_index=True)
    table = feature_table(patients=labels.index.to_numpy(), pa=1, image_paths=images, keep_extensions=True)
    table = table.join(labels[list(VINDR_TARGETS)].set_axis(table.index))
    parts = np.repeat(["train_val", "test"], [len(findings["train"]), len(findings["test"])])
    fixed = pd.Series(parts, index=table.index, dtype=object)
    return Catalog("vindr", table, VINDR_TARGETS, root, origin=root, fixed_split=fixed)


def _marks(raw: CsvTable, ids: tuple[str, ...]) -> pd.DataFrame:
    """Each target's 1.0 or 0.0 in the rows of an index with these id columns."""
    other = next((name for name in _OTHER if name in raw.cells.columns), _OTHER[0])
    columns = COLUMN_OF | {"Other_Disease": other, "No_Finding": "No finding"}
    for name in (*ids, *columns.values()):
        if name not in raw.cells.columns:
            raise HilumError(
                f"{raw.path}: the column {name!r} is missing. Take the image labels (one line per image and "
                "radiologist), not the boxes."
            )
    marks = pd.DataFrame({target: raw.map(name, _LABEL) for target, name in columns.items()})
    both = (marks.pop("No_Finding") == 1) & (marks == 1).any(axis=1)
    raw.check("No finding", ~both, "is marked together with a finding")
    return marks


def _majority(raw: CsvTable, marks: pd.DataFrame, agreement: int) -> pd.DataFrame:
    """1.0 where enough radiologists marked the finding, by image in the order of the index."""
    first = ~raw.cells.duplicated(["image_id", "rad_id"])
    again = "has this radiologist also in an earlier line"
    raw.check("image_id", first, again, "Remove one of the two lines.")
    readers = raw.cells.groupby("image_id")["rad_id"].transform("size")
    raw.check("image_id", readers == _READERS, f"does not have the lines of {_READERS} radiologists")
    return (marks.groupby(raw["image_id"], sort=False).sum() >= agreement).astype("float64")


def _consensus(raw: CsvTable, marks: pd.DataFrame) -> pd.DataFrame:
    raw.check_unique("image_id")
    return marks.set_axis(pd.Index(raw["image_id"]), axis="index")


def _image_paths(root: Path, raw: CsvTable, part: str, names: pd.Index) -> pd.Series:
    """The path of each image, by its name; any file type will do."""
    stems = f"{part}/" + names.to_series()
    paths = first_present(root, [stems + suffix for suffix in _SUFFIXES])
    raw.check_present("image_id", raw["image_id"].map(paths) != "", root / part)
    return paths
