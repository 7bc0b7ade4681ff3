"""Differences of scores: interval and p-value agree, are those of the textbook, and claim nothing from little."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_recall_curve

from hilum.errors import HilumError
from hilum.metrics import comparison
from hilum.metrics.comparison import (
    COMPARED_SCORES,
    MATCHED,
    adjusted_over_targets,
    bound_zero_difference,
    conclude,
    mean_over_targets,
    models_difference,
    pooled_degrees_of_freedom,
    replicate_error,
    settings_difference,
)
from hilum.metrics.intervals import patient_weights
from hilum.metrics.predictions import Predictions


def two_runs(images: int = 240, seed: int = 3, targets: int = 1) -> tuple:
    """Labels and probabilities of two runs (2, N, T), patients of two images each, thresholds."""
    draw = np.random.default_rng(seed)
    labels = (draw.random((images, targets)) < 0.3).astype(np.float32)
    logits = 1.5 * labels - 0.5 + draw.normal(size=(2, images, targets))
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return np.stack([labels, labels]), probabilities, np.arange(images) // 2, np.full((2, targets), 0.5)


def score_runs(labels, probabilities, patients, thresholds, matched_to, **settings):
    """The scores of runs that are given as arrays, (S, N, T)."""
    runs = [
        Predictions(
            y_true=labels[run],
            y_score=probabilities[run],
            image_ids=np.arange(len(patients)),
            patients=patients,
            targets=[f"target {place}" for place in range(labels.shape[2])],
            thresholds=thresholds[run],
        )
        for run in range(len(labels))
    ]
    return comparison.score_runs(runs, matched_to, **settings)


def of_first_target(scores, score):
    degrees = float(scores.patients[score][:, 0].min() - 1)
    return scores.estimate[score][:, 0], scores.replicates[score][:, :, 0], degrees


def best_recall(labels, probabilities, precision):
    """By scikit-learn's curve; its last point, recall 0, is there by convention only."""
    precisions, recalls, _ = precision_recall_curve(labels, probabilities)
    return max(recalls[:-1][precisions[:-1] >= precision], default=math.nan)


@pytest.mark.parametrize("difference", [-0.3, -0.02, 0.0, 0.0391, 0.0393, 0.2])
@pytest.mark.parametrize("degrees", [2.0, 9.5, 500.0])
def test_the_interval_leaves_out_zero_exactly_where_p_is_below_five_percent(difference, degrees):
    of = conclude("recall", 0.5, 0.5 + difference, 0.02, degrees)
    assert (of.low > 0 or of.high < 0) == (of.p_value < 0.05)
    assert (of.verdict != "no evidence") == (of.p_value < 0.05)
    assert of.difference == pytest.approx(difference)


