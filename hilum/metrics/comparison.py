"""The difference between two models on the same patients: its size, its uncertainty, the detectable difference.

Both models are scored on the same bootstrap samples of patients, so what makes a patient easy or hard for both cancels
out (Efron & Tibshirani 1993, "An introduction to the bootstrap"; Field & Welsh 2007, doi
10.1111/j.1467-9868.2007.00593.x, for drawing patients and not images). The standard deviation of the difference over
the samples is its standard error. Interval and p-value come from one Student t distribution around it, so the interval
excludes 0 exactly where p < 0.05.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from hilum.metrics.intervals import cell_counts, patient_weights
from hilum.metrics.predictions import Predictions
from hilum.metrics.ranking import NAN

CONFIDENCE = 0.95
SIGNIFICANCE = 1 - CONFIDENCE
#: The probability of finding a true difference as large as the detectable one.
POWER = 0.8

MATCHED = "recall_at_matched_precision"
#: A higher value is neither better nor worse.
NEUTRAL_SCORES = ("predicted_positive_rate",)
#: The compared scores, the most important first.
COMPARED_SCORES = ("recall", "roc_auc", "precision", "specificity", *NEUTRAL_SCORES, MATCHED, "avg_precision")

NO_EVIDENCE = "no evidence"
NOT_AVAILABLE = "n/a"

#: Rounding of floating-point sums, far below one image in a thousand million.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ScoreDifference:
    """One score of two sides, and the conclusion about their difference.

    Attributes:
        reference, other: the scores of A and of B.
        difference: B - A.
        low, high: its 95 % interval, within -1 and 1.
        standard_error, degrees_of_freedom: of the t distribution of interval and p-value.
        p_value: two-sided, of no difference.
        p_adjusted: the p-value, corrected for the number of targets.
        detectable: the true difference that is found with a probability of 80 %; above 1 none can be.
        verdict: better, worse, no evidence or n/a; higher or lower for a neutral score.
        reason: why it is n/a.
    """

    reference: float
    other: float
    difference: float = NAN
    low: float = NAN
    high: float = NAN
    standard_error: float = NAN
    degrees_of_freedom: float = NAN
    p_value: float = NAN
    p_adjusted: float = NAN
    detectable: float = NAN
    verdict: str = NOT_AVAILABLE
    reason: str | None = None

    @property
    def is_defined(self) -> bool:
        """Whether the difference exists."""
        return self.verdict != NOT_AVAILABLE


def conclude(
    score: str, reference: float, other: float, standard_error: float, degrees_of_freedom: float
) -> ScoreDifference:
    """The conclusion from a difference and its standard error.

    The detectable difference is (t[0.975] + t[0.8]) x the standard error, 2.8 x with many degrees of freedom (Bloom
    1995, "Minimum detectable effects", doi 10.1177/0193841X9501900504).

    Args:
        score: its name, for the verdict.
        reference: A's score.
        other: B's score.
        standard_error: of B - A, 0 or more.
        degrees_of_freedom: above 0; infinity is the normal distribution.
    """
    difference = other - reference if abs(other - reference) >= _ROUNDING else 0.0
    if standard_error > 0:
        p_value = float(2 * stats.t.sf(abs(difference) / standard_error, degrees_of_freedom))
    else:
        p_value = 1.0 if difference == 0 else 0.0
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees_of_freedom))
    return ScoreDifference(
        float(reference),
        float(other),
        float(difference),
        low=float(max(difference - half * standard_error, -1.0)),
        high=float(min(difference + half * standard_error, 1.0)),
        standard_error=float(standard_error),
        degrees_of_freedom=float(degrees_of_freedom),
        p_value=p_value,
        p_adjusted=p_value,
        detectable=float((half + stats.t.ppf(POWER, degrees_of_freedom)) * standard_error),
        verdict=_verdict(score, difference, p_value),
    )


def bound_zero_difference(of: ScoreDifference) -> ScoreDifference:
    """The interval of a difference of exactly 0 between models that are not the same.

    If both are right and wrong about the same patients, the bootstrap samples do not vary, and their interval is 0 to
    0. But if none of n patients shows a difference, few do: with 95 % confidence fewer than 1 - 0.025 ** (1 / n) of
    them (Clopper & Pearson 1934, doi 10.1093/biomet/26.4.404), and the score differs by no more. A difference that is
    not 0, or has a standard error, is returned unchanged.
    """
    if not of.is_defined or of.difference != 0 or of.standard_error > 0:
        return of
    patients = of.degrees_of_freedom + 1
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, of.degrees_of_freedom))
    error = (1 - ((1 - CONFIDENCE) / 2) ** (1 / patients)) / half
    return conclude("", of.reference, of.other, error, of.degrees_of_freedom)


def undefined(reference: float, other: float, reason: str) -> ScoreDifference:
    """A difference that does not exist, and why."""
    return ScoreDifference(reference=float(reference), other=float(other), reason=reason)


def adjusted_over_targets(score: str, by_target: Mapping[str, ScoreDifference]) -> dict[str, ScoreDifference]:
    """The differences with p-values and verdicts corrected for the number of targets.

    The false discovery rate is kept at 5 % (Benjamini & Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x). Targets
    that are n/a do not count.
    """
    tested = {target: of for target, of in by_target.items() if of.is_defined}
    p_values = (
        stats.false_discovery_control([of.p_value for of in tested.values()]).tolist() if tested else []
    )
    return dict(by_target) | {
        target: replace(of, p_adjusted=p_value, verdict=_verdict(score, of.difference, p_value))
        for (target, of), p_value in zip(tested.items(), p_values, strict=True)
    }


def _verdict(score: str, difference: float, p_value: float) -> str:
    if not p_value <= SIGNIFICANCE:
        return NO_EVIDENCE
    if score in NEUTRAL_SCORES:
        return "higher" if difference > 0 else "lower"
    return "better" if difference > 0 else "worse"


@dataclass(frozen=True, eq=False)
class RunScores:
    """By score: `ScoreReplicates` of S runs, (S, T), (R, S, T) and (S, T), on the same samples of the patients."""

    estimate: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]


def score_runs(
    runs: Sequence[Predictions], matched_to: Sequence[Sequence[int]], *, replicates: int = 1000, seed: int = 0
) -> RunScores:
    """Scores several runs on the same patients and on the same bootstrap samples of them.

    Recall at matched precision is the highest recall at any threshold with at least the precision that the reference
    has at its frozen threshold. That precision, and the threshold that reaches it, are found again in each sample; a
    sample in which no threshold reaches it has recall 0, that of predicting nothing.

    Args:
        runs: S runs' predictions for the same images, row by row, and the same targets, at their frozen operating
            points. A label is NaN where it is unknown or the run did not evaluate the image.
        matched_to: for each run, the runs whose mean precision its recall is matched to.
        replicates: number of samples of the patients.
        seed: of the samples.
    """
    targets = len(runs[0].targets)
    together = Predictions(
        y_true=np.concatenate([run.y_true for run in runs], axis=1),
        y_score=np.concatenate([run.y_score for run in runs], axis=1),
        image_ids=runs[0].image_ids,
        patients=runs[0].patient_codes,
        targets=tuple(f"{target} of run {place}" for place, run in enumerate(runs) for target in run.targets),
        thresholds=np.concatenate([run.thresholds for run in runs]),
    )
    scored = together.bootstrap(replicates, seed)
    estimate, replicated, patients = {}, {}, {}
    for score in COMPARED_SCORES:
        if score != MATCHED:
            estimate[score] = scored.estimate[score].reshape(len(runs), targets)
            replicated[score] = scored.replicates[score].reshape(-1, len(runs), targets)
            patients[score] = scored.patients[score].reshape(len(runs), targets)
    estimate[MATCHED], replicated[MATCHED] = _matched_recalls(runs, matched_to, replicates, seed)
    patients[MATCHED] = patients["recall"]
    return RunScores(estimate, replicated, patients)


def models_difference(
    score: str,
    values: np.ndarray,
    replicates: np.ndarray,
    degrees_of_freedom: float,
    reference: Sequence[int],
    other: Sequence[int],
) -> ScoreDifference:
    """The claim about these trained models: would other patients show the difference, too?

    Args:
        score: its name.
        values: (S,) the score of each run.
        replicates: (R, S) the same over samples of the patients.
        degrees_of_freedom: number of patients behind the score, less one.
        reference: positions of A's runs, whose mean is compared.
        other: positions of B's.
    """
    of_reference, of_other = values[list(reference)].mean(), values[list(other)].mean()
    if not degrees_of_freedom >= 1 or math.isnan(of_reference) or math.isnan(of_other):
        return undefined(
            of_reference, of_other, _why_undefined(score, degrees_of_freedom, of_reference, of_other)
        )
    error = replicate_error(
        replicates[:, list(other)].mean(axis=1) - replicates[:, list(reference)].mean(axis=1)
    )
    if math.isnan(error):
        return undefined(of_reference, of_other, "most samples of the patients have no such score")
    error = max(error, least_error(of_other - of_reference, degrees_of_freedom))
    return conclude(score, of_reference, of_other, error, degrees_of_freedom)


def replicate_error(replicates: np.ndarray) -> float:
    """The standard deviation over samples (R,); NaN if fewer than half of them are defined."""
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < 2 or len(defined) * 2 < len(replicates):
        return NAN
    error = float(defined.std(ddof=1))
    return error if error > _ROUNDING else 0.0


def mean_over_targets(scores: RunScores, score: str, targets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The mean over some targets: (S,) of each run, and (R, S) over the samples of patients; NaN without targets.

    In a sample that draws no positive of a target, it is the mean of the other targets.
    """
    if not len(targets):
        return np.full_like(scores.estimate[score][:, 0], NAN), scores.replicates[score][:, :, 0] * NAN
    values = scores.estimate[score][:, list(targets)].mean(axis=1)
    replicated = scores.replicates[score][:, :, list(targets)]
    defined = np.isfinite(replicated)
    count = defined.sum(axis=2)
    total = np.where(defined, replicated, 0.0).sum(axis=2)
    return values, np.where(count > 0, total / np.maximum(count, 1), NAN)


