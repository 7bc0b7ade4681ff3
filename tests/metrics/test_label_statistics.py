"""The numbers of the data set's page, against SciPy, pandas, hand-made tables and the founding document."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import contingency, pearsonr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hilum.data.oversampling import oversample
from hilum.metrics.label_statistics import (
    ALL_TOGETHER,
    FOLDS,
    by_feature,
    co_occurrence,
    code_counts,
    findings_per_image,
    label_counts,
    metadata_leaks,
    patient_folds,
    prevalence,
    target_vectors,
    unrecorded_features,
)
from hilum.sources import Catalog
from hilum.sources.catalog import FEATURE_COLUMNS
from hilum.sources.chexpert import CleanMetaData

NAN = np.nan


@pytest.fixture(scope="module")
def correlated() -> tuple[np.ndarray, np.ndarray]:
    """Labels (3000, 3) of 1,000 patients with three images each; the second leans on the first."""
    draw = np.random.default_rng(5)
    first = draw.random(3000) < 0.4
    second = np.where(first, draw.random(3000) < 0.6, draw.random(3000) < 0.2)
    labels = np.column_stack([first, second, draw.random(3000) < 0.3]).astype(float)
    return labels, np.repeat(np.arange(1000), 3)


def test_prevalence_counts_labelled_images_and_its_interval_is_wilsons():
    labels = np.array(
        [[1, 0], [0, NAN], [0, NAN], [0, NAN], [0, NAN], [0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]
    )
    table = prevalence(labels, ["Edema", "Mass"])
    assert table.loc["Edema", ["positives", "negatives", "left_out"]].tolist() == [2, 8, 0]
    assert table.loc["Mass", ["positives", "negatives", "left_out"]].tolist() == [0, 6, 4]
    # By hand: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964, p = 0.2, n = 10.
    z, p, n = 1.959963984540054, 0.2, 10
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = np.array([middle - half, middle + half]) / (1 + z**2 / n)
    np.testing.assert_allclose(table.loc["Edema", ["low", "high"]].to_numpy(float), expected)
    assert table.at["Mass", "low"] == 0 < table.at["Mass", "high"]


def test_prevalence_of_a_target_without_labels_is_undefined():
    table = prevalence(np.array([[NAN], [NAN]]), ["Mass"])
    assert table[["prevalence", "low", "high"]].isna().all(axis=None)


def test_findings_per_image_leave_no_number_out_and_ignore_what_is_not_known():
    counts = findings_per_image(np.array([[0, 0, 0], [1, 1, 1], [NAN, 1, 0], [1, 0, 0], [NAN, 0, 0]]))
    assert counts.to_dict() == {0: 2, 1: 2, 2: 0, 3: 1}


def test_phi_is_the_pearson_correlation_and_agrees_with_cramers_v(correlated):
    labels, patients = correlated
    pairs = co_occurrence(labels, patients, ["a", "b", "c"], seed=0, replicates=50)
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair, (one, two) in zip(pairs.itertuples(), ((0, 1), (0, 2), (1, 2)), strict=True):
        a, b = labels[:, one], labels[:, two]
        assert pair.phi == pytest.approx(pearsonr(a, b).statistic)
        table = pd.crosstab(a, b).to_numpy()
        assert abs(pair.phi) == pytest.approx(contingency.association(table, method="cramer"))
        assert pair.both == ((a == 1) & (b == 1)).sum()
        assert pair.either == ((a == 1) | (b == 1)).sum()


def test_the_interval_of_phi_is_near_fishers_when_images_are_independent(correlated):
    labels, patients = correlated
    pair = co_occurrence(labels, patients, ["a", "b", "c"], seed=0).iloc[0]
    fisher = pearsonr(labels[:, 0], labels[:, 1]).confidence_interval(0.95)
    assert pair["low"] < pair["phi"] < pair["high"]
    assert [pair["low"], pair["high"]] == pytest.approx([fisher.low, fisher.high], abs=0.012)
    independent = co_occurrence(labels, patients, ["a", "b", "c"], seed=0).iloc[1]
    assert independent["low"] < 0 < independent["high"]


def test_the_interval_of_phi_is_wider_when_images_of_a_patient_are_alike(correlated):
    labels, _ = correlated
    repeated = np.repeat(labels[:500], 6, axis=0)
    alike = co_occurrence(repeated, np.repeat(np.arange(500), 6), ["a", "b", "c"], seed=0).iloc[0]
    as_if_single = co_occurrence(repeated, np.arange(3000), ["a", "b", "c"], seed=0).iloc[0]
    assert alike["phi"] == pytest.approx(as_if_single["phi"])
    assert alike["high"] - alike["low"] > 1.8 * (as_if_single["high"] - as_if_single["low"])


def test_phi_counts_only_images_with_both_labels_and_is_undefined_without_variation():
    labels = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0], [1, NAN, 0], [NAN, 1, 0]])
    pairs = co_occurrence(labels, [f"p{row}" for row in range(6)], ["a", "b", "c"], seed=0, replicates=200)
    assert pairs.loc[0, ["both", "either", "labelled", "phi"]].tolist() == [2, 2, 4, 1]
    assert pairs.loc[1:, ["phi", "low", "high"]].isna().all(axis=None)


def test_one_target_has_no_pairs():
    pairs = co_occurrence(np.array([[1.0], [0.0]]), [1, 2], ["Edema"], seed=0)
    assert len(pairs) == 0
    assert "phi" in pairs


def test_vectors_are_counted_as_pandas_counts_them(correlated):
    labels, _ = correlated
    table = target_vectors(labels)
    counted = pd.DataFrame(labels).value_counts()
    assert table["frequency"].is_monotonic_decreasing
    assert table["percent"].sum() == pytest.approx(100)
    assert {
        tuple(float(letter == "P") for letter in vector): frequency
        for vector, frequency in table["frequency"].items()
    } == counted.to_dict()


def test_a_label_that_is_left_out_has_its_own_letter():
    table = target_vectors(np.array([[1, NAN, 0], [0, 0, 0], [0, 0, 0]]))
    assert table["frequency"].to_dict() == {"000": 2, "P-0": 1}


def test_frequencies_after_oversampling_are_those_of_the_rows_it_draws(correlated):
    labels, _ = correlated
    table = target_vectors(labels, observation_min_count=400, seed=9)
    assert (table["frequency_after"] == table["frequency"].clip(lower=400)).all()
    drawn = target_vectors(labels[oversample(labels, 400, seed=9)])
    assert table["frequency_after"].to_dict() == drawn["frequency"].to_dict()
    assert table["percent_after"].sum() == pytest.approx(100)


def test_the_real_index_has_the_founding_documents_target_vectors(chexpert_index):
    catalog = CleanMetaData(csv_path=chexpert_index).catalog()
    table = target_vectors(catalog.labels())
    assert len(table) == 802
    assert table["frequency"].head(15).tolist() == [
        *(25805, 12816, 10586, 4834, 4770, 4584, 4116, 3409),
        *(2900, 2479, 2476, 2293, 2206, 1766, 1716),
    ]
    assert table.index[:3].tolist() == ["000000000000", "00P000000000", "00P000000P00"]
    assert table.index[14] == "00000000000P"
    assert table["percent"].iloc[0] == pytest.approx(19.5866, abs=1e-4)


def test_groups_are_of_view_sex_and_age_and_their_counts_add_up(small_catalog):
    table = by_feature(small_catalog)
    known = small_catalog.table
    for feature in ("View", "Sex", "Age"):
        rows = table[(table["feature"] == feature) & (table["target"] == "Edema")]
        assert rows["images"].sum() == len(known)
        assert rows["positives"].sum() == (known["Edema"] == 1).sum()
    unknown = table[(table["level"] == "unknown") & (table["target"] == "Edema")]
    assert unknown["images"].tolist() == [(known["Sex_Unknown"] == 1).sum()]
    young = known[(known["Age"] >= 20) & (known["Age"] < 40)]
    row = table[(table["level"] == "20 to 39 years") & (table["target"] == "Edema")].iloc[0]
    assert [row["images"], row["prevalence"]] == [len(young), pytest.approx(young["Edema"].mean())]


def test_a_feature_that_is_not_recorded_has_no_groups(small_catalog):
    table = small_catalog.table.assign(Age=NAN, Sex_Male=NAN, Sex_Unknown=NAN, Orientation_PA=NAN)
    object.__setattr__(small_catalog, "table", table)
    assert len(by_feature(small_catalog)) == 0


def test_codes_and_labels_are_counted_before_and_after_the_policy():
    codes = pd.DataFrame({"Edema": [1, 0, -1, NAN, NAN], "Mass": [-1, -1, 1, 1, 0]})
    before = code_counts(codes)
    assert before.loc["Edema"].to_dict() == {"positive": 1, "negative": 1, "uncertain": 1, "blank": 2}
    assert before.loc["Mass"].to_dict() == {"positive": 2, "negative": 1, "uncertain": 2, "blank": 0}
    after = label_counts(np.array([[1, 2], [0, 2], [0.7, 1], [NAN, 1], [0.1, 0]]), ["Edema", "Mass"])
    assert after.loc["Edema"].to_dict() == {
        **{"positive": 1, "negative": 1, "smoothed": 2, "uncertain_class": 0, "left_out": 1}
    }
    assert after.loc["Mass", "uncertain_class"] == 2
    assert (after.sum(axis=1) == 5).all()


# ---- what metadata alone predict: a planted leak is found, an absent one is not ----

PATIENTS, IMAGES = 600, 1500


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Devices stand in three of four images with an effusion, and in one of four without; nothing else leaks."""
    draw = np.random.default_rng(11)
    patients = np.sort(draw.integers(PATIENTS, size=IMAGES))
    effusion = draw.random(IMAGES) < 0.3
    columns = {
        "PatientID": patients,
        "StudyID": 1,
        "Age": draw.integers(18, 90, size=IMAGES),
        "Sex_Male": draw.integers(2, size=PATIENTS)[patients],
        "Sex_Unknown": 0,
        "Orientation_PA": draw.integers(2, size=IMAGES),
        "Support Devices": (draw.random(IMAGES) < np.where(effusion, 0.75, 0.25)).astype(float),
        "Image_Path": [f"{row}.png" for row in range(IMAGES)],
        "Hierarchical_Path": [f"d/{row}.png" for row in range(IMAGES)],
        "Pleural_Effusion": effusion.astype(float),
        "Mass": (draw.random(IMAGES) < 0.2).astype(float),
        "Hernia": np.r_[np.ones(4), np.zeros(IMAGES - 4)],
    }
    assert list(columns)[:9] == list(FEATURE_COLUMNS)
    return pd.DataFrame(columns, index=pd.RangeIndex(IMAGES, name="ImageID"))


