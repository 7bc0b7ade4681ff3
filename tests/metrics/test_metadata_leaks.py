"""A planted leak is found, an absent one is not, and nobody is on both sides of a fold."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hilum.metrics.metadata_leaks import (
    ALL_TOGETHER,
    FOLDS,
    metadata_leaks,
    patient_folds,
    unrecorded_features,
)
from hilum.sources import Catalog
from hilum.sources.catalog import FEATURE_COLUMNS

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
