"""The scores of one set of predictions: one row per target, and one number for all targets together.

Scikit-learn is the reference that both are tested against. Where it gives 0 for a score that has no
value, `itemized_scores` gives NaN: a recall of 0 says that the model missed every positive, NaN that
there was none to find.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.metrics.ranking import NAN, Confusion, Ranking, rank, refuse_bad_labels

#: The columns of `itemized_scores`, in order.
ITEMIZED_COLUMNS = (
    "target",
    "positives",
    "negatives",
    "predicted_positives",
    "true_positives",
    "recall",
    "precision",
    "f1",
    "roc_auc",
    "avg_precision",
    "threshold",
)

#: The keys of `combined_scores`, in order.
COMBINED_COLUMNS = ("accuracy", "hamming_loss", "recall", "precision", "f1")

AVERAGES = ("samples", "micro", "macro", "weighted")

Table = pd.DataFrame | np.ndarray


def rank_targets(labels: Table, probabilities: Table, targets: Sequence[str]) -> dict[str, Ranking]:
    """One `Ranking` per target; see `itemized_scores` for the arguments."""
    label_values, probability_values, ids = _aligned(labels, probabilities, list(targets), "probabilities")
    return {
        target: rank(label_values[:, column], probability_values[:, column], target, ids)
        for column, target in enumerate(targets)
    }


def itemized_scores(
    labels: Table, probabilities: Table, targets: Sequence[str], thresholds: Sequence[float]
) -> pd.DataFrame:
    """The scores of each target by itself, over the images whose label for it is known.

    A target without positives has NaN for recall, precision, f1, roc_auc and avg_precision; one without
    negatives has NaN for roc_auc; precision is NaN if nothing is predicted positive.

    Args:
        labels: (N, T), 1 positive, 0 negative, NaN unknown.
        probabilities: (N, T) from 0 to 1. Tables are read by their columns' names.
        targets: (T,) names.
        thresholds: (T,) a probability >= the threshold is a positive prediction.

    Returns:
        One row per target: `target`, the counts `positives`, `negatives`, `predicted_positives`,
        `true_positives` (int64), and the scores `recall`, `precision`, `f1`, `roc_auc`,
        `avg_precision` (float64, 0..1) with the `threshold` that the first three were taken at.

    Raises:
        HilumError: shapes or indices that do not fit each other, a label other than 1, 0 or NaN, a
            probability that is not finite or not from 0 to 1.

    >>> itemized_scores(np.array([[1], [0], [1]]), np.array([[0.9], [0.6], [0.2]]), ["Edema"], [0.5]).loc[0]
    ... # doctest: +NORMALIZE_WHITESPACE
    target                 Edema
    positives                  2
    negatives                  1
    predicted_positives        2
    true_positives             1
    recall                   0.5
    precision                0.5
    f1                       0.5
    roc_auc                  0.5
    avg_precision       0.833333
    threshold                0.5
    Name: 0, dtype: object
    """
    if len(thresholds) != len(targets):
        raise HilumError(f"{len(thresholds)} thresholds for {len(targets)} targets; give one for each.")
    return scores_of_rankings(rank_targets(labels, probabilities, targets), thresholds)


def scores_of_rankings(rankings: dict[str, Ranking], thresholds: Sequence[float]) -> pd.DataFrame:
    """`itemized_scores` of targets that are ranked already, e.g. at other thresholds."""
    rows = []
    for (target, ranking), threshold in zip(rankings.items(), thresholds, strict=True):
        counts = ranking.confusion(threshold)
        rows.append(
            (
                target,
                ranking.positives,
                ranking.negatives,
                counts.predicted_positives,
                counts.true_positives,
                counts.recall,
                counts.precision,
                counts.f1,
                ranking.roc_auc(),
                ranking.average_precision(),
                float(threshold),
            )
        )
    return pd.DataFrame(rows, columns=list(ITEMIZED_COLUMNS))


def combined_scores(labels: Table, predictions: Table, average: str = "samples") -> dict[str, float]:
    """One number for all targets together, over the labels that are known.

    Images without any known label are left out. Whatever the average, `accuracy` is the share of images
    whose known labels are all predicted right, and `hamming_loss` the share of known labels that are
    predicted wrong. Recall, precision and f1 are averaged

    - "samples": over images. An image without positives counts as 0, as with scikit-learn's
      `zero_division=0`. So do the founding document's figures: most images of a data set have few
      positives or none, and these three are low even for a good model.
    - "micro": all known labels counted together.
    - "macro": over the targets that have the score (see `itemized_scores`).
    - "weighted": as macro, each target weighted by its positives.

    Args:
        labels: (N, T), 1 positive, 0 negative, NaN unknown.
        predictions: (N, T), 1 or 0. Tables are read by the names of the columns of `labels`.
        average: one of the four above.

    Returns:
        `accuracy`, `hamming_loss`, `recall`, `precision`, `f1`, each 0..1, or NaN where there is nothing
        to average over.

    Raises:
        HilumError: shapes or indices that do not fit each other, another average, label or prediction.
    """
    if average not in AVERAGES:
        raise HilumError(f"average is {average!r}.{nearest(average, AVERAGES)} Known: {', '.join(AVERAGES)}.")
    targets = list(labels.columns) if isinstance(labels, pd.DataFrame) else None
    label_values, prediction_values, ids = _aligned(labels, predictions, targets, "predictions")
    known, actual = label_values == label_values, label_values == 1
    predicted = prediction_values == 1
    _refuse_other_values(label_values, prediction_values, known, actual, predicted, ids)
    if not known.all():
        some_known = known.any(axis=1)
        known, actual, predicted = known[some_known], actual[some_known], (predicted & known)[some_known]
    if not known.size:
        return dict.fromkeys(COMBINED_COLUMNS, NAN)
    # Columns lie together, so that sums over targets run through memory in order. At unknown labels
    # both are False, which is neither a hit nor a mistake.
    actual, predicted = np.asfortranarray(actual), np.asfortranarray(predicted)
    wrong = actual != predicted
    recall, precision, f1 = (
        _over_images(actual, predicted)
        if average == "samples"
        else _over_targets(known, actual, predicted, average)
    )
    return {
        "accuracy": 1 - np.count_nonzero(wrong.any(axis=1)) / len(wrong),
        "hamming_loss": np.count_nonzero(wrong) / np.count_nonzero(known),
        "recall": recall,
        "precision": precision,
        "f1": f1,
    }


def _over_images(actual: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    """Mean recall, precision and f1 of images; actual and predicted are (N, T) bool."""
    hits = (actual & predicted).sum(axis=1, dtype=np.int32)
    positives = actual.sum(axis=1, dtype=np.int32)
    predictions = predicted.sum(axis=1, dtype=np.int32)
    # Where a denominator is 0 its numerator is 0 too: dividing by 1 instead gives the 0 that is meant.
    recall = hits / np.maximum(positives, 1)
    precision = hits / np.maximum(predictions, 1)
    f1 = 2 * hits / np.maximum(positives + predictions, 1)
    return float(recall.mean()), float(precision.mean()), float(f1.mean())


def _over_targets(
    known: np.ndarray, actual: np.ndarray, predicted: np.ndarray, average: str
) -> tuple[float, float, float]:
    """Micro, macro or weighted recall, precision and f1; all three arrays are (N, T) bool."""
    positives, predictions = actual.sum(axis=0), predicted.sum(axis=0)
    hits, labelled = (actual & predicted).sum(axis=0), known.sum(axis=0)
    columns = np.stack(
        [hits, predictions - hits, positives - hits, labelled - positives - predictions + hits]
    )
    if average == "micro":
        counts = Confusion(*columns.sum(axis=1).tolist())
        return counts.recall, counts.precision, counts.f1
    each = [Confusion(*column) for column in columns.T.tolist()]
    weights = positives if average == "weighted" else np.ones(len(each))
    scores = np.array([(counts.recall, counts.precision, counts.f1) for counts in each])
    recall, precision, f1 = (_mean_of_defined(scores[:, score], weights) for score in range(3))
    return recall, precision, f1


def _mean_of_defined(values: np.ndarray, weights: np.ndarray) -> float:
    defined = ~np.isnan(values)
    return float(np.average(values[defined], weights=weights[defined])) if defined.any() else NAN


def _aligned(
    labels: Table, others: Table, targets: list[str] | None, what: str
) -> tuple[np.ndarray, np.ndarray, Sequence[Any] | None]:
    """Both tables as (N, T) arrays with rows and columns that belong together, and ImageIDs if known."""
    tables = [table for table in (labels, others) if isinstance(table, pd.DataFrame)]
    if len(tables) == 2 and not labels.index.equals(others.index):
        raise HilumError(
            f"labels and {what} are not of the same images in the same order (their index differs)."
        )
    arrays = []
    for name, table in (("labels", labels), (what, others)):
        if isinstance(table, pd.DataFrame) and targets is not None:
            missing = [target for target in targets if target not in table.columns]
            if missing:
                raise HilumError(
                    f"The {name} have no column {missing[0]!r}.{nearest(missing[0], table.columns)}"
                )
            table = table[targets]
        arrays.append(np.asarray(table))
    label_values, other_values = arrays
    width = label_values.shape[-1] if targets is None else len(targets)
    if label_values.ndim != 2 or label_values.shape != other_values.shape or label_values.shape[1] != width:
        raise HilumError(
            f"labels are {label_values.shape} and {what} {other_values.shape}; expected both to be "
            f"(images, {width} targets)."
        )
    return label_values, other_values, tables[0].index if tables else None


def _refuse_other_values(
    labels: np.ndarray,
    predictions: np.ndarray,
    known: np.ndarray,
    actual: np.ndarray,
    predicted: np.ndarray,
    ids: Sequence[Any] | None,
) -> None:
    """Labels must be 1, 0 or NaN, predictions 1 or 0; counting finds out faster than looking."""
    if np.count_nonzero(actual) + np.count_nonzero(labels == 0) < np.count_nonzero(known):
        for column in range(labels.shape[1]):
            refuse_bad_labels(labels[:, column], f"target {column}", ids)
    if np.count_nonzero(predicted) + np.count_nonzero(predictions == 0) < predictions.size:
        raise HilumError(
            "predictions hold something else than 1 and 0; probabilities need a threshold first."
        )
