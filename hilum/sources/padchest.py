"""PadChest: 160,861 chest radiographs of 67,625 patients, with 174 findings in a hierarchy.

From Hospital San Juan, Alicante, 2009 to 2017. Physicians labelled the reports of 39,053 images manually; a recurrent
network, trained on these, labelled the others. The images are 16-bit PNGs whose full range is the gray scale: the DICOM
window was applied when they were made, so none is applied here.

Bustos A, Pertusa A, Salinas JM, de la Iglesia-Vayá M. "PadChest: A large chest x-ray image dataset with multi-label
annotated reports". Medical Image Analysis 2020, 66:101797. From bimcv.cipf.es/bimcv-projects/padchest, for research,
under an agreement.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.sources._csv import CsvTable, first_file, first_present, read_csv
from hilum.sources.catalog import Catalog, check_choices, check_some_left, feature_table

_STEM = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
INDEX_NAMES = (_STEM, f"{_STEM}.gz")
_COLUMNS = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("Projection", "MethodLabel", "Labels"),
)

#: All values of `Projection`; the first three are frontal.
VIEWS = ("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE", "UNK")
METHODS = ("Physician", "RNN_model")

#: PadChest's labels that make each target positive: the finding and its descendants in the hierarchy.
FINDINGS = {
    "Atelectasis": (
        *("atelectasis", "laminar atelectasis", "lobar atelectasis", "segmental atelectasis"),
        *("total atelectasis", "round atelectasis", "atelectasis basal"),
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Pleural_Effusion": (
        *("pleural effusion", "loculated pleural effusion", "loculated fissural effusion"),
        "hydropneumothorax",
    ),
    "Infiltration": (
        *("infiltrates", "interstitial pattern", "ground glass pattern", "reticular interstitial pattern"),
        *("reticulonodular interstitial pattern", "miliary opacities", "alveolar pattern", "consolidation"),
        "air bronchogram",
    ),
    "Mass": ("mass", "pulmonary mass"),
    "Nodule": ("nodule", "multiple nodules"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Pleural_Thickening": ("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
    "Hernia": ("hiatal hernia",),
    "Fracture": (
        *("fracture", "rib fracture", "callus rib fracture", "clavicle fracture", "humeral fracture"),
        "vertebral fracture",
    ),
}

#: Labels of the feature `Support Devices`.
DEVICES = (
    *("NSG tube", "endotracheal tube", "tracheostomy tube", "chest drain tube", "gastrostomy tube"),
    *("nephrostomy tube", "ventriculoperitoneal drain tube", "catheter", "central venous catheter"),
    *("central venous catheter via jugular vein", "central venous catheter via subclavian vein"),
    *("central venous catheter via umbilical vein", "reservoir central venous catheter"),
    *("pacemaker", "dual chamber device", "single chamber device", "dai", "electrical device"),
)

#: Labels without information on the image.
_UNINFORMATIVE = {"", "unchanged"}


def open_catalog(root: Path, views: Sequence[str] = VIEWS[:3], methods: Sequence[str] = METHODS) -> Catalog:
    """The images of these views, with the findings of `FINDINGS`; a label not listed is negative.

    Images without labels, those labelled `exclude`, and those that are only `unchanged` (compared with an unknown
    image) are left out. Where sex or birth is not recorded, `Sex_Unknown` is 1 and `Age` NaN. `ImageID` is the row in
    the index.

    Args:
        root: the folder with the index; the images are in `<ImageDir>/`, `images/<ImageDir>/` or `images/`.
        views: values of `Projection` to keep.
        methods: who labelled: "Physician", "RNN_model" or both.

    Raises:
        HilumError: a missing index, column or image, an unknown view, sex or method, labels that are not a list, an
            image listed twice, or no image left.
    """
    check_choices("views", views, VIEWS)
    check_choices("methods", methods, METHODS)
    raw = read_csv(first_file(root, INDEX_NAMES, "PadChest"), _COLUMNS)
    raw.check_unique("ImageID")
    raw.check("PatientID", raw["PatientID"] != "", "is not a patient")
    for column, known in (("Projection", VIEWS), ("MethodLabel", METHODS)):
        raw.check(column, raw[column].isin(known), f"is not one of {', '.join(known)}")
    findings = _findings(raw)
    male = raw.map("PatientSex_DICOM", {"M": 1.0, "F": 0.0, **dict.fromkeys(("O", "nan", ""), np.nan)})
    ages = _ages(raw)
    labelled = findings.notna().all(axis=1)
    kept = raw["Projection"].isin(list(views)) & raw["MethodLabel"].isin(list(methods)) & labelled
    check_some_left(kept, raw.path, views=list(views), methods=list(methods))
    table = feature_table(
        patients=raw["PatientID"].astype("str"),
        studies=raw["StudyID"].astype("str"),
        ages=ages,
        male=male.fillna(0),
        sex_unknown=male.isna().astype("float64"),
        pa=raw["Projection"].map({"PA": 1.0, "AP": 0.0, "AP_horizontal": 0.0}),
        devices=findings.pop("Support Devices"),
        image_paths=_image_paths(root, raw, kept),
        keep_extensions=True,
    )
    return Catalog("padchest", table.join(findings), tuple(FINDINGS), root, origin=raw.path)


def _findings(raw: CsvTable) -> pd.DataFrame:
    """A column of 1.0 and 0.0 per target, and `Support Devices`; NaN where the labels are uninformative."""
    labels = raw["Labels"]
    sets = {text: _parse_labels(text) for text in labels.unique()}
    raw.check("Labels", labels.map(sets).notna(), "is not a list of labels")
    rows = [
        [np.nan] * (len(FINDINGS) + 1)
        if found is None or "exclude" in found or not found - _UNINFORMATIVE
        else [float(not found.isdisjoint(names)) for names in (*FINDINGS.values(), DEVICES)]
        for found in sets.values()
    ]
    table = pd.DataFrame(rows, index=list(sets), columns=[*FINDINGS, "Support Devices"])
    return table.loc[labels].set_axis(labels.index)


def _parse_labels(text: str) -> set[str] | None:
    """`"['a', ' b']"` as a set of labels; None if it is not such a list."""
    if text in ("", "nan"):
        return set()
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        return None
    return {label.strip() for label in found}


def _ages(raw: CsvTable) -> pd.Series:
    """Years from the year of birth to that of the study; NaN where the birth is not recorded."""
    births, dates = raw["PatientBirth"], raw["StudyDate_DICOM"]
    raw.check("PatientBirth", births.str.fullmatch(r"(\d{4}(\.0*)?|nan)?"), "is not a year of birth")
    raw.check("StudyDate_DICOM", dates.str.fullmatch(r"\d{8}"), "is not a date, year first")
    years = dates.str[:4].astype("float64") - pd.to_numeric(births.replace("nan", ""))
    raw.check("PatientBirth", ~(years < 0), "is a year of birth after the study")
    return years


def _image_paths(root: Path, raw: CsvTable, kept: pd.Series) -> pd.Series:
    """Each kept image's path, in the first of the three layouts that has it."""
    names, folders = raw["ImageID"][kept], raw["ImageDir"][kept]
    layouts = [folders + "/" + names, "images/" + folders + "/" + names, "images/" + names]
    paths = first_present(root, layouts)
    raw.check_present("ImageID", (paths != "").reindex(raw.cells.index, fill_value=True), root)
    return paths
