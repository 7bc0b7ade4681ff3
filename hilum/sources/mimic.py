"""MIMIC-CXR-JPG: 377,110 chest radiographs of 65,379 patients, 14 findings read from the reports.

From the Beth Israel Deaconess Medical Center, 2011 to 2016. CheXpert's labeller read the reports of 227,827 studies: 1
positive, 0 negative, -1 uncertain, blank not mentioned; all images of a study have its labels. The official split
(train, validate, test) keeps patients apart. Age and sex are not in MIMIC-CXR-JPG (they are in MIMIC-IV), and study
numbers are not in the order of time.

Johnson AEW, Pollard TJ, Greenbaum NR, et al. "MIMIC-CXR-JPG, a large publicly available database of labeled chest
radiographs". arXiv 1901.07042 (2019). From physionet.org/content/mimic-cxr-jpg, for credentialed users under an
agreement that forbids passing the data on.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hilum.errors import HilumError
from hilum.sources._csv import CsvTable, first_file, read_csv
from hilum.sources.catalog import Catalog, check_choices, check_some_left, feature_table
from hilum.sources.chexpert import LABEL_COLUMNS, label_codes
from hilum.targets import CHEXPERT_TARGETS

_EDITIONS = ("2.0.0", "2.1.0")
_PARTS = {"train": "train", "validate": "val", "test": "test"}
_LABELLERS = ("chexpert", "negbio")

#: All values of `ViewPosition`.
VIEWS = (
    *("AP", "PA", "LATERAL", "LL", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD", "LAO", "RAO", "LPO"),
    *("XTABLE LATERAL", "SWIMMERS", ""),
)


def open_catalog(root: Path, views: Sequence[str] = ("AP", "PA"), labeller: str = "chexpert") -> Catalog:
    """The images of these views with CheXpert's 12 targets, by its rule: positive is 1, all else 0.

    The raw codes stay in `Catalog.codes`, for the run's label policies. Images of studies without labels (about ten)
    are left out. `ImageID` is the row of the metadata file. The presence of the image files is not checked here: there
    are too many folders; `check_images` does.

    Args:
        root: the folder with `mimic-cxr-2.0.0-chexpert.csv` (or .csv.gz), the metadata and split files, and `files/`.
        views: values of `ViewPosition` to keep; "" is the blank one.
        labeller: whose label file to read, "chexpert" or "negbio".

    Raises:
        HilumError: a missing file or column, an unknown view, part or code, an image listed twice or
            without a part, a study with two lines of labels, or no image left.
    """
    check_choices("views", views, VIEWS)
    if labeller not in _LABELLERS:
        raise HilumError(f"labeller must be {' or '.join(_LABELLERS)}; it is {labeller!r}.")
    paths = [first_file(root, _file_names(kind), "MIMIC-CXR-JPG") for kind in (labeller, "metadata", "split")]
    labels_path, metadata_path, split_path = paths
    codes = _codes_of_studies(labels_path)
    raw = read_csv(metadata_path, ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    images = _images(raw).assign(part=_parts(split_path, raw))
    kept = images["view"].isin(list(views)) & images["study"].isin(codes.index)
    check_some_left(kept, metadata_path, views=list(views), labels=labeller)
    images = images[kept]
    codes = codes.loc[images["study"]].set_axis(images.index)
    binary = (codes == 1).astype("float64")
    table = feature_table(
        patients=images["patient"],
        studies=images["study"],
        pa=images["view"].str[:2].map({"PA": 1.0, "AP": 0.0}),
        devices=binary["Support_Devices"],
        image_paths=images["path"],
    )
    targets = CHEXPERT_TARGETS
    table, codes, parts = table.join(binary[list(targets)]), codes[list(targets)], images["part"]
    return Catalog("mimic", table, targets, root, origin=metadata_path, fixed_split=parts, codes=codes)


def _file_names(kind: str) -> list[str]:
    return [f"mimic-cxr-{edition}-{kind}.csv{packed}" for edition in _EDITIONS for packed in ("", ".gz")]


def _codes_of_studies(path: Path) -> pd.DataFrame:
    """Each finding's code, by study."""
    raw = read_csv(path, ("subject_id", "study_id", *LABEL_COLUMNS.values()))
    studies = raw.whole_numbers("study_id", "a study number")
    raw.check_unique("study_id", studies.duplicated())
    return label_codes(raw).set_axis(studies.to_numpy(), axis="index")


def _images(raw: CsvTable) -> pd.DataFrame:
    """patient, study, view and path of every image, in the metadata's order."""
    names, views = raw["dicom_id"], raw["ViewPosition"].str.strip()
    raw.check("dicom_id", names.str.fullmatch(r"[0-9a-f]+(-[0-9a-f]+)*"), "is not a dicom_id")
    raw.check_unique("dicom_id")
    raw.check("ViewPosition", views.isin(VIEWS), f"is not one of {', '.join(VIEWS[:-1])} or blank")
    patients = raw.whole_numbers("subject_id", "a patient number")
    studies = raw.whole_numbers("study_id", "a study number")
    patient = patients.astype("str")
    path = "files/p" + patient.str[:2] + "/p" + patient + "/s" + studies.astype("str") + "/" + names + ".jpg"
    images = pd.DataFrame({"patient": patients, "study": studies, "view": views, "path": path})
    return images.rename_axis("ImageID")


def _parts(split_path: Path, raw: CsvTable) -> pd.Series:
    """The part of every image, in the metadata's order."""
    split = read_csv(split_path, ("dicom_id", "split"))
    split.check_unique("dicom_id")
    parts = split.map("split", _PARTS).set_axis(split["dicom_id"])
    known = raw["dicom_id"].isin(parts.index)
    raw.check("dicom_id", known, f"has no part in {split_path.name}", "Take both from the same edition.")
    return raw["dicom_id"].map(parts)
