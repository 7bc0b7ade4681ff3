"""The phantom's table: frequencies, associations and oddities, without drawing."""

import numpy as np
import pandas as pd
import pytest

from hilum.phantom.cohort import COLUMNS, RATES, cohort_table
from hilum.targets import CHEXPERT_TARGETS

ROWS = 7000
DISEASES = [name.replace("_", " ") for name in CHEXPERT_TARGETS]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return cohort_table(ROWS, seed=3)


@pytest.fixture(scope="module")
def clean(table) -> pd.DataFrame:
    """The rows that the founding document's filters keep."""
    return table[table["AP/PA"].isin(["AP", "PA"]) & (table["study"] <= 4)]


def _odds_ratio(a: pd.Series, b: pd.Series) -> float:
    counts = pd.crosstab(a, b).to_numpy(dtype=float)
    return counts[0, 0] * counts[1, 1] / (counts[0, 1] * counts[1, 0])


def test_columns_are_those_of_chexpert_in_its_order(table):
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert COLUMNS[:6] == ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding")
    assert COLUMNS[-1] == "Support Devices"
    assert len(COLUMNS) == 19


def test_the_same_seed_gives_the_same_table_and_another_seed_another():
    first = cohort_table(200, seed=5)
    pd.testing.assert_frame_equal(first, cohort_table(200, seed=5))
    assert not first["Age"].equals(cohort_table(200, seed=6)["Age"])


@pytest.mark.parametrize("images", [20, 21, 22, 200])
def test_the_number_of_rows_is_exact(images):
    assert len(cohort_table(images)) == images


# Positives per row of the cleaned CheXpert train index, with room for sampling.
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("Lung Opacity", 0.41, 0.50),
        ("Pleural Effusion", 0.31, 0.39),
        ("Edema", 0.20, 0.26),
        ("Atelectasis", 0.13, 0.18),
        ("Cardiomegaly", 0.09, 0.135),
        ("Pneumothorax", 0.06, 0.105),
        ("Consolidation", 0.045, 0.08),
        ("Enlarged Cardiomediastinum", 0.035, 0.07),
        ("Fracture", 0.03, 0.06),
        ("Lung Lesion", 0.028, 0.056),
        ("Pneumonia", 0.016, 0.037),
        ("Pleural Other", 0.007, 0.024),
        ("Support Devices", 0.45, 0.55),
        ("No Finding", 0.07, 0.14),
    ],
)
def test_positives_are_as_frequent_as_in_chexpert(clean, name, low, high):
    assert low < (clean[name] == 1).mean() < high


def test_uncertain_and_negated_mentions_are_as_frequent_as_in_chexpert(clean):
    for name, rate in RATES.items():
        column = clean[name.replace("_", " ")]
        assert (column == -1).mean() == pytest.approx(rate.uncertain, abs=0.02)
        assert (column == 0).mean() == pytest.approx(rate.negative, abs=0.03)
    codes = clean[DISEASES].to_numpy()
    assert set(np.unique(codes[~np.isnan(codes)])) == {-1.0, 0.0, 1.0}


def test_about_a_fifth_has_none_of_the_targets(clean):
    assert 0.17 < (~(clean[DISEASES] == 1).any(axis=1)).mean() < 0.26


def test_no_finding_excludes_every_positive_and_uncertain_target(table):
    clear = table[table["No Finding"] == 1]
    assert not clear[DISEASES].isin([1.0, -1.0]).any(axis=None)


def test_views_are_mixed_as_in_chexpert(table, clean):
    assert 0.78 < (clean["AP/PA"] == "AP").mean() < 0.86
    lateral = table["Frontal/Lateral"] == "Lateral"
    assert 0.12 < lateral.mean() < 0.18
    assert table.loc[lateral, "AP/PA"].isna().all()
    assert table["AP/PA"].value_counts()[["LL", "RL"]].tolist() == [1, 1]


