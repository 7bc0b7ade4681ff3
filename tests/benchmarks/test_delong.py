"""Tests of DeLong's variance: the definition over pairs, a worked example, the bootstrap."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from hilum.errors import HilumError

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "delong.py"))
auc_interval, auc_difference = BENCHMARK["auc_interval"], BENCHMARK["auc_difference"]


def placements(labels, probabilities):
    """Proportion of negatives below each positive, and of positives above each negative, in O(n²)."""
    above, below = probabilities[labels == 1], probabilities[labels == 0]
    wins = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in below] for a in above])
    return wins.mean(axis=1), wins.mean(axis=0)


def sample(seed, images=60, ties=None, models=1):
    draw = np.random.default_rng(seed)
    labels = (draw.random(images) < 0.3).astype(np.float64)
    labels[:4] = 0, 0, 1, 1
    logits = draw.normal(size=images) + labels + 0.8 * draw.normal(size=(models, images))
    probabilities = 1 / (1 + np.exp(-logits))
    return labels, np.round(probabilities * ties) / ties if ties else probabilities


@pytest.mark.parametrize("ties", [None, 3, 10])
@pytest.mark.parametrize("seed", range(5))
def test_the_standard_error_equals_the_definition(seed, ties):
    labels, (probabilities,) = sample(seed, ties=ties)
    of_positives, of_negatives = placements(labels, probabilities)
    variance = np.var(of_positives, ddof=1) / len(of_positives)
    variance += np.var(of_negatives, ddof=1) / len(of_negatives)
    interval = auc_interval(labels, probabilities)
    assert interval.roc_auc == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert interval.standard_error == pytest.approx(variance**0.5, rel=1e-9)
    reach = stats.norm.ppf(0.975) * variance**0.5
    assert interval.low == pytest.approx(max(interval.roc_auc - reach, 0))
    assert interval.high == pytest.approx(min(interval.roc_auc + reach, 1))


@pytest.mark.parametrize("ties", [None, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_paired_test_equals_the_definition(seed, ties):
    labels, (first, second) = sample(seed, ties=ties, models=2)
    # The variance of the difference is the variance of the differences of the placements.
    parts = [b - a for a, b in zip(placements(labels, first), placements(labels, second), strict=True)]
    error = sum(np.var(part, ddof=1) / len(part) for part in parts) ** 0.5
    found = auc_difference(labels, first, second)
    assert found.difference == pytest.approx(roc_auc_score(labels, second) - roc_auc_score(labels, first))
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.norm.cdf(-abs(found.difference) / error))
    assert found.high - found.difference == pytest.approx(found.difference - found.low)
    mirrored = auc_difference(labels, second, first)
    assert mirrored.difference == pytest.approx(-found.difference)
    assert mirrored.p_value == pytest.approx(found.p_value)


def test_a_worked_example():
    # Positives 0.9, 0.4; negatives 0.5, 0.1. The first positive is above both negatives, the second above one: the
    # placements are 1 and 1/2, with variance 1/8. Those of the negatives are 1/2 and 1, with variance 1/8. The sum
    # (1/8)/2 + (1/8)/2 is 1/8.
    interval = auc_interval(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.4, 0.1]))
    assert interval.roc_auc == 0.75
    assert interval.standard_error == pytest.approx(0.125**0.5)
    assert interval.low == pytest.approx(0.75 - 1.959964 * 0.125**0.5, abs=1e-6)
    assert interval.high == 1


def test_unknown_labels_are_left_out():
    labels, (first, second) = sample(1, models=2)
    labels[10:30] = np.nan
    known = ~np.isnan(labels)
    assert auc_interval(labels, first) == auc_interval(labels[known], first[known])
    assert auc_difference(labels, first, second) == auc_difference(labels[known], first[known], second[known])


def test_equal_rankings_do_not_differ():
    labels, (probabilities,) = sample(2)
    found = auc_difference(labels, probabilities, probabilities**2)
    assert (found.difference, found.standard_error, found.low, found.high, found.p_value) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1]),  # perfect ranking: the formula gives a variance of 0
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]),
        ([1, 0, 0, 0], [0.5, 0.8, 0.2, 0.1]),  # one positive
        ([1, 1, 1, 0], [0.5, 0.8, 0.2, 0.4]),  # one negative
        ([0, 0, 0], [0.5, 0.8, 0.2]),
        ([np.nan, np.nan], [0.5, 0.8]),
    ],
)
def test_an_undefined_standard_error_is_nan(labels, probabilities):
    labels, probabilities = np.array(labels, dtype=float), np.array(probabilities)
    interval = auc_interval(labels, probabilities)
    assert np.isnan([interval.standard_error, interval.low, interval.high]).all()
    assert np.isnan(interval.roc_auc) == (not ((labels == 1).any() and (labels == 0).any()))
    if (labels == 1).sum() != 2:
        assert np.isnan(auc_difference(labels, probabilities, 1 - probabilities).p_value)


def test_a_difference_without_variance_has_no_p_value():
    labels, perfect = np.array([1, 1, 0, 0]), np.array([0.9, 0.8, 0.2, 0.1])
    found = auc_difference(labels, perfect, 1 - perfect)
    assert found.difference == -1
    assert np.isnan([found.standard_error, found.low, found.high, found.p_value]).all()


def test_the_bootstrap_agrees_if_each_patient_has_one_image(make_predictions):
    labels, (probabilities,) = sample(3, images=1500)
    scores = make_predictions(labels[:, None], probabilities[:, None]).bootstrap(2000)
    interval = auc_interval(labels, probabilities)
    assert scores.replicates["roc_auc"].std() == pytest.approx(interval.standard_error, rel=0.06)
    low, high = scores.interval("roc_auc")
    assert low[0] == pytest.approx(interval.low, abs=0.003)
    assert high[0] == pytest.approx(interval.high, abs=0.003)


def test_wrong_arguments_are_errors():
    labels, (probabilities,) = sample(4)
    with pytest.raises(HilumError, match="confidence is 1"):
        auc_interval(labels, probabilities, confidence=1)
    with pytest.raises(HilumError, match="expected one of each per image"):
        auc_difference(labels, probabilities, probabilities[:5])
