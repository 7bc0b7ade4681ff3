"""Claims about settings: right if seeds dominate, right if patients do, false no more often than they say."""

import numpy as np
import pytest
from scipy import stats

from hilum.metrics.comparison import conclude, models_difference, score_runs
from hilum.metrics.seeds import settings_difference

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
