"""Replicates are the scores of the drawn patients' images; intervals cover the truth at their confidence."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from hilum.errors import HilumError
from hilum.metrics import itemized_scores
from hilum.metrics.intervals import (
    REPLICATED_SCORES,
    ScoreReplicates,
    _weight_dtype,
    cell_counts,
    patient_weights,
    percentile_interval,
    wilson_interval,
)
from hilum.metrics.predictions import Predictions

THRESHOLDS = np.array([0.5, 0.2, 0.7])


def predictions(y_true, y_score, patients, thresholds, targets=None):
    """These arrays as one object; targets are numbered unless given."""
    return Predictions(
        y_true=y_true,
        y_score=y_score,
        image_ids=np.arange(len(y_true)),
        patients=patients,
        targets=targets or [str(column) for column in range(len(thresholds))],
        thresholds=thresholds,
    )


def bootstrap(y_true, y_score, patients, thresholds, replicates=1000, seed=0):
    """The bootstrap of these arrays."""
    return predictions(y_true, y_score, patients, thresholds).bootstrap(replicates, seed)


def sample(seed=0, images=300, patients=90, ties=None, unknown=0.0, dtype=np.float32):
    draw = np.random.default_rng(seed)
    labels = (draw.random((images, 3)) < [0.1, 0.4, 0.8]).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-(draw.normal(size=labels.shape) + labels)))
    if ties:
        probabilities = np.round(probabilities * ties) / ties
    labels[draw.random(labels.shape) < unknown] = np.nan
    return labels, probabilities.astype(dtype), draw.integers(1000, 1000 + patients, images)


def by_scikit_learn(labels, probabilities, threshold):
    known = ~np.isnan(labels)
    labels, probabilities = labels[known], probabilities[known]
    predicted = probabilities >= probabilities.dtype.type(threshold)
    return {
        "recall": reference.recall_score(labels, predicted, zero_division=np.nan),
        "precision": reference.precision_score(labels, predicted, zero_division=np.nan),
        "specificity": reference.recall_score(labels, predicted, pos_label=0, zero_division=np.nan),
        "f1": reference.f1_score(labels, predicted, zero_division=np.nan),
        "roc_auc": reference.roc_auc_score(labels, probabilities),
        "avg_precision": reference.average_precision_score(labels, probabilities),
        "predicted_positive_rate": predicted.mean(),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [None, 1, 5, 50])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_replicates_are_scikit_learns_scores_of_the_images_drawn(dtype, ties, unknown):
    labels, probabilities, patients = sample(1, ties=ties, unknown=unknown, dtype=dtype)
    scores = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=12, seed=5)
    distinct, patient_of = np.unique(patients, return_inverse=True)
    weights = patient_weights(len(distinct), 12, seed=5)
    for replicate in range(12):
        drawn = np.repeat(np.arange(len(labels)), weights[replicate][patient_of])
        for target, threshold in enumerate(THRESHOLDS):
            expected = by_scikit_learn(labels[drawn, target], probabilities[drawn, target], threshold)
            for score, value in expected.items():
                found = scores.replicates[score][replicate, target]
                assert found == pytest.approx(value, abs=1e-9, nan_ok=True), (score, target)


def test_estimates_are_the_scores_of_the_full_sample():
    labels, probabilities, patients = sample(2, ties=20, unknown=0.2)
    scores = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=0)
    itemized = itemized_scores(labels, probabilities, ["a", "b", "c"], THRESHOLDS)
    for score in ("recall", "precision", "f1", "roc_auc", "avg_precision"):
        np.testing.assert_array_equal(scores.estimate[score], itemized[score])
    for target, threshold in enumerate(THRESHOLDS):
        expected = by_scikit_learn(labels[:, target], probabilities[:, target], threshold)
        for score, value in expected.items():
            assert scores.estimate[score][target] == pytest.approx(value, abs=1e-12)
    assert set(scores.estimate) == set(scores.replicates) == set(REPLICATED_SCORES)


def test_more_than_one_block_of_replicates_and_each_its_own_draws():
    labels, probabilities, patients = sample(3)
    many = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=600, seed=1)
    few = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=20, seed=1)
    for score in REPLICATED_SCORES:
        assert many.replicates[score].shape == (600, 3)
        np.testing.assert_allclose(many.replicates[score][:20], few.replicates[score], rtol=0, atol=1e-12)
    assert len(np.unique(many.replicates["roc_auc"][:, 2])) == 600
    # The last one too is the draw of its number, wherever the blocks begin.
    distinct, patient_of = np.unique(patients, return_inverse=True)
    weights = patient_weights(len(distinct), 600, seed=1)
    np.testing.assert_array_equal(patient_weights(len(distinct), 2, seed=1, first=598), weights[598:])
    expected = reference.roc_auc_score(
        labels[:, 2], probabilities[:, 2], sample_weight=weights[599][patient_of]
    )
    assert many.replicates["roc_auc"][599, 2] == pytest.approx(expected, abs=1e-9)


def test_draws_depend_on_the_patients_and_the_seed_not_on_order_or_predictions():
    labels, probabilities, patients = sample(4)
    first = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=50, seed=3)
    order = np.random.default_rng(0).permutation(len(labels))
    named = np.char.add("patient", patients.astype(str))
    again = bootstrap(labels[order], probabilities[order], named[order], THRESHOLDS, replicates=50, seed=3)
    other_seed = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=50, seed=4)
    for score in REPLICATED_SCORES:
        np.testing.assert_allclose(first.replicates[score], again.replicates[score], rtol=0, atol=1e-12)
        assert (first.replicates[score] != other_seed.replicates[score]).any()
    # A second model on the same patients: recall's denominators, positives drawn, are those of the first.
    worse = bootstrap(labels, probabilities**2, patients, THRESHOLDS**2, replicates=50, seed=3)
    np.testing.assert_allclose(worse.replicates["recall"], first.replicates["recall"], rtol=0, atol=1e-12)


def test_a_patient_with_most_of_the_images_counts_as_often_as_drawn():
    images = 70_000
    draw = np.random.default_rng(0)
    labels = (draw.random((images, 1)) < 0.5).astype(np.float32)
    probabilities = draw.random((images, 1)).astype(np.float32)
    patients = np.minimum(np.arange(images), 300)
    scores = bootstrap(labels, probabilities, patients, [0.5], replicates=3, seed=0)
    weights = patient_weights(301, 3, seed=0)
    for replicate in range(3):
        weight = weights[replicate][patients].astype(np.float64)
        expected = reference.roc_auc_score(labels[:, 0], probabilities[:, 0], sample_weight=weight)
        assert scores.replicates["roc_auc"][replicate, 0] == pytest.approx(expected, abs=1e-9)


def test_counts_are_in_float32_only_where_it_holds_every_whole_number_that_may_come_up():
    assert _weight_dtype(np.array([0, 0, 1])) == np.float32
    # 256 patients, the largest of 2**16 images: drawn each time, its images would be 2**24.
    assert _weight_dtype(np.append(np.zeros(2**16, dtype=int), np.arange(1, 256))) == np.float64
    assert _weight_dtype(np.append(np.zeros(2**16, dtype=int), np.arange(1, 255))) == np.float32
    assert np.float32(2**24) + np.float32(1) == 2**24


def test_undefined_scores_are_nan_in_the_estimate_the_replicates_and_the_interval():
    labels, probabilities, patients = sample(5)
    labels[:, 0], labels[:, 1], labels[:, 2] = 0, 1, np.nan
    scores = bootstrap(labels, probabilities, patients, [0.5, 1.0, 0.5], replicates=20)
    for score in ("recall", "precision", "f1", "roc_auc", "avg_precision"):
        assert np.isnan(scores.estimate[score][0])
        assert np.isnan(scores.replicates[score][:, 0]).all()
        assert np.isnan(np.ravel(scores.interval(score))[[0, 3]]).all()
    assert np.isnan(scores.estimate["roc_auc"][1])
    assert np.isnan(scores.estimate["specificity"][1])
    assert np.isnan(scores.estimate["precision"][1])  # nothing reaches 1.0
    assert scores.estimate["recall"][1] == 0
    assert scores.estimate["f1"][1] == 0
    assert (scores.replicates["f1"][:, 1] == 0).all()
    for score in REPLICATED_SCORES:
        assert np.isnan(scores.estimate[score][2])
        assert np.isnan(scores.interval(score)[0][2])
    # Of all negatives, specificity has a value.
    assert np.isfinite(scores.interval("specificity")[0][0])


def test_one_patient_has_scores_but_no_interval():
    labels, probabilities, _ = sample(6)
    scores = bootstrap(labels, probabilities, np.zeros(len(labels)), THRESHOLDS, replicates=20)
    for score in REPLICATED_SCORES:
        assert np.isfinite(scores.estimate[score]).all()
        assert np.isnan(scores.interval(score)).all()


def test_positives_of_one_patient_give_no_interval_of_recall():
    labels, probabilities, patients = sample(7)
    labels[:, 0] = patients == patients[0]
    scores = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=50)
    for score in ("recall", "f1", "roc_auc", "avg_precision"):
        assert np.isnan(scores.interval(score)[0][0])
        assert np.isfinite(scores.interval(score)[0][1:]).all()


def test_all_of_three_positives_found_is_not_certainty():
    labels, probabilities = np.zeros((40, 1)), np.full((40, 1), 0.1)
    labels[:3], probabilities[:3] = 1, 0.9
    scores = bootstrap(labels, probabilities, np.arange(40), [0.5], replicates=200)
    wilson = stats.binomtest(3, 3).proportion_ci(method="wilson")
    for score in ("recall", "precision", "f1", "roc_auc", "avg_precision"):
        assert scores.estimate[score][0] == 1
        low, high = scores.interval(score)
        assert high[0] == 1
        assert low[0] == pytest.approx(wilson.low), score
    # Three images of each of three patients say no more than three images do.
    thrice = np.repeat(np.arange(40), 3)
    tripled = bootstrap(labels[thrice], probabilities[thrice], thrice, [0.5], replicates=200)
    assert tripled.interval("recall")[0][0] == pytest.approx(wilson.low)
    assert scores.interval("specificity")[0][0] == pytest.approx(
        stats.binomtest(37, 37).proportion_ci(method="wilson").low
    )


def test_recall_of_independent_images_has_wilsons_interval():
    draw = np.random.default_rng(3)
    labels = np.ones((400, 1))
    labels[200:] = 0
    probabilities = draw.random((400, 1))
    scores = bootstrap(labels, probabilities, np.arange(400), [0.2], replicates=4000)
    found = int((probabilities[:200] >= 0.2).sum())
    wilson = stats.binomtest(found, 200).proportion_ci(method="wilson")
    low, high = scores.interval("recall")
    assert low[0] == pytest.approx(wilson.low, abs=0.005)
    assert high[0] == pytest.approx(wilson.high, abs=0.005)


def test_intervals_hold_the_estimate_within_0_and_1_and_widen_with_confidence():
    labels, probabilities, patients = sample(8, images=120, patients=30)
    scores = bootstrap(labels, probabilities, patients, THRESHOLDS, replicates=300)
    for score in REPLICATED_SCORES:
        low, high = scores.interval(score)
        wider_low, wider_high = scores.interval(score, confidence=0.99)
        assert (low >= 0).all()
        assert (high <= 1).all()
        assert ((low <= scores.estimate[score]) & (scores.estimate[score] <= high)).all()
        assert (low < high).all()
        assert ((wider_low < low) & (high <= wider_high)).all()


def test_no_images_at_all_have_no_scores():
    empty = np.empty((0, 2))
    scores = bootstrap(empty, empty, np.empty(0), [0.5, 0.5], replicates=5)
    assert np.isnan(scores.estimate["roc_auc"]).all()
    assert np.isnan(scores.interval("recall")).all()


def test_an_unknown_score_or_confidence_is_refused():
    scores = bootstrap(*sample(), THRESHOLDS, replicates=2)
    with pytest.raises(HilumError, match=r"no score 'recal'\. Did you mean 'recall'\?"):
        scores.interval("recal")
    with pytest.raises(HilumError, match="confidence is 95"):
        scores.interval("recall", confidence=95)


TYPICAL_LOG_ODDS = np.array([-3.3, -0.6])
TARGETS_COVERED = ("rare", "common")


def clustered(patients, seed):
    """Patients with one to six images that look alike, of a rare and a common target."""
    draw = np.random.default_rng(seed)
    patient_of = np.repeat(np.arange(patients), draw.integers(1, 7, patients))
    illness, appearance = draw.normal(size=(2, patients, 2))
    odds = TYPICAL_LOG_ODDS + 2.5 * illness[patient_of]
    labels = (draw.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    logits = 1.2 * labels + 1.2 * appearance[patient_of] + 0.7 * draw.normal(size=odds.shape)
    return labels, (1 / (1 + np.exp(-logits))).astype(np.float32), patient_of


@pytest.fixture(scope="module")
def coverage():
    """Hits of 300 simulations: by method and score, (300, 2) bool."""
    thresholds = np.array([0.5, 0.5])
    truth = bootstrap(*clustered(200_000, seed=0), thresholds, replicates=0).estimate
    scores = ("roc_auc", "avg_precision", "recall", "precision")
    hits = {method: {score: [] for score in scores} for method in ("patients", "images")}

    def note(method, score, bounds):
        low, high = bounds
        hits[method][score].append((low <= truth[score]) & (truth[score] <= high))

    for seed in range(1, 301):
        labels, probabilities, patients = clustered(250, seed)
        found = bootstrap(labels, probabilities, patients, thresholds, replicates=300, seed=seed)
        images = np.arange(len(labels))
        by_image = bootstrap(labels, probabilities, images, thresholds, replicates=200, seed=seed)
        for score in scores:
            note("patients", score, found.interval(score))
            note("images", score, percentile_interval(by_image.replicates[score]))
    return hits


@pytest.mark.parametrize("score", ["roc_auc", "avg_precision", "recall", "precision"])
def test_intervals_hold_the_truth_as_often_as_they_say(coverage, score):
    # What 300 simulations of a coverage of 93 to 97 % show, but for one time in a thousand.
    least, most = stats.binom.ppf(0.001, 300, 0.93), stats.binom.ppf(0.999, 300, 0.97)
    by_patient, by_image = (np.sum(coverage[method][score], axis=0) for method in ("patients", "images"))
    for target, held in zip(TARGETS_COVERED, by_patient, strict=True):
        assert least <= held <= most, (target, held)
    # Drawing images, as if they were independent, is found out.
    assert by_image.min() < least


def test_replicates_are_kept_as_given():
    scores = bootstrap(*sample(), THRESHOLDS, replicates=2)
    assert isinstance(scores, ScoreReplicates)
    with pytest.raises(AttributeError):
        scores.pairs = None


def test_each_sample_draws_as_many_patients_as_there_are_and_depends_on_the_seed_alone():
    weights = patient_weights(50, 20, seed=3)
    assert weights.shape == (20, 50)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(weights, patient_weights(50, 20, seed=3))
    assert (weights != patient_weights(50, 20, seed=4)).any()
    np.testing.assert_array_equal(weights[:7], patient_weights(50, 7, seed=3))


def test_counts_are_those_of_every_image_repeated_as_often_as_its_patient():
    draw = np.random.default_rng(1)
    patients, cells = draw.integers(30, size=200), draw.integers(6, size=200)
    weights = patient_weights(30, 100, seed=0)
    counts = cell_counts(weights, patients, cells, 6)
    assert counts.shape == (100, 6)
    for sample in (0, 63, 64, 99):
        repeated = np.repeat(cells, weights[sample][patients])
        np.testing.assert_array_equal(counts[sample], np.bincount(repeated, minlength=6))


def test_the_interval_is_of_percentiles_and_undefined_where_most_samples_are():
    values = np.column_stack(
        [np.arange(101.0), np.full(101, np.nan), np.r_[np.full(40, np.nan), np.ones(61)]]
    )
    low, high = percentile_interval(values)
    np.testing.assert_allclose(low, [2.5, np.nan, 1])
    np.testing.assert_allclose(high, [97.5, np.nan, 1])
    assert percentile_interval(values, confidence=0.8)[0][0] == pytest.approx(10)


def test_wilsons_interval_is_scipys():
    shares, sizes = np.array([0.0, 0.2, 1.0]), np.array([5, 10, 3])
    low, high = wilson_interval(shares, sizes, confidence=0.9)
    for place, (share, size) in enumerate(zip(shares, sizes, strict=True)):
        expected = stats.binomtest(round(share * size), size).proportion_ci(0.9, method="wilson")
        assert (low[place], high[place]) == pytest.approx((expected.low, expected.high))
    assert wilson_interval(0.5, 7.5)[0] < 0.5  # a size that is not whole