def pooled_degrees_of_freedom(differences: Sequence[ScoreDifference], patients: int) -> float:
    """Of the mean of several targets' differences, each weighted by its variance; NaN without differences.

    Satterthwaite 1946 (doi 10.2307/3002019), at most `patients` - 1.
    """
    if not differences:
        return NAN
    variances = np.array([difference.standard_error**2 for difference in differences])
    each = np.array([difference.degrees_of_freedom for difference in differences])
    if not variances.sum() > 0:
        return float(patients - 1)
    return float(min(variances.sum() ** 2 / (variances**2 / each).sum(), patients - 1))


def least_error(difference: float, degrees_of_freedom: float) -> float:
    """The smallest standard error that few patients can justify.

    Exchanging the two models patient by patient has 2**n outcomes for n patients, so no exact test has a p-value below
    2**(1 - n); but the bootstrap samples of three patients who all agree do not vary at all.
    """
    least_p = 2.0**-degrees_of_freedom
    if difference == 0 or least_p < 1e-12:
        return 0.0
    return abs(difference) / float(stats.t.isf(least_p / 2, degrees_of_freedom))


def _why_undefined(score: str, degrees_of_freedom: float, reference: float, other: float) -> str:
    if math.isnan(degrees_of_freedom):
        return "no target has it"
    if score == "precision" and (math.isnan(reference) or math.isnan(other)):
        side = "the reference" if math.isnan(reference) else "the other side"
        return f"no image is positive, or {side} predicts none to be"
    if degrees_of_freedom < 1:
        needed = {
            "precision": "an image that is predicted positive",
            "specificity": "a negative image",
            "roc_auc": "a positive image, or a negative one",
            "predicted_positive_rate": "a known label",
        }.get(score, "a positive image")
        return f"{'no patient has' if degrees_of_freedom < 0 else 'only one patient has'} {needed}"
    if math.isnan(reference):
        return "the reference predicts no image positive, so it has no precision to match"
    return "the other side reaches the reference's precision at no threshold"


