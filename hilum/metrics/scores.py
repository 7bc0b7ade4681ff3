"""The scores of one set of predictions: one row per target, and one number for all targets together.

Both are tested against scikit-learn. Where scikit-learn returns 0 for an undefined score, `itemized_scores` returns
NaN: a recall of 0 means that the model missed every positive, NaN that no image was positive.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.metrics.intervals import REPLICATED_SCORES, ScoreReplicates, patient_weights, percentile_interval
from hilum.metrics.predictions import Predictions
from hilum.metrics.ranking import NAN, Confusion, Ranking, check_labels, rank

#: The names of scores and counts in headings and sentences.
SCORE_NAMES = {
    "positives": "positives",
    "predicted_positives": "predicted positives",
    "true_positives": "true positives",
    "recall": "recall",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "specificity": "specificity",
    "f1": "F1",
    "avg_precision": "average precision",
    "predicted_positive_rate": "predicted positive",
    "recall_at_matched_precision": "recall at matched precision",
    "threshold": "threshold",
    "loss": "loss",
    "accuracy": "exact match",
    "hamming_loss": "Hamming loss",
}
#: Titles of the curves of all targets together, with an explanation.
COMBINED_TITLES = {
    "loss": "Loss",
    "accuracy": "Accuracy (all labels of an image right)",
    "hamming_loss": "Hamming loss (share of labels wrong)",
}

COUNT_COLUMNS = ("positives", "negatives", "predicted_positives", "true_positives")
SCORE_COLUMNS = ("recall", "precision", "f1", "roc_auc", "avg_precision", "threshold")
#: The columns of `itemized_scores`, in order.
ITEMIZED_COLUMNS = ("target", *COUNT_COLUMNS, *SCORE_COLUMNS)
#: The keys of `combined_scores`, in order.
COMBINED_COLUMNS = ("accuracy", "hamming_loss", "recall", "precision", "f1")

AVERAGES = ("samples", "micro", "macro", "weighted")

Table: TypeAlias = pd.DataFrame | np.ndarray


def score_title(score: str) -> str:
    """The title of a score's curve.

    >>> score_title("avg_precision"), score_title("roc_auc")
    ('Average precision', 'ROC AUC')
    """
    return COMBINED_TITLES.get(score, SCORE_NAMES[score][0].upper() + SCORE_NAMES[score][1:])


def rank_targets(y_true: Table, y_score: Table, targets: Sequence[str]) -> dict[str, Ranking]:
    """Target -> `Ranking`; see `itemized_scores` for the arguments."""
    labels, probabilities, ids = _aligned(y_true, y_score, list(targets), "y_score")
    return {
        target: rank(labels[:, column], probabilities[:, column], target, ids)
        for column, target in enumerate(targets)
    }


def itemized_scores(
    y_true: Table, y_score: Table, targets: Sequence[str], thresholds: Sequence[float]
) -> pd.DataFrame:
    """The scores of each target, over the images whose label for it is known.

    A target without positives has NaN for recall, precision, f1, roc_auc and avg_precision; a target without negatives
    has NaN for roc_auc; precision is NaN if nothing is predicted positive.

    Args:
        y_true: (N, T), 1 positive, 0 negative, NaN unknown.
        y_score: (N, T) probabilities from 0 to 1. Tables are read by the names of their columns.
        targets: (T,) names.
        thresholds: (T,) a probability >= the threshold is a positive prediction.

    Returns:
        One row per target: `target`, the counts `positives`, `negatives`, `predicted_positives`, `true_positives`
        (int64), and the scores `recall`, `precision`, `f1`, `roc_auc`, `avg_precision` (float64, 0..1), with the
        `threshold` of the first three.

    Raises:
        HilumError: shapes or indices that do not match, a label other than 1, 0 or NaN, a probability that is not
            finite or not from 0 to 1.

    >>> itemized_scores(np.array([[1], [0], [1]]), np.array([[0.9], [0.6], [0.2]]), ["Edema"], [0.5])["roc_auc"][0]
    np.float64(0.5)
    """
    if len(thresholds) != len(targets):
        raise HilumError(f"{len(thresholds)} thresholds for {len(targets)} targets; give one for each.")
    return scores_of_rankings(rank_targets(y_true, y_score, targets), thresholds)


def scores_of_rankings(
    rankings: Mapping[str, Ranking], thresholds: Sequence[float] | np.ndarray
) -> pd.DataFrame:
    """`itemized_scores` of targets that are already ranked."""
    rows = []
    for (target, ranking), threshold in zip(rankings.items(), thresholds, strict=True):
        at = ranking.confusion(threshold)
        counts = (ranking.positives, ranking.negatives, at.predicted_positives, at.true_positives)
        areas = (ranking.roc_auc(), ranking.average_precision())
        rows.append((target, *counts, at.recall, at.precision, at.f1, *areas, float(threshold)))
    return pd.DataFrame(rows, columns=list(ITEMIZED_COLUMNS))


def combined_scores(y_true: Table, y_pred: Table, average: str = "samples") -> dict[str, float]:
    """One number for all targets together, over the known labels.

    Images without a known label are left out. `accuracy` is the share of images whose known labels are all predicted
    right, and `hamming_loss` the share of known labels that are predicted wrong. Recall, precision and f1 are averaged

    - "samples": over images. An image without positives counts as 0, as with scikit-learn's `zero_division=0` and as in
      the founding document. Most images have few positives or none, so all three are low even for a good model.
    - "micro": all known labels counted together.
    - "macro": over the targets that have the score (see `itemized_scores`).
    - "weighted": as macro, each target weighted by its positives.

    Args:
        y_true: (N, T), 1 positive, 0 negative, NaN unknown.
        y_pred: (N, T), 1 or 0. Tables are read by the names of the columns of `y_true`.
        average: one of the four above; it changes neither accuracy nor Hamming loss.

    Returns:
        `accuracy`, `hamming_loss`, `recall`, `precision`, `f1`, each 0..1, or NaN where there is nothing to average
        over.

    Raises:
        HilumError: shapes or indices that do not match, an unknown average, another label or prediction.
    """
    if average not in AVERAGES:
        raise HilumError(f"average is {average!r}.{nearest(average, AVERAGES)} Known: {', '.join(AVERAGES)}.")
    targets = list(y_true.columns) if isinstance(y_true, pd.DataFrame) else None
    labels, predictions, ids = _aligned(y_true, y_pred, targets, "y_pred")
    known, actual, predicted = labels == labels, labels == 1, predictions == 1
    # Counting is faster than searching for another value.
    if np.count_nonzero(actual) + np.count_nonzero(labels == 0) < np.count_nonzero(known):
        for column in range(labels.shape[1]):
            check_labels(labels[:, column], f"target {column}", ids)
    if np.count_nonzero(predicted) + np.count_nonzero(predictions == 0) < predictions.size:
        raise HilumError("y_pred has values other than 1 and 0; probabilities need a threshold first.")
    if not known.all():
        some_known = known.any(axis=1)
        known, actual, predicted = known[some_known], actual[some_known], (predicted & known)[some_known]
    if not known.size:
        return dict.fromkeys(COMBINED_COLUMNS, NAN)
    # Columns are contiguous, so that sums over targets run through memory in order. At unknown labels both are False,
    # which is neither a hit nor a mistake.
    actual, predicted = np.asfortranarray(actual), np.asfortranarray(predicted)
    wrong = actual != predicted
    if average == "samples":
        recall, precision, f1 = (float(scores.mean()) for scores in _scores_of_images(actual, predicted))
    else:
        recall, precision, f1 = _over_targets(known, actual, predicted, average)
    accuracy = 1 - np.count_nonzero(wrong.any(axis=1)) / len(wrong)
    hamming_loss = np.count_nonzero(wrong) / np.count_nonzero(known)
    return dict(zip(COMBINED_COLUMNS, (accuracy, hamming_loss, recall, precision, f1), strict=True))


def _scores_of_images(actual: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision and f1 of each image, (N,); actual and predicted are (N, T) bool."""
    hits, positives, predictions = (
        chosen.sum(axis=1, dtype=np.int32) for chosen in (actual & predicted, actual, predicted)
    )
    # Where a denominator is 0 its numerator is 0 too: dividing by 1 instead leaves 0.
    return (
        hits / np.maximum(positives, 1),
        hits / np.maximum(predictions, 1),
        2 * hits / np.maximum(positives + predictions, 1),
    )


