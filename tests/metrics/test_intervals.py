"""The table of scores with intervals is the itemized table, with counts that add up."""

import numpy as np
import pandas as pd
import pytest

from hilum.metrics.bootstrap import score_replicates
from hilum.metrics.intervals import (
    SCORES_WITH_INTERVALS,
    combined_with_intervals,
    mean_with_interval,
    scores_with_intervals,
)
from hilum.metrics.resampling import patient_weights
from hilum.metrics.scores import COMBINED_COLUMNS, combined_scores, itemized_scores


def test_the_scores_are_the_itemized_ones_and_the_counts_add_up():
    draw = np.random.default_rng(2)
    labels = (draw.random((400, 2)) < (0.3, 0.1)).astype(float)
    labels[:40, 0] = np.nan
    probabilities = np.clip(0.2 * np.nan_to_num(labels) + 0.8 * draw.random((400, 2)), 0, 1)
    patients, targets, thresholds = np.arange(400) // 2, ["Edema", "Mass"], [0.4, 0.6]
    table = scores_with_intervals(labels, probabilities, patients, targets, thresholds, replicates=200)
    itemized = itemized_scores(labels, probabilities, targets, thresholds)
    pd.testing.assert_frame_equal(table[itemized.columns], itemized)
    counts = table["true_positives"] + table["false_negatives"], table["positives"]
    pd.testing.assert_series_equal(*counts, check_names=False)
    np.testing.assert_allclose(table["specificity"], table["true_negatives"] / table["negatives"])
    for score in SCORES_WITH_INTERVALS:
        assert (table[f"{score}_low"] < table[score]).all()
        assert (table[score] < table[f"{score}_high"]).all()


def test_a_target_without_positives_says_so_and_has_no_interval():
    table = scores_with_intervals(
        np.zeros((6, 1)), np.linspace(0, 1, 6)[:, None], np.arange(6), ["Edema"], [0.5], replicates=100
    )
    (row,) = table.to_dict("records")
    assert row["lack"] == "none of 6 labelled images is positive"
    assert np.isnan([row["recall"], row["recall_low"], row["recall_high"], row["roc_auc"]]).all()
    assert row["specificity"] == pytest.approx(0.5)


def test_combined_intervals_are_the_quantiles_of_the_scores_of_drawn_patients():
    draw = np.random.default_rng(8)
    labels = (draw.random((90, 3)) < 0.3).astype(float)
    labels[:9, 1] = np.nan
    labels[4] = np.nan  # an image of which nothing is known counts in no score
    probabilities = draw.random((90, 3))
    patients, thresholds = np.arange(90) // 3, [0.4, 0.5, 0.6]
    found = combined_with_intervals(labels, probabilities, patients, thresholds, replicates=100, seed=3)
    predictions = (probabilities >= thresholds).astype(int)
    expected = combined_scores(labels, predictions)
    replicates = []
    for weights in patient_weights(30, 100, 3):
        rows = np.concatenate(
            [np.flatnonzero(patients == patient) for patient in np.repeat(np.arange(30), weights)]
        )
        replicates.append(combined_scores(labels[rows], predictions[rows]))
    for name in COMBINED_COLUMNS:
        assert found[name] == pytest.approx(expected[name])
        low, high = np.quantile([replicate[name] for replicate in replicates], [0.025, 0.975])
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx((low, high))


def test_one_patient_has_combined_scores_and_no_interval():
    found = combined_with_intervals(np.ones((3, 1)), np.full((3, 1), 0.7), np.zeros(3), [0.5], replicates=100)
    assert found["recall"] == 1
    assert np.isnan([found["recall_low"], found["recall_high"]]).all()


def test_the_mean_is_over_the_targets_that_have_the_score():
    draw = np.random.default_rng(6)
    labels = (draw.random((200, 3)) < 0.4).astype(float)
    labels[:, 2] = 0
    given = np.clip(0.3 * labels + 0.7 * draw.random((200, 3)), 0, 1)
    bootstrap = score_replicates(labels, given, np.arange(200) // 2, [0.5] * 3, replicates=200)
    found = mean_with_interval(bootstrap, "recall")
    assert found["mean"] == pytest.approx(bootstrap.estimate["recall"][:2].mean())
    assert found["low"] < found["mean"] < found["high"]
    assert np.isnan(
        list(
            mean_with_interval(
                score_replicates(np.zeros((4, 1)), np.zeros((4, 1)), np.arange(4), [0.5], replicates=100),
                "recall",
            ).values()
        )
    ).all()