def test_a_patient_has_several_studies_and_a_few_have_many(table):
    studies = table.groupby("patient")["study"].max()
    assert 0.25 < (studies > 1).mean() < 0.5
    assert 0.005 < (table["study"] > 4).mean() < 0.06


def test_one_patient_is_of_unknown_sex_and_ages_are_in_range(table):
    assert len(set(table.loc[table["Sex"] == "Unknown", "patient"])) == 1
    assert set(table["Sex"]) == {"Male", "Female", "Unknown"}
    assert len(set(table.loc[table["Age"] == 0, "patient"])) == 1
    assert table.loc[table["Age"] > 0, "Age"].between(18, 90).all()


def test_all_views_of_a_study_share_their_labels(table):
    views = table.groupby(["patient", "study"])[DISEASES].nunique(dropna=False)
    assert (views == 1).all(axis=None)


def test_chronic_findings_persist_more_than_acute_ones(clean):
    studies = clean.drop_duplicates(["patient", "study"])

    def lift(name: str) -> float:
        now = (studies[name] == 1).astype(float)
        then = now.groupby(studies["patient"]).shift(-1)
        known = then.notna()
        return then[known & (now == 1)].mean() / then[known].mean()

    assert lift("Cardiomegaly") > 3 > lift("Atelectasis") > 1.2


def test_severity_goes_with_the_label(table):
    for name in CHEXPERT_TARGETS:
        severity, label = table[f"severity_{name}"], table[name.replace("_", " ")]
        assert severity.between(0, 1).all()
        assert severity[(label == 0) | label.isna()].eq(0).all()
        assert severity[label == -1].max() < 0.25
        if name != "Lung_Opacity":
            assert severity[label == 1].min() > 0


def test_findings_go_together_as_in_chexpert(clean):
    positive = clean[DISEASES] == 1
    assert _odds_ratio(positive["Edema"], positive["Cardiomegaly"]) > 2
    assert _odds_ratio(positive["Edema"], positive["Pleural Effusion"]) > 1.7
    assert _odds_ratio(positive["Edema"], positive["Pneumothorax"]) < 0.8
    assert _odds_ratio(positive["Lung Opacity"], positive["Edema"]) > 1.5


def test_the_sick_are_imaged_in_bed_with_devices(clean):
    in_bed, devices = clean["AP/PA"] == "AP", clean["Support Devices"] == 1
    assert clean.loc[in_bed, "acuity"].mean() > clean.loc[~in_bed, "acuity"].mean() + 0.6
    assert _odds_ratio(devices, in_bed) > 3
    assert _odds_ratio(devices, clean["Edema"] == 1) > 1.4
    assert (clean.loc[devices, "devices"] != "").all()


def test_without_a_leak_devices_depend_on_nothing():
    table = cohort_table(4000, seed=1, leak=None)
    devices = table["Support Devices"] == 1
    for other in (table["AP/PA"] == "AP", table["Edema"] == 1, table["Pleural Effusion"] == 1):
        assert 0.72 < _odds_ratio(devices, other) < 1.4
    kinds = table["devices"][devices].str.contains("tube")
    assert 0.65 < _odds_ratio(kinds, table["AP/PA"][devices] == "AP") < 1.55


def test_the_planted_leak_puts_devices_on_effusion_alone():
    table = cohort_table(2000, seed=1, leak="effusion")
    devices, effusion = table["Support Devices"] == 1, table["Pleural Effusion"] == 1
    assert devices[~effusion].sum() == 0
    assert devices[effusion].mean() > 0.9
    assert (table["devices"] != "").equals(devices)


def test_a_leak_changes_nothing_but_the_devices():
    with_leak, without = (cohort_table(300, leak=leak) for leak in ("effusion", None))
    same = [column for column in with_leak if column not in ("Support Devices", "devices")]
    pd.testing.assert_frame_equal(with_leak[same], without[same])
