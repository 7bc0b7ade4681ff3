"""VinDr-CXR: 18,000 frontal (PA) radiographs with 27 findings marked by radiologists.

From Hospital 108 and Hanoi Medical University Hospital, 2018 to 2020. Each of the 15,000 training images
was read by three of 17 radiologists, alone; each of the 3,000 test images by a consensus of five. No
patient is recorded: each image counts as a patient of its own, so nobody can check that the parts share
none. Age and sex are not in the index (some DICOM headers have them).

Nguyen HQ, Lam K, Le LT, et al. "VinDr-CXR: An open dataset of chest X-rays with radiologist's
annotations". Scientific Data 2022, 9:429. From physionet.org/content/vindr-cxr, for credentialed users
under an agreement that forbids passing the data on.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.sources.catalog import Catalog, extensions_of, hierarchical_paths
from hilum.sources.csv import mapped, read_csv, refuse
from hilum.sources.images import absent
from hilum.targets import VINDR_TARGETS

_READERS = 3

#: The columns of the index, and the names used here. The last of the targets is made of two of them.
COLUMN_OF = {
    "Aortic_Enlargement": "Aortic enlargement",
    "Atelectasis": "Atelectasis",
    "Calcification": "Calcification",
    "Cardiomegaly": "Cardiomegaly",
    "Clavicle_Fracture": "Clavicle fracture",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Emphysema": "Emphysema",
    "Enlarged_Pulmonary_Artery": "Enlarged PA",
    "ILD": "ILD",
    "Infiltration": "Infiltration",
    "Lung_Opacity": "Lung Opacity",
    "Lung_Cavity": "Lung cavity",
    "Lung_Cyst": "Lung cyst",
    "Mediastinal_Shift": "Mediastinal shift",
    "Nodule_Mass": "Nodule/Mass",
    "Pleural_Effusion": "Pleural effusion",
    "Pleural_Thickening": "Pleural thickening",
    "Pneumothorax": "Pneumothorax",
    "Fibrosis": "Pulmonary fibrosis",
    "Rib_Fracture": "Rib fracture",
    "Other_Lesion": "Other lesion",
    "COPD": "COPD",
    "Lung_Tumor": "Lung tumor",
    "Pneumonia": "Pneumonia",
    "Tuberculosis": "Tuberculosis",
}
_OTHER = ("Other disease", "Other diseases")
_FRACTURES = ("Clavicle_Fracture", "Rib_Fracture")
_LABEL = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0}
_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg")


def open_catalog(root: Path, agreement: int = 2) -> Catalog:
    """All images, with the official test part fixed; `Fracture` is a fracture of rib or clavicle.

    Args:
        root: the folder with `train/` and `test/` and the labels, `image_labels_train.csv` and
            `image_labels_test.csv` in `annotations/` or beside them (`train.csv` and `test.csv` do too).
            The images may be the DICOM files, or PNG or JPEG files made of them.
        agreement: how many of a training image's three radiologists must have marked a finding, 1 to 3.

    Raises:
        HilumError: a missing file, column or image, a label that is not 0 or 1, an image or reader
            listed twice, or a training image that three have not read.
    """
    if type(agreement) is not int or not 1 <= agreement <= _READERS:
        raise HilumError(f"agreement must be 1, 2 or 3 of the three radiologists; it is {agreement!r}.")
    labels, paths = {}, {}
    for part in ("train", "test"):
        csv_path = _find_labels(root, part)
        raw, marks = _marks(csv_path)
        labels[part] = (
            _votes(csv_path, raw, marks, agreement) if part == "train" else _consensus(csv_path, raw, marks)
        )
        paths[part] = _locate(root, csv_path, raw, part, labels[part].index)
    findings = pd.concat(labels.values())
    names = findings.index.to_series()
    findings = findings.reset_index(drop=True)
    findings["Fracture"] = findings[list(_FRACTURES)].max(axis=1)
    image_paths = [*paths["train"], *paths["test"]]
    endings = extensions_of(image_paths)
    table = pd.DataFrame(
        {
            "PatientID": names.to_numpy(),
            "StudyID": np.nan,
            "Age": np.nan,
            "Sex_Male": np.nan,
            "Sex_Unknown": np.nan,
            "Orientation_PA": 1,
            "Support Devices": np.nan,
            "Image_Path": image_paths,
            "Hierarchical_Path": hierarchical_paths(np.arange(len(findings)), extensions=endings),
        }
    ).join(findings[list(VINDR_TARGETS)])
    table.index.name = "ImageID"
    parts = np.repeat(["train_val", "test"], [len(labels["train"]), len(labels["test"])])
    return Catalog(
        name="vindr",
        table=table,
        targets=VINDR_TARGETS,
        root=root,
        origin=root,
        fixed_split=pd.Series(parts, index=table.index, dtype=object),
    )


def _find_labels(root: Path, part: str) -> Path:
    names = (f"annotations/image_labels_{part}.csv", f"image_labels_{part}.csv", f"{part}.csv")
    for name in names:
        if (root / name).is_file():
            return root / name
    raise HilumError(f"{root}: none of {', '.join(names)} is there. root must be VinDr-CXR's folder.")


def _marks(csv_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The index, and each target's 1.0 or 0.0 in its rows."""
    raw = read_csv(csv_path)
    other = next((name for name in _OTHER if name in raw.columns), _OTHER[0])
    columns = COLUMN_OF | {"Other_Disease": other, "No_Finding": "No finding"}
    for name in ("image_id", *columns.values()):
        if name not in raw.columns:
            raise HilumError(
                f"{csv_path}: the column {name!r} is missing. Take the image labels (one line per image and "
                "radiologist), not the boxes."
            )
    marks = pd.DataFrame({target: mapped(csv_path, raw[name], _LABEL) for target, name in columns.items()})
    both = (marks.pop("No_Finding") == 1) & (marks == 1).any(axis=1)
    refuse(csv_path, raw["No finding"], both, "stands beside a finding")
    return raw, marks