def _over_targets(
    known: np.ndarray, actual: np.ndarray, predicted: np.ndarray, average: str
) -> tuple[float, float, float]:
    """Micro, macro or weighted recall, precision and f1; all three arrays are (N, T) bool."""
    positives, predictions = actual.sum(axis=0), predicted.sum(axis=0)
    hits, labelled = (actual & predicted).sum(axis=0), known.sum(axis=0)
    cells = np.stack([hits, predictions - hits, positives - hits, labelled - positives - predictions + hits])
    if average == "micro":
        cells = cells.sum(axis=1, keepdims=True)
    counts = [Confusion(*column) for column in cells.T.tolist()]
    weights = positives if average == "weighted" else None
    recall, precision, f1 = (
        mean_of_defined(np.array([getattr(count, score) for count in counts]), weights)
        for score in ("recall", "precision", "f1")
    )
    return recall, precision, f1


def mean_of_defined(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    defined = ~np.isnan(values)
    if not defined.any():
        return NAN
    if weights is None:
        return float(np.nanmean(values))
    return float(np.average(values[defined], weights=weights[defined]))


def scores_with_intervals(predictions: Predictions, *, replicates: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The scores of each target at its threshold, with 95 % intervals over patients by the bootstrap.

    Returns:
        The columns of `itemized_scores`, then `false_positives`, `false_negatives`, `true_negatives` (int64),
        `specificity`, `predicted_positive_rate`, the `<score>_low` and `<score>_high` of `REPLICATED_SCORES` (NaN where
        the score is undefined, or depends on fewer than two patients), and `lack`: why scores are undefined, or "".
    """
    table = scores_of_rankings(predictions.rankings, predictions.thresholds)
    table["false_positives"] = table["predicted_positives"] - table["true_positives"]
    table["false_negatives"] = table["positives"] - table["true_positives"]
    table["true_negatives"] = table["negatives"] - table["false_positives"]
    bootstrap = predictions.bootstrap(replicates, seed)
    for score in ("specificity", "predicted_positive_rate"):
        table[score] = bootstrap.estimate[score]
    for score in REPLICATED_SCORES:
        table[f"{score}_low"], table[f"{score}_high"] = bootstrap.interval(score)
    return table.assign(lack=[ranking.lack() or "" for ranking in predictions.rankings.values()])


def mean_with_interval(bootstrap: ScoreReplicates, score: str) -> dict[str, float]:
    """The mean of a score over the targets that have it.

    Returns:
        `mean`, and `low` and `high` of its 95 % percentile interval; NaN if no target has the score.
    """
    defined = np.isfinite(bootstrap.estimate[score])
    if not defined.any():
        return dict.fromkeys(("mean", "low", "high"), NAN)
    replicates = bootstrap.replicates[score][:, defined]
    # A sample in which a target has no positive has no mean over the same targets.
    low, high = percentile_interval(replicates.mean(axis=1, keepdims=True))
    mean = float(bootstrap.estimate[score][defined].mean())
    return {"mean": mean, "low": float(low[0]), "high": float(high[0])}


def combined_with_intervals(
    predictions: Predictions, *, replicates: int = 1000, seed: int = 0
) -> dict[str, float]:
    """The scores of all targets together, averaged over images, with 95 % percentile intervals over patients.

    Returns:
        The keys of `combined_scores`, each with `<score>_low` and `<score>_high`, which are NaN for fewer than two
        patients.
    """
    found = combined_scores(predictions.y_true, predictions.predicted)
    patients = predictions.patient_count
    drawn = patient_weights(patients, replicates, seed).astype(np.float64) @ _patient_sums(predictions)
    images, labelled, with_mistake, mistakes, *sums = drawn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        means = [1 - with_mistake / images, mistakes / labelled, *(total / images for total in sums)]
    low, high = percentile_interval(np.stack(means, axis=1)) if patients > 1 else (np.full(5, np.nan),) * 2
    for place, name in enumerate(COMBINED_COLUMNS):
        found[f"{name}_low"], found[f"{name}_high"] = float(low[place]), float(high[place])
    return found


def _patient_sums(predictions: Predictions) -> np.ndarray:
    """(patients, 7) sums over each patient's images that have a known label.

    Images, known labels, images with a mistake, mistakes; then each image's recall, precision and F1.
    """
    known, actual = ~np.isnan(predictions.y_true), predictions.y_true == 1
    predicted = predictions.predicted & known
    wrong = actual != predicted
    counts = (np.ones(len(known)), known.sum(axis=1), wrong.any(axis=1), wrong.sum(axis=1))
    columns = np.column_stack([*counts, *_scores_of_images(actual, predicted)])
    columns *= known.any(axis=1)[:, None]
    codes, count = predictions.patient_codes, predictions.patient_count
    return np.stack([np.bincount(codes, column, minlength=count) for column in columns.T], axis=1)


def _aligned(
    y_true: Table, values: Table, targets: list[str] | None, name: str
) -> tuple[np.ndarray, np.ndarray, Sequence[Any] | None]:
    """Both tables as (N, T) arrays with matching rows and columns, and their ImageIDs if known."""
    tables = [table for table in (y_true, values) if isinstance(table, pd.DataFrame)]
    if len(tables) == 2 and not tables[0].index.equals(tables[1].index):
        raise HilumError(
            f"y_true and {name} are not of the same images in the same order (their index differs)."
        )
    arrays: list[np.ndarray] = []
    for what, table in (("y_true", y_true), (name, values)):
        if isinstance(table, pd.DataFrame) and targets is not None:
            missing = [target for target in targets if target not in table.columns]
            if missing:
                raise HilumError(
                    f"{what} has no column {missing[0]!r}.{nearest(missing[0], map(str, table.columns))}"
                )
            table = table[targets]
        arrays.append(np.asarray(table))
    first, second = arrays
    width = first.shape[-1] if targets is None else len(targets)
    if first.ndim != 2 or first.shape != second.shape or first.shape[1] != width:
        raise HilumError(
            f"y_true is {first.shape} and {name} {second.shape}; expected both to be (images, {width} targets)."
        )
    return first, second, tables[0].index if tables else None