def _matched_recalls(
    runs: Sequence[Predictions], matched_to: Sequence[Sequence[int]], replicates: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Recall at matched precision, (S, T), and over samples of the patients, (R, S, T)."""
    targets, patient_count = len(runs[0].targets), runs[0].patient_count
    # The sample in row 0 is all patients, once each.
    weights = np.concatenate(
        [np.ones((1, patient_count), dtype=np.int16), patient_weights(patient_count, replicates, seed)]
    )
    recalls = np.full((len(weights), len(runs), targets), NAN)
    for target in range(targets):
        curves = [_PrecisionRecall(run, target, weights) for run in runs]
        reached = [
            curve.precision_at(run.thresholds[target]) for run, curve in zip(runs, curves, strict=True)
        ]
        for run, matched in enumerate(matched_to):
            precision = np.mean([reached[position] for position in matched], axis=0)
            recalls[:, run, target] = curves[run].recall_at_precision(precision)
    estimate = recalls[0]
    # Undefined in all samples where it is undefined on all patients; else 0 where no threshold reaches it.
    replicated = np.where(np.isnan(estimate) | ~np.isnan(recalls[1:]), recalls[1:], 0.0)
    return estimate, replicated


class _PrecisionRecall:
    """One run's precision and recall for one target at every threshold, on every sample of the patients.

    Recall rises only where a positive is reached, so images are counted in steps from one distinct probability of a
    positive to the next: there are few positives, and many images.
    """

    def __init__(self, run: Predictions, target: int, weights: np.ndarray) -> None:
        known = ~np.isnan(run.y_true[:, target])
        self.positive, self.y_score = run.y_true[known, target] == 1, run.y_score[known, target]
        self.codes, self.weights = run.patient_codes[known], weights
        self.steps = np.unique(self.y_score[self.positive])[::-1]
        if not len(self.steps):
            return
        # The first step at or below each image's probability; below the last one nothing more is found.
        step = np.searchsorted(-self.steps, -self.y_score, side="left")
        inside = step < len(self.steps)
        cells = 2 * step[inside] + self.positive[inside]
        counts = cell_counts(weights, self.codes[inside], cells, 2 * len(self.steps))
        self.found = np.cumsum(counts[:, 1::2], axis=1)
        self.predicted = self.found + np.cumsum(counts[:, ::2], axis=1)

    def precision_at(self, threshold: float) -> np.ndarray:
        """(samples,) at a frozen threshold; NaN where nothing is predicted positive."""
        reached = self.y_score >= self.y_score.dtype.type(threshold)
        cells = self.positive[reached].astype(np.int64)
        counts = cell_counts(self.weights, self.codes[reached], cells, 2)
        predicted = counts.sum(axis=1)
        return np.where(predicted > 0, counts[:, 1] / np.maximum(predicted, 1), NAN)

    def recall_at_precision(self, precision: np.ndarray) -> np.ndarray:
        """(samples,) the highest recall with at least this precision (samples,); NaN if no threshold has it."""
        if not len(self.steps):
            return np.full(len(precision), NAN)
        enough = self.found >= (precision[:, None] - _ROUNDING) * self.predicted
        enough &= self.found > 0
        positives = self.found[:, -1]
        best = np.where(enough, self.found, 0.0).max(axis=1)
        return np.where(best > 0, best / np.maximum(positives, 1), NAN)


def settings_difference(
    score: str,
    values: np.ndarray,
    replicates: np.ndarray,
    patient_degrees_of_freedom: float,
    reference: Sequence[int],
    other: Sequence[int],
    *,
    paired: bool = False,
) -> ScoreDifference:
    """The claim about two settings: would other seeds and other patients show the difference, too?

    Args:
        score: its name.
        values: (S,) the score of each run.
        replicates: (R, S) the same over samples of the patients, the same samples for all runs.
        patient_degrees_of_freedom: number of patients behind the score, less one.
        reference: positions of A's runs, at least two, of different seeds.
        other: positions of B's; if paired, in the order of the seeds of A.
        paired: whether each seed has its own patients.
    """
    of_reference, of_other = values[list(reference)], values[list(other)]
    means = of_reference.mean(), of_other.mean()
    if np.isnan(means).any():
        return undefined(*means, "not every seed's model has this score")
    sampled_reference, sampled_other = replicates[:, list(reference)], replicates[:, list(other)]
    if paired:
        groups = [(of_other - of_reference, sampled_other - sampled_reference)]
    else:
        groups = [(of_reference, sampled_reference), (of_other, sampled_other)]
    error = replicate_error(sampled_other.mean(axis=1) - sampled_reference.mean(axis=1))
    if math.isnan(error) or patient_degrees_of_freedom < 1:
        return undefined(*means, "too few patients have what it counts")
    error = max(error, least_error(means[1] - means[0], patient_degrees_of_freedom))
    seeds = [float(of_group.var(ddof=1)) / len(of_group) for of_group, _ in groups]
    own = sum(_variance_of_deviations(sampled) / sampled.shape[1] for _, sampled in groups)
    # Equal scores of all seeds, as with few positives, do not show how much seeds vary.
    shared = max(error**2 - own, 0.0) if any(seeds) else error**2
    parts = [*zip(seeds, [len(of_group) - 1 for of_group, _ in groups], strict=True)]
    degrees = _satterthwaite([*parts, (shared, patient_degrees_of_freedom)])
    return conclude(score, *means, math.sqrt(sum(seeds) + shared), degrees)


def _variance_of_deviations(sampled: np.ndarray) -> float:
    """Variance over samples (R, n) of a seed's deviation from the mean of the n seeds."""
    deviations = sampled - sampled.mean(axis=1, keepdims=True)
    return float(np.nanvar(deviations, axis=0, ddof=1).sum() / (sampled.shape[1] - 1))


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each (variance, degrees of freedom)."""
    total = sum(part for part, _ in parts)
    if total == 0:
        return float(min(degrees for _, degrees in parts))
    return total**2 / sum(part**2 / degrees for part, degrees in parts)