def test_interval_and_p_value_are_those_of_a_t_test():
    draw = np.random.default_rng(0)
    sample = draw.normal(0.04, 0.1, 12)
    of = conclude("recall", 0.0, sample.mean(), stats.sem(sample), 11)
    expected = stats.ttest_1samp(sample, 0.0)
    assert of.p_value == pytest.approx(expected.pvalue)
    assert (of.low, of.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_an_interval_ends_where_scores_end():
    of = conclude("recall", 0.2, 0.6, 0.5, 1.0)
    assert (of.low, of.high) == (-1, 1)


def test_the_detectable_difference_is_found_with_a_chance_of_four_in_five():
    of = conclude("roc_auc", 0.5, 0.5, 1.0, math.inf)
    assert of.detectable == pytest.approx(2.8, abs=0.005)
    draw = np.random.default_rng(1)
    found = [
        conclude("roc_auc", 0, shift, 1.0, math.inf).p_value < 0.05
        for shift in draw.normal(of.detectable, 1, 2000)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("score", "difference", "verdict"),
    [
        ("recall", 0.2, "better"),
        ("recall", -0.2, "worse"),
        ("predicted_positive_rate", 0.2, "higher"),
        ("predicted_positive_rate", -0.2, "lower"),
        ("precision", 0.001, "no evidence"),
    ],
)
def test_verdicts_in_words(score, difference, verdict):
    assert conclude(score, 0.5, 0.5 + difference, 0.02, 100).verdict == verdict


def test_a_run_beside_itself_differs_by_nothing_at_all():
    labels, probabilities, patients, thresholds = two_runs()
    probabilities = np.stack([probabilities[0], probabilities[0]])
    scores = score_runs(labels, probabilities, patients, thresholds, [[0], [0]], replicates=100)
    for score in COMPARED_SCORES:
        of = models_difference(score, *of_first_target(scores, score), [0], [1])
        assert (of.difference, of.low, of.high, of.standard_error) == (0, 0, 0, 0)
        assert of.p_value == 1
        assert of.verdict == "no evidence"


def test_the_standard_error_is_that_of_the_paired_bootstrap():
    labels, probabilities, patients, thresholds = two_runs()
    scores = score_runs(labels, probabilities, patients, thresholds, [[0], [0]], replicates=300, seed=5)
    of = models_difference("recall", *of_first_target(scores, "recall"), [0], [1])
    differences = []
    for weights in patient_weights(patients.max() + 1, 300, 5):
        positive = np.repeat(weights, 2) * (labels[0, :, 0] == 1)
        found = [positive @ (run[:, 0] >= np.float32(0.5)) / positive.sum() for run in probabilities]
        differences.append(found[1] - found[0])
    assert of.standard_error == pytest.approx(np.std(differences, ddof=1), abs=1e-9)
    # Paired: below what two independent samples of patients would give.
    alone = [scores.replicates["roc_auc"][:, run, 0].var(ddof=1) for run in range(2)]
    of = models_difference("roc_auc", *of_first_target(scores, "roc_auc"), [0], [1])
    assert of.degrees_of_freedom == scores.patients["roc_auc"].min() - 1
    assert 0 < of.standard_error < 1.1 * math.sqrt(sum(alone))


def test_recall_at_matched_precision_is_that_of_scikit_learns_curve():
    labels, probabilities, patients, thresholds = two_runs()
    probabilities = probabilities.round(2)  # ties
    scores = score_runs(labels, probabilities, patients, thresholds, [[0], [0]], replicates=50, seed=2)
    precision = scores.estimate["precision"][0, 0]
    for run in range(2):
        expected = best_recall(labels[0, :, 0], probabilities[run, :, 0], precision)
        assert scores.estimate[MATCHED][run, 0] == pytest.approx(expected)
    for number, weights in enumerate(patient_weights(patients.max() + 1, 50, 2)[:10]):
        rows = np.repeat(np.arange(len(patients)), np.repeat(weights, 2))
        precision = scores.replicates["precision"][number, 0, 0]
        expected = best_recall(labels[0, rows, 0], probabilities[1, rows, 0], precision - 1e-12)
        assert scores.replicates[MATCHED][number, 1, 0] == pytest.approx(expected)


def test_a_precision_that_the_other_side_never_reaches_is_not_available():
    labels = np.array([1, 1, 0, 0, 1, 0, 0, 0], dtype=np.float32)
    good, bad = labels * 0.8 + 0.1, 0.9 - labels * 0.8
    stacked = np.stack([good, bad])[:, :, None].astype(np.float32)
    scores = score_runs(
        np.stack([labels, labels])[:, :, None], stacked, np.arange(8), np.full((2, 1), 0.5), [[0], [0]]
    )
    of = models_difference(MATCHED, *of_first_target(scores, MATCHED), [0], [1])
    assert of.verdict == "n/a"
    assert of.reason == "the other side reaches the reference's precision at no threshold"


@pytest.mark.parametrize(
    ("positives", "score", "reason"),
    [
        (0, "recall", "no patient has a positive image"),
        (0, "roc_auc", "no patient has a positive image, or a negative one"),
        (0, "precision", "no image is positive, or the reference predicts none to be"),
        (1, "recall", "only one patient has a positive image"),
        (8, "specificity", "no patient has a negative image"),
    ],
)
def test_what_is_undefined_says_why(positives, score, reason):
    labels = (np.arange(8) < positives).astype(np.float32)
    stacked = np.stack([labels, labels])[:, :, None]
    probabilities = np.linspace(0.2, 0.9, 16, dtype=np.float32).reshape(2, 8, 1)
    scores = score_runs(
        stacked, probabilities, np.arange(8), np.full((2, 1), 0.5), [[0], [0]], replicates=100
    )
    of = models_difference(score, *of_first_target(scores, score), [0], [1])
    assert (of.verdict, of.reason) == ("n/a", reason)
    assert math.isnan(of.p_value)


def test_nothing_predicted_positive_leaves_no_precision_to_compare():
    labels, probabilities, patients, thresholds = two_runs()
    thresholds[1] = 1.0
    scores = score_runs(labels, probabilities, patients, thresholds, [[0], [0]], replicates=100)
    of = models_difference("precision", *of_first_target(scores, "precision"), [0], [1])
    assert of.reason == "no image is positive, or the other side predicts none to be"


@pytest.mark.parametrize("positives", [2, 3, 4, 5])
def test_a_handful_of_patients_proves_nothing_even_if_all_agree(positives):
    labels = np.array([1] * positives + [0] * 40, dtype=np.float32)
    probabilities = np.full((2, len(labels), 1), 0.1, dtype=np.float32)
    probabilities[1, :positives] = 0.9
    scores = score_runs(
        np.stack([labels, labels])[:, :, None],
        probabilities,
        np.arange(len(labels)),
        np.full((2, 1), 0.5),
        [[0], [0]],
        replicates=200,
    )
    of = models_difference("recall", *of_first_target(scores, "recall"), [0], [1])
    assert of.difference == 1
    # The sign test: of n patients all for the one model, 2 / 2**n.
    assert of.p_value == pytest.approx(stats.binomtest(positives, positives).pvalue)
    assert of.low < 0
    assert of.verdict == "no evidence"


def test_p_values_are_corrected_over_targets_and_verdicts_follow():
    p_values = {"a": 0.01, "b": 0.03, "c": 0.04, "d": 0.6}
    of_targets = {
        name: conclude("recall", 0.0, float(stats.norm.isf(p / 2)), 1.0, math.inf)
        for name, p in p_values.items()
    }
    of_targets["e"] = conclude("recall", 0.0, math.nan, math.nan, 5)
    of_targets["e"] = of_targets["e"].__class__(math.nan, math.nan, reason="no patient has a positive image")
    corrected = adjusted_over_targets("recall", of_targets)
    # By hand: p x 4 / rank, made to rise from the last: .04, .0533, .0533, .6
    assert [corrected[name].p_adjusted for name in "abcd"] == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.6])
    assert [corrected[name].verdict for name in "abcde"] == ["better", *["no evidence"] * 3, "n/a"]
    assert corrected["b"].p_value == pytest.approx(0.03)


