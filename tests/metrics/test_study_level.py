"""Images become studies by hand-checked rules, and the scores are those of the studies."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hilum.errors import HilumError
from hilum.metrics.study_level import aggregate, level_scores

NAN = float("nan")


def test_a_study_is_positive_if_an_image_is_and_unknown_if_none_is_known():
    labels = np.array([[1, NAN], [0, 0], [NAN, NAN], [NAN, 0], [0, 1]])
    probabilities = np.array([[0.9, 0.1], [0.1, 0.3], [0.4, 0.6], [0.2, 0.2], [0.7, 0.5]], dtype=np.float32)
    groups = np.array(["b", "b", "a", "a", "c"])
    for how, expected in (
        ("mean", [[0.3, 0.4], [0.5, 0.2], [0.7, 0.5]]),
        ("max", [[0.4, 0.6], [0.9, 0.3], [0.7, 0.5]]),
    ):
        found, grouped, first = aggregate(labels, probabilities, groups, how)
        np.testing.assert_array_equal(found, [[NAN, 0], [1, 0], [0, 1]])
        np.testing.assert_allclose(grouped, expected, rtol=1e-6)
        assert grouped.dtype == np.float32
        assert first.tolist() == [2, 0, 4]


def test_the_scores_are_those_of_the_aggregated_rows():
    draw = np.random.default_rng(5)
    patients = draw.integers(0, 60, 300)
    studies = patients * 10 + draw.integers(0, 3, 300)
    labels = (draw.random((300, 1)) < 0.3).astype(float)
    probabilities = np.clip(0.3 * labels + 0.7 * draw.random((300, 1)), 0, 1)
    (row,) = level_scores(
        labels, probabilities, studies, patients, ["Edema"], [0.5], how="max", replicates=200
    ).to_dict("records")
    distinct = np.unique(studies)
    truth = np.array([labels[studies == study].max() for study in distinct])
    given = np.array([probabilities[studies == study].max() for study in distinct])
    assert row["positives"] + row["negatives"] == len(distinct)
    assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, given))
    assert row["recall"] == pytest.approx(np.mean(given[truth == 1] >= 0.5))
    assert row["roc_auc_low"] < row["roc_auc"] < row["roc_auc_high"]


def test_another_way_and_other_lengths_are_refused():
    with pytest.raises(HilumError, match=r"how is .maxx.\. Did you mean .max."):
        aggregate(np.ones((1, 1)), np.ones((1, 1)), np.array([1]), "maxx")
    with pytest.raises(HilumError, match="expected one row and one group per image"):
        aggregate(np.ones((2, 1)), np.ones((2, 1)), np.array([1]))