def catalog_of(table: pd.DataFrame) -> Catalog:
    return Catalog("made", table, ("Pleural_Effusion", "Mass", "Hernia"))


@pytest.fixture(scope="module")
def leaks(table) -> pd.DataFrame:
    return metadata_leaks(catalog_of(table), seed=0).set_index(["feature", "target"])


def test_devices_that_come_with_the_effusion_predict_it(leaks):
    row = leaks.loc["devices", "Pleural_Effusion"]
    assert row["auc"] == pytest.approx(0.75, abs=0.03)
    assert 0.7 < row["low"] < row["auc"] < row["high"] < 0.8
    assert leaks.loc[(ALL_TOGETHER, "Pleural_Effusion"), "auc"] == pytest.approx(row["auc"], abs=0.03)


def test_what_is_independent_is_near_chance_and_its_interval_is_not_above_it(leaks):
    for feature in ("view", "age", "sex"):
        assert leaks.loc[(feature, "Pleural_Effusion"), "auc"] == pytest.approx(0.5, abs=0.06)
    rows = leaks.drop(index=("devices", "Pleural_Effusion")).drop(index=(ALL_TOGETHER, "Pleural_Effusion"))
    rows = rows.dropna(subset="auc")
    assert len(rows) == 8
    assert ((rows["low"] < 0.5) & (rows["high"] > 0.5)).mean() >= 0.75  # 95 % each, and some go below