def test_the_mean_over_targets_leaves_out_what_a_sample_has_not_got():
    labels, probabilities, patients, thresholds = two_runs(targets=3)
    labels[:, :, 2] = 0
    labels[:, 0, 2] = 1  # one positive patient: a third of the samples have none
    scores = score_runs(labels, probabilities, patients, thresholds, [[0], [0]], replicates=100)
    values, replicated = mean_over_targets(scores, "recall", [0, 1, 2])
    assert values == pytest.approx(scores.estimate["recall"].mean(axis=1))
    assert np.isnan(scores.replicates["recall"][:, 0, 2]).any()
    assert replicated == pytest.approx(np.nanmean(scores.replicates["recall"], axis=2))
    values, replicated = mean_over_targets(scores, "recall", [])
    assert np.isnan(values).all()
    assert np.isnan(replicated).all()
    of = models_difference("recall", values, replicated, pooled_degrees_of_freedom([], 9), [0], [1])
    assert of.reason == "no target has it"


def test_degrees_of_freedom_of_a_mean_are_pooled_by_variance():
    equal = [conclude("recall", 0, 0, 0.1, 9.0)] * 3
    assert pooled_degrees_of_freedom(equal, 1000) == pytest.approx(27)
    assert pooled_degrees_of_freedom(equal, 11) == 10
    one_dominates = [conclude("recall", 0, 0, 1.0, 4.0), conclude("recall", 0, 0, 0.001, 900.0)]
    assert pooled_degrees_of_freedom(one_dominates, 1000) == pytest.approx(4, abs=0.01)


