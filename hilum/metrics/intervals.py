"""Scores with their intervals over patients, as reports and evaluations show them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hilum.metrics.bootstrap import ScoreReplicates, score_replicates
from hilum.metrics.resampling import patient_weights, percentile_interval
from hilum.metrics.scores import COMBINED_COLUMNS, combined_scores, rank_targets, scores_of_rankings

#: The scores that get `<score>_low` and `<score>_high`, the most important first.
SCORES_WITH_INTERVALS = (
    "recall",
    "roc_auc",
    "precision",
    "specificity",
    "f1",
    "avg_precision",
    "predicted_positive_rate",
)


def scores_with_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    targets: Sequence[str],
    thresholds: Sequence[float],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The scores of each target at its threshold, with 95 % intervals over patients.

    Args:
        labels: (N, T), 1 positive, 0 negative, NaN unknown.
        probabilities: (N, T) from 0 to 1.
        patients: (N,) whose image it is.
        targets: (T,) names.
        thresholds: (T,) a probability >= the threshold is a positive prediction.
        replicates: of the patient bootstrap, see `hilum.metrics.bootstrap`.
        seed: of its draws.

    Returns:
        The columns of `hilum.metrics.scores.itemized_scores`, then `false_positives`, `false_negatives`,
        `true_negatives` (int64), `specificity`, `predicted_positive_rate`, the `<score>_low` and
        `<score>_high` of `SCORES_WITH_INTERVALS` (NaN where the score is undefined, or rests on fewer
        than two patients), and `lack`: why scores are undefined, or "".

    Raises:
        HilumError: as `itemized_scores` and `score_replicates`.
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    rankings = rank_targets(np.asarray(labels), np.asarray(probabilities), targets)
    table = scores_of_rankings(rankings, thresholds)
    table["false_positives"] = table["predicted_positives"] - table["true_positives"]
    table["false_negatives"] = table["positives"] - table["true_positives"]
    table["true_negatives"] = table["negatives"] - table["false_positives"]
    bootstrap = score_replicates(
        labels, probabilities, patients, thresholds, replicates=replicates, seed=seed
    )
    for score in ("specificity", "predicted_positive_rate"):
        table[score] = bootstrap.estimate[score]
    for score in SCORES_WITH_INTERVALS:
        table[f"{score}_low"], table[f"{score}_high"] = bootstrap.interval(score)
    return table.assign(lack=[ranking.lack() or "" for ranking in rankings.values()])


def mean_with_interval(bootstrap: ScoreReplicates, score: str) -> dict[str, float]:
    """The mean of a score over the targets that have it.

    Args:
        bootstrap: of `score_replicates`.
        score: its name.

    Returns:
        `mean`, and `low` and `high` of its 95 % percentile interval; NaN if no target has the score.
    """
    defined = np.isfinite(bootstrap.estimate[score])
    if not defined.any():
        return {"mean": np.nan, "low": np.nan, "high": np.nan}
    replicates = bootstrap.replicates[score][:, defined]
    # A sample in which a target has no positive has no mean over the same targets.
    low, high = percentile_interval(replicates.mean(axis=1, keepdims=True))
    mean = float(bootstrap.estimate[score][defined].mean())
    return {"mean": mean, "low": float(low[0]), "high": float(high[0])}


def combined_with_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    thresholds: Sequence[float],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """The scores of all targets together, averaged over images, with 95 % intervals over patients.

    Args:
        labels: (N, T), 1 positive, 0 negative, NaN unknown.
        probabilities: (N, T) from 0 to 1.
        patients: (N,) whose image it is.
        thresholds: (T,) a probability >= the threshold is a positive prediction.
        replicates: of the patient bootstrap (percentile intervals).
        seed: of its draws.

    Returns:
        The keys of `hilum.metrics.scores.combined_scores`, each with `<score>_low` and `<score>_high`
        beside it, which are NaN for fewer than two patients.
    """
    probabilities = np.asarray(probabilities)
    predicted = probabilities >= np.asarray(thresholds).astype(probabilities.dtype)
    found = dict(combined_scores(labels, predicted.astype(np.int8)))
    distinct, patient_of = np.unique(patients, return_inverse=True)
    sums = _patient_sums(np.asarray(labels), predicted, patient_of, len(distinct))
    drawn = patient_weights(len(distinct), replicates, seed).astype(np.float64) @ sums
    images, labelled = drawn[:, 0], drawn[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.stack(
            [1 - drawn[:, 2] / images, drawn[:, 3] / labelled, *(drawn[:, 4:] / images[:, None]).T], axis=1
        )
    low, high = percentile_interval(scores) if len(distinct) > 1 else (np.full(5, np.nan),) * 2
    for place, name in enumerate(COMBINED_COLUMNS):
        found[f"{name}_low"], found[f"{name}_high"] = float(low[place]), float(high[place])
    return found


def _patient_sums(
    labels: np.ndarray, predicted: np.ndarray, patient_of: np.ndarray, count: int
) -> np.ndarray:
    """(patients, 7) sums over each patient's images that have a known label.

    Images, known labels, images with a mistake, mistakes; then each image's recall, precision and F1.
    """
    known, actual = ~np.isnan(labels), labels == 1
    predicted = predicted & known
    wrong = actual != predicted
    hits = (actual & predicted).sum(axis=1)
    positives, predictions = actual.sum(axis=1), predicted.sum(axis=1)
    columns = np.column_stack(
        [
            np.ones(len(labels)),
            known.sum(axis=1),
            wrong.any(axis=1),
            wrong.sum(axis=1),
            # Where a denominator is 0 its numerator is 0 too: dividing by 1 instead gives the 0 that is meant.
            hits / np.maximum(positives, 1),
            hits / np.maximum(predictions, 1),
            2 * hits / np.maximum(positives + predictions, 1),
        ]
    )
    columns *= known.any(axis=1)[:, None]
    return np.stack([np.bincount(patient_of, column, minlength=count) for column in columns.T], axis=1)