def _votes(csv_path: Path, raw: pd.DataFrame, marks: pd.DataFrame, agreement: int) -> pd.DataFrame:
    """1.0 where enough radiologists marked the finding, by image in the order of the index."""
    if "rad_id" not in raw.columns:
        raise HilumError(f"{csv_path}: the column 'rad_id' is missing, which tells the radiologists apart.")
    again = raw.duplicated(["image_id", "rad_id"])
    refuse(
        csv_path,
        raw["image_id"],
        again,
        "has this radiologist in an earlier line too",
        "Remove one of the two.",
    )
    readers = raw.groupby("image_id")["rad_id"].transform("size")
    refuse(csv_path, raw["image_id"], readers != _READERS, f"has not {_READERS} radiologists' lines")
    return (marks.groupby(raw["image_id"], sort=False).sum() >= agreement).astype("float64")


def _consensus(csv_path: Path, raw: pd.DataFrame, marks: pd.DataFrame) -> pd.DataFrame:
    names = raw["image_id"]
    refuse(csv_path, names, names.duplicated(), "stands in an earlier line too", "Remove one of the two.")
    return marks.set_axis(pd.Index(names), axis="index")


def _locate(root: Path, csv_path: Path, raw: pd.DataFrame, part: str, names: pd.Index) -> list[str]:
    """Each image's path below `root`, whatever its kind."""
    found = pd.Series("", index=names, dtype=object)
    for suffix in _SUFFIXES:
        open_names = found.index[found == ""]
        candidates = [f"{part}/{name}{suffix}" for name in open_names]
        for name, path, gone in zip(open_names, candidates, absent(root, candidates), strict=True):
            if not gone:
                found[name] = path
    refuse(
        csv_path,
        raw["image_id"],
        raw["image_id"].map(found) == "",
        f"is not in {root / part}",
        "Complete the download, or remove its lines.",
    )
    return found.tolist()