def test_an_error_needs_half_of_the_samples():
    assert math.isnan(replicate_error(np.array([1.0, 2.0, math.nan, math.nan, math.nan])))
    assert replicate_error(np.array([1.0, 3.0, math.nan])) == pytest.approx(math.sqrt(2))


def test_images_that_a_run_did_not_evaluate_do_not_count_for_it():
    labels, probabilities, patients, thresholds = two_runs()
    halved = labels.copy()
    halved[1, 120:] = np.nan
    scores = score_runs(halved, probabilities, patients, thresholds, [[0], [1]], replicates=50)
    alone = score_runs(
        labels[:, :120], probabilities[:, :120], patients[:120], thresholds, [[0], [1]], replicates=50
    )
    for score in COMPARED_SCORES:
        assert scores.estimate[score][1] == pytest.approx(alone.estimate[score][1])


def test_probabilities_that_are_none_are_refused():
    labels, probabilities, patients, thresholds = two_runs()
    probabilities[1, 4] = np.nan
    with pytest.raises(HilumError, match="not finite numbers from 0 to 1"):
        score_runs(labels, probabilities, patients, thresholds, [[0], [0]], replicates=50)


def test_two_equal_models_are_told_apart_no_more_often_than_five_percent():
    claimed = 0
    for simulation in range(200):
        labels, probabilities, patients, thresholds = two_runs(seed=1000 + simulation)
        scores = score_runs(
            labels, probabilities, patients, thresholds, [[0], [0]], replicates=100, seed=simulation
        )
        of = models_difference("roc_auc", *of_first_target(scores, "roc_auc"), [0], [1])
        claimed += of.p_value <= 0.05
    assert 2 <= claimed <= 20  # within 4 standard deviations of 10, above 0


def test_no_difference_in_n_patients_is_not_certainty():
    certain = conclude("recall", 0.9, 0.9, 0.0, 8)
    assert (certain.low, certain.high, certain.detectable) == (0, 0, 0)
    of = bound_zero_difference(certain)
    # The upper bound of 0 of 9, as Clopper and Pearson have it.
    bound = stats.binomtest(0, 9).proportion_ci(0.95, method="exact").high
    assert (of.low, of.high) == pytest.approx((-bound, bound))
    assert of.detectable > bound
    assert (of.difference, of.p_value, of.verdict) == (0, 1, "no evidence")


def test_a_difference_with_an_error_stays_as_it_is():
    for of in (conclude("recall", 0.9, 0.8, 0.1, 8), conclude("recall", 0.9, 0.9, 0.1, 8)):
        assert bound_zero_difference(of) is of


SCORES = ("recall", "roc_auc", "avg_precision")


