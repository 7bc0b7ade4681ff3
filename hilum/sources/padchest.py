"""PadChest: 160,861 chest radiographs of 67,625 patients, with 174 findings in a hierarchy.

From Hospital San Juan, Alicante, 2009 to 2017. Physicians labelled the reports of 39,053 images by hand;
a recurrent network, trained on these, labelled the others. The images are 16-bit PNGs whose full range
is the gray scale: the DICOM window was applied when they were made, so none is applied here.

Bustos A, Pertusa A, Salinas JM, de la Iglesia-Vayá M. "PadChest: A large chest x-ray image dataset with
multi-label annotated reports". Medical Image Analysis 2020, 66:101797. From bimcv.cipf.es/bimcv-projects/padchest,
for research, under an agreement.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.sources.catalog import Catalog, extensions_of, hierarchical_paths
from hilum.sources.csv import first_file, mapped, read_csv, refuse
from hilum.sources.images import absent

_STEM = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
INDEX_NAMES = (_STEM, f"{_STEM}.gz")
_COLUMNS = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("Projection", "MethodLabel", "Labels"),
)

#: All that `Projection` holds; the first three are frontal.
VIEWS = ("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE", "UNK")
METHODS = ("Physician", "RNN_model")

#: PadChest's labels that make each target positive: the finding, and what its hierarchy has below it.
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
    "Pleural_Thickening": (
        *("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
    ),
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

#: Labels that say nothing of what is on the image.
_SILENT = {"", "unchanged"}


def open_catalog(
    root: Path,
    views: Sequence[str] = ("PA", "AP", "AP_horizontal"),
    methods: Sequence[str] = METHODS,
) -> Catalog:
    """The images of the views asked for, with the findings of `FINDINGS`; a label not listed is negative.

    Left out are images without labels, those labelled `exclude`, and those that are only `unchanged`
    (against an image that is not known). Where sex or birth is not recorded, `Sex_Unknown` is 1 and
    `Age` NaN. `ImageID` is the row in the index.

    Args:
        root: the folder with the index; the images are in `<ImageDir>/`, `images/<ImageDir>/` or `images/`.
        views: values of `Projection` to keep.
        methods: who labelled: "Physician", "RNN_model" or both.

    Raises:
        HilumError: a missing index, column or image, an unknown view, sex or method, labels that are no
            list, an image listed twice, or no image left.
    """
    _refuse_unknown("views", views, VIEWS)
    _refuse_unknown("methods", methods, METHODS)
    csv_path = first_file(
        root, INDEX_NAMES, lambda names: f"root must be the folder that holds PadChest's {names}."
    )
    raw = read_csv(csv_path, _COLUMNS)
    names = raw["ImageID"]
    refuse(csv_path, names, names.duplicated(), "stands in an earlier line too", "Remove one of the two.")
    refuse(csv_path, raw["PatientID"], raw["PatientID"] == "", "is no patient")
    for column, known in (("Projection", VIEWS), ("MethodLabel", METHODS)):
        refuse(csv_path, raw[column], ~raw[column].isin(known), f"is not one of {', '.join(known)}")
    findings = _findings(csv_path, raw["Labels"])
    sex = mapped(csv_path, raw["PatientSex_DICOM"], {"M": 1.0, "F": 0.0, "O": None, "nan": None, "": None})
    table = pd.DataFrame(
        {
            "PatientID": raw["PatientID"].astype("str"),
            "StudyID": raw["StudyID"].astype("str"),
            "Age": _ages(csv_path, raw),
            "Sex_Male": sex.astype("float64").fillna(0),
            "Sex_Unknown": sex.isna().astype("float64"),
            "Orientation_PA": raw["Projection"].map({"PA": 1.0, "AP": 0.0, "AP_horizontal": 0.0}),
            "Support Devices": findings.pop("Support Devices"),
            "Image_Path": "",
            "Hierarchical_Path": hierarchical_paths(np.arange(len(raw)), extensions=extensions_of(names)),
        }
    ).join(findings)
    table.index.name = "ImageID"
    keep = (
        raw["Projection"].isin(list(views))
        & raw["MethodLabel"].isin(list(methods))
        & findings.notna().all(axis=1)
    )
    if not keep.any():
        raise HilumError(
            f"{csv_path}: no image is left with views={list(views)}, methods={list(methods)}. Loosen one of them."
        )
    table = table[keep]
    return Catalog(
        name="padchest",
        table=table.assign(Image_Path=_locate(root, csv_path, raw, keep)),
        targets=tuple(FINDINGS),
        root=root,
        origin=csv_path,
    )


def _findings(csv_path: Path, labels: pd.Series) -> pd.DataFrame:
    """A column of 1.0 and 0.0 per target, and `Support Devices`; NaN where the labels tell nothing."""
    lists = {text: _parse(text) for text in labels.unique()}
    refuse(
        csv_path,
        labels,
        labels.map({text: found is None for text, found in lists.items()}).astype(bool),
        "is no list of labels",
    )
    rows = [
        [np.nan] * (len(FINDINGS) + 1)
        if "exclude" in found or not found - _SILENT
        else [float(not found.isdisjoint(of)) for of in (*FINDINGS.values(), DEVICES)]
        for found in lists.values()
    ]
    table = pd.DataFrame(rows, index=list(lists), columns=[*FINDINGS, "Support Devices"])
    return table.loc[labels].set_axis(labels.index)


def _parse(text: str) -> set[str] | None:
    """`"['a', ' b']"` as a set of labels; None if it is no such list."""
    if text in ("", "nan"):
        return set()
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        return None
    return {label.strip() for label in found}


def _ages(csv_path: Path, raw: pd.DataFrame) -> pd.Series:
    """Years from the year of birth to the study's; NaN where the birth is not recorded."""
    births, dates = raw["PatientBirth"], raw["StudyDate_DICOM"]
    refuse(csv_path, births, ~births.str.fullmatch(r"(\d{4}(\.0*)?|nan)?"), "is no year of birth")
    refuse(csv_path, dates, ~dates.str.fullmatch(r"\d{8}"), "is no date, year first")
    years = dates.str[:4].astype("float64") - pd.to_numeric(births.replace("nan", ""))
    refuse(csv_path, births, years < 0, "is a year of birth after the study")
    return years


def _locate(root: Path, csv_path: Path, raw: pd.DataFrame, keep: pd.Series) -> pd.Series:
    """Each kept image's path, in the first of the three layouts that has it."""
    names = raw.loc[keep, "ImageID"]
    folders = raw.loc[keep, "ImageDir"]
    paths = pd.Series("", index=names.index, dtype=object)
    for place in (folders + "/" + names, "images/" + folders + "/" + names, "images/" + names):
        still = paths == ""
        there = ~absent(root, place[still])
        paths[still] = place[still].where(there, "")
        if (paths != "").all():
            break
    refuse(
        csv_path,
        raw["ImageID"],
        (paths == "").reindex(raw.index, fill_value=False),
        f"is in the index but in no image folder of {root}",
        "Complete the download, or remove the lines without an image.",
    )
    return paths.astype("str")


def _refuse_unknown(setting: str, values: Sequence[str], known: Sequence[str]) -> None:
    if not isinstance(values, list | tuple | set) or not values or not set(values) <= set(known):
        raise HilumError(f"{setting} must be a list of {', '.join(known)}; it is {values!r}.")
