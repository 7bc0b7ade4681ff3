"""MIMIC-CXR-JPG: 377,110 chest radiographs of 65,379 patients, 14 findings read from the reports.

From the Beth Israel Deaconess Medical Center, 2011 to 2016. CheXpert's labeller read 227,827 studies'
reports: 1 positive, 0 negative, -1 uncertain, blank not mentioned; all images of a study have its
labels. The official split (train, validate, test) keeps patients apart. Age and sex are not in
MIMIC-CXR-JPG (they are in MIMIC-IV), and study numbers are in no order of time.

Johnson AEW, Pollard TJ, Greenbaum NR, et al. "MIMIC-CXR-JPG, a large publicly available database of
labeled chest radiographs". arXiv 1901.07042 (2019). From physionet.org/content/mimic-cxr-jpg, for
credentialed users under an agreement that forbids passing the data on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.sources.catalog import Catalog, hierarchical_paths
from hilum.sources.chexpert import CODES
from hilum.sources.csv import first_file, mapped, read_csv, refuse, whole_numbers
from hilum.targets import CHEXPERT_FINDINGS, CHEXPERT_TARGETS

_EDITIONS = ("2.0.0", "2.1.0")
_COLUMN_OF = {finding: finding.replace("_", " ") for finding in CHEXPERT_FINDINGS}
_PARTS = {"train": "train", "validate": "val", "test": "test"}
_LABELLERS = ("chexpert", "negbio")

#: All that `ViewPosition` holds.
VIEWS = (
    *("AP", "PA", "LATERAL", "LL", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD", "LAO", "RAO", "LPO"),
    *("XTABLE LATERAL", "SWIMMERS", ""),
)


def open_catalog(root: Path, views: Sequence[str] = ("AP", "PA"), labeller: str = "chexpert") -> Catalog:
    """The images of the views asked for, with CheXpert's 12 targets, by its rule: positive is 1, all else 0.

    The raw codes stay in `Catalog.codes`, for the run's label policies. Images of studies without
    labels (some ten) are left out. That the image files are there is not checked here: there are
    too many folders; `check_images` does. `ImageID` is the row of the metadata file.

    Args:
        root: the folder with `mimic-cxr-2.0.0-chexpert.csv` (or .csv.gz), the metadata and split files
            beside it, and `files/`.
        views: values of `ViewPosition` to keep; "" is the blank one.
        labeller: whose label file to read, "chexpert" or "negbio".

    Raises:
        HilumError: a missing file or column, an unknown view, part or code, an image listed twice or
            without a part, a study with two lines of labels, or no image left.
    """
    if not isinstance(views, list | tuple | set) or not views or not set(views) <= set(VIEWS):
        raise HilumError(f"views must be a list of {', '.join(map(repr, VIEWS))}; it is {views!r}.")
    if labeller not in _LABELLERS:
        raise HilumError(f"labeller must be {' or '.join(_LABELLERS)}; it is {labeller!r}.")
    labels_path, metadata_path, split_path = (_index(root, kind) for kind in (labeller, "metadata", "split"))
    codes = _codes_of_studies(labels_path)
    images = _images(metadata_path, split_path)
    keep = images["view"].isin(list(views)) & images["study"].isin(codes.index)
    if not keep.any():
        raise HilumError(
            f"{metadata_path}: no image with labels is left with views={list(views)}. Name other views."
        )
    images = images[keep]
    codes = codes.loc[images["study"]].set_axis(images.index)
    table = pd.DataFrame(
        {
            "PatientID": images["patient"],
            "StudyID": images["study"],
            "Age": np.nan,
            "Sex_Male": np.nan,
            "Sex_Unknown": np.nan,
            "Orientation_PA": images["view"].map(
                lambda view: float(view.startswith("PA")) if view[:2] in ("AP", "PA") else np.nan
            ),
            "Support Devices": (codes["Support_Devices"] == 1).astype("float64"),
            "Image_Path": images["path"],
            "Hierarchical_Path": hierarchical_paths(images.index.to_numpy()),
            **{target: (codes[target] == 1).astype("float64") for target in CHEXPERT_TARGETS},
        }
    )
    return Catalog(
        name="mimic",
        table=table,
        targets=CHEXPERT_TARGETS,
        root=root,
        origin=metadata_path,
        fixed_split=images["part"],
        codes=codes[list(CHEXPERT_TARGETS)],
    )


def _index(root: Path, kind: str) -> Path:
    names = [f"mimic-cxr-{edition}-{kind}.csv{packed}" for edition in _EDITIONS for packed in ("", ".gz")]
    return first_file(
        root, names, lambda names: f"root must be MIMIC-CXR-JPG's folder with {names.split(' or ')[0]}."
    )


def _codes_of_studies(path: Path) -> pd.DataFrame:
    """Each finding's code, by study."""
    raw = read_csv(path, ("subject_id", "study_id", *_COLUMN_OF.values()))
    studies = whole_numbers(path, raw["study_id"], "is no study number")
    refuse(
        path,
        raw["study_id"],
        studies.duplicated(),
        "has labels in an earlier line too",
        "Remove one of the two.",
    )
    codes = {
        finding: mapped(path, raw[column], CODES).astype("float64") for finding, column in _COLUMN_OF.items()
    }
    return pd.DataFrame(codes).set_axis(studies.to_numpy(), axis="index")


def _images(metadata_path: Path, split_path: Path) -> pd.DataFrame:
    """patient, study, view, part and path of every image, in the metadata's order."""
    raw = read_csv(metadata_path, ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    names = raw["dicom_id"]
    refuse(metadata_path, names, ~names.str.fullmatch(r"[0-9a-f]+(-[0-9a-f]+)*"), "is no dicom_id")
    refuse(
        metadata_path, names, names.duplicated(), "stands in an earlier line too", "Remove one of the two."
    )
    views = raw["ViewPosition"].str.strip()
    refuse(
        metadata_path,
        raw["ViewPosition"],
        ~views.isin(VIEWS),
        f"is no view; known are {', '.join(VIEWS[:-1])} or blank",
    )
    patients = whole_numbers(metadata_path, raw["subject_id"], "is no patient number").astype("str")
    studies = whole_numbers(metadata_path, raw["study_id"], "is no study number")
    images = pd.DataFrame(
        {
            "patient": patients.astype("int64"),
            "study": studies,
            "view": views,
            "part": _parts(split_path, metadata_path, names),
            "path": "files/p"
            + patients.str[:2]
            + "/p"
            + patients
            + "/s"
            + studies.astype("str")
            + "/"
            + names
            + ".jpg",
        }
    )
    images.index.name = "ImageID"
    return images


def _parts(split_path: Path, metadata_path: Path, names: pd.Series) -> pd.Series:
    raw = read_csv(split_path, ("dicom_id", "split"))
    refuse(
        split_path,
        raw["dicom_id"],
        raw["dicom_id"].duplicated(),
        "stands in an earlier line too",
        "Remove one of the two.",
    )
    parts = mapped(split_path, raw["split"], _PARTS).set_axis(raw["dicom_id"])
    refuse(
        metadata_path,
        names,
        ~names.isin(parts.index),
        f"has no part in {split_path.name}",
        "Take both files from the same edition.",
    )
    return names.map(parts)