def test_with_patients_that_do_not_matter_it_is_welchs_test():
    values = np.array([0.80, 0.83, 0.79, 0.84, 0.86, 0.85, 0.90])
    replicates = np.tile(values, (200, 1))  # other patients would change nothing
    of = settings_difference("recall", values, replicates, 500, [0, 1, 2], [3, 4, 5, 6])
    expected = stats.ttest_ind(values[3:], values[:3], equal_var=False)
    assert of.p_value == pytest.approx(expected.pvalue)
    assert of.degrees_of_freedom == pytest.approx(expected.df)
    assert (of.low, of.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_pairs_by_seed_with_patients_that_do_not_matter_are_the_paired_t_test():
    values = np.array([0.80, 0.83, 0.79, 0.84, 0.86, 0.80])
    of = settings_difference(
        "recall", values, np.tile(values, (200, 1)), 500, [0, 1, 2], [3, 4, 5], paired=True
    )
    assert of.p_value == pytest.approx(stats.ttest_rel(values[3:], values[:3]).pvalue)


def test_what_all_seeds_of_a_side_share_with_their_patients_is_added_once():
    draw = np.random.default_rng(2)
    shared, own = draw.normal(0, 0.03, (20_000, 2)), draw.normal(0, 0.02, (20_000, 8))
    replicates = 0.8 + shared.repeat(4, axis=1) + own
    values = 0.8 + np.tile([-0.015, -0.005, 0.005, 0.015], 2)
    of = settings_difference("recall", values, replicates, 1e6, [0, 1, 2, 3], [4, 5, 6, 7])
    # s² / n a side from the values; 0.03² a side from what is shared; nothing more of 0.02².
    expected = 2 * values[:4].var(ddof=1) / 4 + 2 * 0.03**2
    assert of.standard_error**2 == pytest.approx(expected, rel=0.03)


def test_seeds_that_score_exactly_alike_leave_the_uncertainty_of_the_patients():
    draw = np.random.default_rng(4)
    replicates = 0.5 + draw.normal(0, 0.1, (500, 4))
    values = np.array([0.4, 0.4, 0.6, 0.6])
    of = settings_difference("recall", values, replicates, 20, [0, 1], [2, 3])
    alone = models_difference("recall", values, replicates, 20, [0, 1], [2, 3])
    assert of.standard_error == pytest.approx(alone.standard_error)
    assert of.p_value > 0.01


def test_equal_scores_everywhere_differ_by_nothing():
    values = np.full(4, 0.7)
    of = settings_difference("recall", values, np.tile(values, (100, 1)), 20, [0, 1], [2, 3])
    assert (of.difference, of.p_value, of.verdict) == (0, 1, "no evidence")


def test_a_score_that_one_seed_has_not_got_is_not_available():
    values = np.array([0.7, np.nan, 0.8, 0.9])
    of = settings_difference("precision", values, np.tile(values, (100, 1)), 20, [0, 1], [2, 3])
    assert (of.verdict, of.reason) == ("n/a", "not every seed's model has this score")
    values = np.array([0.7, 0.7, 0.8, 0.9])
    of = settings_difference("recall", values, np.tile(values, (100, 1)), 0, [0, 1], [2, 3])
    assert (of.verdict, of.reason) == ("n/a", "too few patients have what it counts")


def simulated(number: int, gain: float, seed_skill: float, model_noise: float) -> dict[str, bool]:
    """Whether a difference is claimed between settings of 5 seeds each, on the same 150 patients."""
    draw = np.random.default_rng([9, number])
    patients = np.repeat(np.arange(150), 2)
    truth = (draw.random(300) < 0.3).astype(np.float32)
    difficulty = (draw.normal(size=150)[patients] + draw.normal(size=300)) / np.sqrt(2)
    logits = [
        (1.5 + gain * (run >= 5) + seed_skill * draw.normal()) * truth
        - 1
        + difficulty
        + model_noise * draw.normal(size=300)
        for run in range(10)
    ]
    probabilities = (1 / (1 + np.exp(-np.stack(logits)))).astype(np.float32)[:, :, None]
    scores = score_runs(
        np.tile(truth[None, :, None], (10, 1, 1)),
        probabilities,
        patients,
        np.full((10, 1), 0.5),
        [range(5)] * 10,
        replicates=100,
        seed=number,
    )
    claimed = {}
    for score in SCORES:
        of = settings_difference(
            score,
            scores.estimate[score][:, 0],
            scores.replicates[score][:, :, 0],
            float(scores.patients[score].min() - 1),
            range(5),
            range(5, 10),
        )
        claimed[score] = of.p_value <= 0.05
    return claimed


@pytest.mark.parametrize(
    ("seed_skill", "model_noise"),
    [(0.5, 0.2), (0.0, 0.8)],
    ids=["seeds dominate", "patients dominate"],
)
def test_equal_settings_are_told_apart_in_about_five_percent(seed_skill, model_noise):
    claims = [simulated(number, 0.0, seed_skill, model_noise) for number in range(200)]
    for score in SCORES:
        # 200 draws at 5 %: between 1 and 21 in 99.9 % of such tests.
        assert 1 <= sum(claimed[score] for claimed in claims) <= 21


def test_a_real_difference_between_settings_is_found():
    claims = [simulated(number, 0.8, 0.15, 0.5) for number in range(20)]
    assert sum(claimed["roc_auc"] for claimed in claims) >= 18
    assert sum(claimed["recall"] for claimed in claims) >= 16


def test_the_verdict_is_in_the_same_words_as_about_models():
    assert conclude("recall", 0.1, 0.9, 0.01, 8).verdict == "better"
