import pytest

from hilum.errors import HilumError
from hilum.targets import (
    ALIASES,
    CHEXPERT_FINDINGS,
    CHEXPERT_TARGETS,
    COMPETITION_TARGETS,
    NIH_TARGETS,
    VINDR_TARGETS,
    canonical_target,
    resolve_targets,
)


def test_the_twelve_targets_are_in_the_order_of_the_founding_document():
    assert (
        *("Enlarged_Cardiomediastinum", "Cardiomegaly", "Lung_Opacity", "Lung_Lesion", "Edema"),
        *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural_Effusion"),
        *("Pleural_Other", "Fracture"),
    ) == CHEXPERT_TARGETS
    assert set(CHEXPERT_FINDINGS) - set(CHEXPERT_TARGETS) == {"No_Finding", "Support_Devices"}


def test_sizes_of_the_named_sets():
    assert (len(CHEXPERT_FINDINGS), len(NIH_TARGETS), len(COMPETITION_TARGETS)) == (14, 14, 5)
    assert set(COMPETITION_TARGETS) < set(CHEXPERT_TARGETS)
    assert len(set(VINDR_TARGETS)) == len(VINDR_TARGETS) == 28


def test_every_name_is_canonical_and_no_alias_replaces_it():
    for name in (*CHEXPERT_FINDINGS, *NIH_TARGETS, *VINDR_TARGETS):
        assert canonical_target(name) == name
    assert {canonical_target(name) for name in ALIASES.values()} == set(ALIASES.values())


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Effusion", "Pleural_Effusion"),
        ("pleural effusion", "Pleural_Effusion"),
        ("PLEURAL-EFFUSION", "Pleural_Effusion"),
        ("Pleural_Thickening", "Pleural_Thickening"),
        ("Airspace Opacity", "Lung_Opacity"),
        ("Enlarged Cardiom.", "Enlarged_Cardiomediastinum"),
        ("No Finding", "No_Finding"),
        ("Oedema", "Edema"),
        ("pleural", "Pleural_Thickening"),
        ("Enlarged PA", "Enlarged_Pulmonary_Artery"),
        ("Nodule/Mass", "Nodule_Mass"),
        ("Other diseases", "Other_Disease"),
        ("Pulmonary fibrosis", "Fibrosis"),
        ("infiltrates", "Infiltration"),
        ("pulmonary edema", "Edema"),
    ],
)
def test_spellings_of_other_data_sets_are_known(spelling, name):
    assert canonical_target(spelling) == name


def test_names_resolve_to_the_names_of_the_data_set_in_the_given_order():
    available = ("Effusion", "Edema", "Mass")
    assert resolve_targets(["mass", "Pleural Effusion"], available) == ("Mass", "Effusion")


def test_by_default_all_targets_are_selected():
    assert resolve_targets(None, NIH_TARGETS) == NIH_TARGETS


def test_the_competition_set_resolves_in_both_data_sets():
    assert resolve_targets("competition", CHEXPERT_TARGETS) == COMPETITION_TARGETS
    assert resolve_targets(["competition"], NIH_TARGETS) == COMPETITION_TARGETS


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("Edma", r"no target 'Edma'\. Did you mean 'Edema'\? It has .*named sets are .*competition"),
        ("Fracture", "no target 'Fracture'"),
        ("chexpert", "no target 'Enlarged_Cardiomediastinum'"),  # a set with a member that NIH lacks
        (["Effusion", "Pleural_Effusion"], "'Pleural_Effusion' is given twice"),
        (["competition", "Edema"], "'Edema' is given twice"),
        ([], "target_columns is empty"),
    ],
)
def test_a_wrong_selection_is_an_error(selection, message):
    with pytest.raises(HilumError, match=message):
        resolve_targets(selection, NIH_TARGETS)