def test_the_auc_is_that_of_a_fit_on_the_images_themselves(table, leaks):
    labels = catalog_of(table).labels()
    _, patient_of = np.unique(table["PatientID"], return_inverse=True)
    folds = patient_folds(labels, patient_of, seed=0)[patient_of]
    decades = table["Age"].to_numpy() / 10 - 5
    features = {"age": np.column_stack([decades, decades**2]), "view": table[["Orientation_PA"]].to_numpy()}
    for feature, columns in features.items():
        for position, target in enumerate(("Pleural_Effusion", "Mass")):
            truth, scores = labels[:, position], []
            for fold in range(FOLDS):
                fit = LogisticRegression(solver="newton-cholesky").fit(
                    columns[folds != fold], truth[folds != fold]
                )
                scores.append(
                    roc_auc_score(truth[folds == fold], fit.decision_function(columns[folds == fold]))
                )
            assert leaks.loc[(feature, target), "auc"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_too_few_positive_patients_have_counts_and_no_auc(leaks):
    row = leaks.loc["devices", "Hernia"]
    assert [row["positives"], row["negatives"]] == [4, IMAGES - 4]
    assert row[["auc", "low", "high"]].isna().all()


def test_images_left_out_of_a_target_do_not_count(table):
    known = table["Mass"].copy()
    changed = table.assign(Mass=known.where(np.arange(IMAGES) % 2 == 0))
    row = metadata_leaks(catalog_of(changed), seed=0, replicates=20).set_index(["feature", "target"])
    assert row.loc[("view", "Mass"), "positives"] == (known[::2] == 1).sum()
    assert row.loc[("view", "Mass"), "negatives"] == (known[::2] == 0).sum()


def test_features_that_are_not_recorded_are_left_out_and_named(table):
    bare = catalog_of(table.assign(**{"Support Devices": np.nan, "Age": np.nan, "Orientation_PA": 1}))
    assert unrecorded_features(bare) == ["view", "devices", "age"]
    leaks = metadata_leaks(bare, seed=0, replicates=20)
    assert set(leaks["feature"]) == {"sex"}
    nothing = catalog_of(
        table.assign(**{"Support Devices": np.nan, "Age": np.nan, "Orientation_PA": 1, "Sex_Male": np.nan})
    )
    assert len(metadata_leaks(nothing, seed=0)) == 0
    assert unrecorded_features(nothing) == ["view", "devices", "age", "sex"]


def test_ages_that_are_missing_for_some_are_used_where_they_are_known(table):
    telling = table["Age"].where(table["Pleural_Effusion"] == 0)  # missing exactly with the finding
    leaks = metadata_leaks(catalog_of(table.assign(Age=telling)), seed=0, replicates=20)
    assert leaks.set_index(["feature", "target"]).loc[("age", "Pleural_Effusion"), "auc"] == 1


def test_folds_are_even_keep_patients_whole_and_share_rare_findings(table):
    labels = catalog_of(table).labels()
    patients, patient_of = np.unique(table["PatientID"], return_inverse=True)
    folds = patient_folds(labels, patient_of, seed=2)
    assert folds.shape == (len(patients),)  # one fold per patient: no image of theirs can be elsewhere
    sizes = np.bincount(folds)
    assert len(sizes) == FOLDS
    assert np.ptp(sizes) <= 1
    hernia = np.unique(patient_of[labels[:, 2] == 1])
    assert np.bincount(folds[hernia], minlength=FOLDS).max() == 1
    assert (folds != patient_folds(labels, patient_of, seed=3)).any()


def test_the_seed_alone_decides(table):
    first, again = (metadata_leaks(catalog_of(table), seed=4, replicates=20) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
