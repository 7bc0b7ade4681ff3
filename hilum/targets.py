"""The findings, named sets of them, and their names in other data sets.

Targets are matched by name or alias, never by position, because data sets differ in order and spelling.
"""

from collections.abc import Iterable, Sequence

from hilum.errors import HilumError, nearest

#: The 14 observations of CheXpert (Irvin et al. 2019, arXiv 1901.07031), in the order of its CSV.
CHEXPERT_FINDINGS = (
    *("No_Finding", "Enlarged_Cardiomediastinum", "Cardiomegaly", "Lung_Opacity", "Lung_Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural_Effusion", "Pleural_Other"),
    *("Fracture", "Support_Devices"),
)

#: The 12 training targets. `No_Finding` follows from the others, and devices are not a diagnosis.
CHEXPERT_TARGETS = CHEXPERT_FINDINGS[1:-1]

#: The five targets of the CheXpert competition.
COMPETITION_TARGETS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural_Effusion")

#: The 14 targets of NIH ChestX-ray14 (Wang et al. 2017, CVPR), in the order of the paper.
NIH_TARGETS = (
    *("Atelectasis", "Cardiomegaly", "Pleural_Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)

#: The 27 findings and diagnoses of VinDr-CXR (Nguyen et al. 2022, Scientific Data 9:429), in the order of
#: its files, and `Fracture`: a fracture of either kind.
VINDR_TARGETS = (
    *("Aortic_Enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle_Fracture"),
    *("Consolidation", "Edema", "Emphysema", "Enlarged_Pulmonary_Artery", "ILD", "Infiltration"),
    *("Lung_Opacity", "Lung_Cavity", "Lung_Cyst", "Mediastinal_Shift", "Nodule_Mass", "Pleural_Effusion"),
    *("Pleural_Thickening", "Pneumothorax", "Fibrosis", "Rib_Fracture", "Other_Lesion", "COPD"),
    *("Lung_Tumor", "Pneumonia", "Tuberculosis", "Other_Disease", "Fracture"),
)

TARGET_SETS = {
    "chexpert": CHEXPERT_TARGETS,
    "competition": COMPETITION_TARGETS,
    "nih": NIH_TARGETS,
    "vindr": VINDR_TARGETS,
}

#: Findings that make the image darker, because air replaces tissue.
RADIOLUCENT = frozenset(("Pneumothorax", "Emphysema", "COPD", "Lung_Cavity", "Lung_Cyst"))

#: Other spellings (as `fold_name` gives them), and the name used here.
ALIASES = {
    "effusion": "Pleural_Effusion",
    "pleural": "Pleural_Thickening",  # ChestMNIST
    "enlargedcardiom": "Enlarged_Cardiomediastinum",
    "airspaceopacity": "Lung_Opacity",
    "opacity": "Lung_Opacity",
    "lesion": "Lung_Lesion",
    "oedema": "Edema",
    "collapse": "Atelectasis",
    "normal": "No_Finding",
    "nofindings": "No_Finding",
    "pulmonaryedema": "Edema",
    "pulmonaryfibrosis": "Fibrosis",
    "pulmonarymass": "Mass",
    "hiatalhernia": "Hernia",
    "infiltrate": "Infiltration",
    "infiltrates": "Infiltration",
    "enlargedpa": "Enlarged_Pulmonary_Artery",
    "otherdiseases": "Other_Disease",
}


def fold_name(name: str) -> str:
    """A name without case, spaces, dashes and underscores, for comparisons."""
    return "".join(character for character in name.lower() if character.isalnum())


_CANONICAL = {fold_name(name): name for name in (*CHEXPERT_FINDINGS, *NIH_TARGETS, *VINDR_TARGETS)}


def plain_name(name: str) -> str:
    """The name of a target or column as text, with spaces for underscores."""
    return name.replace("_", " ")


def canonical_target(name: str) -> str:
    """The name used here for a finding, or `name` unchanged if the finding is unknown.

    Case, spaces, dashes and underscores do not matter.

    >>> canonical_target("Effusion"), canonical_target("pleural effusion"), canonical_target("Cough")
    ('Pleural_Effusion', 'Pleural_Effusion', 'Cough')
    """
    folded = fold_name(name)
    return ALIASES.get(folded) or _CANONICAL.get(folded) or name


def resolve_targets(selection: str | Iterable[str] | None, available: Sequence[str]) -> tuple[str, ...]:
    """The targets of a run, by their names in `available`, in the order of `selection`.

    Args:
        selection: names, aliases or a named set (`"competition"`); None means all. It is an error if the data set lacks
            a member of a named set, so that a mean over "the competition targets" always means the same five.
        available: the catalog's targets.

    Raises:
        HilumError: if a name is unknown to the catalog or given twice, or if there is no name.
    """
    if selection is None:
        return tuple(available)
    names = [selection] if isinstance(selection, str) else list(selection)
    expanded = [member for name in names for member in TARGET_SETS.get(name, (name,))]
    if not expanded:
        raise HilumError("target_columns is empty. Name at least one target, or leave it out to use all.")
    by_fold = {fold_name(canonical_target(name)): name for name in available}
    resolved: list[str] = []
    for name in expanded:
        match = by_fold.get(fold_name(canonical_target(name)))
        if match is None:
            hint = nearest(name, (*available, *TARGET_SETS))
            raise HilumError(
                f"target_columns: the data set has no target {name!r}.{hint} "
                f"It has {', '.join(available)}; named sets are {', '.join(TARGET_SETS)}."
            )
        if match in resolved:
            raise HilumError(f"target_columns: {match!r} is given twice. Name each target once.")
        resolved.append(match)
    return tuple(resolved)
