"""One target's probabilities, sorted once: every curve, area and count follows from that order.

Sources: Fawcett 2006, "An introduction to ROC analysis" (doi 10.1016/j.patrec.2005.10.010) for ROC curves and ties;
Davis & Goadrich 2006, "The relationship between Precision-Recall and ROC curves" (doi 10.1145/1143844.1143874):
precision-recall points are not joined by straight lines, so average precision is a sum of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hilum.errors import HilumError

NAN = float("nan")


class Confusion(NamedTuple):
    """The four counts at one threshold, and the scores that follow from them."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def positives(self) -> int:
        """Number of images with the finding."""
        return self.true_positives + self.false_negatives

    @property
    def predicted_positives(self) -> int:
        """Number of images predicted positive."""
        return self.true_positives + self.false_positives

    @property
    def recall(self) -> float:
        """Share of the positives that are found, tp / (tp + fn); NaN without positives."""
        return self.true_positives / self.positives if self.positives else NAN

    @property
    def precision(self) -> float:
        """Share of the positive predictions that are right, tp / (tp + fp).

        NaN if nothing is predicted positive, and NaN without positives: it could only be 0.
        """
        if not self.positives or not self.predicted_positives:
            return NAN
        return self.true_positives / self.predicted_positives

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision, 2tp / (2tp + fp + fn); NaN without positives.

        0 if there are positives and none is found, also where precision is undefined.
        """
        if not self.positives:
            return NAN
        return 2 * self.true_positives / (self.positives + self.predicted_positives)


@dataclass(frozen=True, eq=False)
class Ranking:
    """True and false positives as the threshold falls through K distinct probabilities.

    Attributes:
        thresholds: (K,) float32 or float64, strictly falling; the distinct probabilities.
        true_positives: (K,) int64, positives with a probability >= the threshold.
        false_positives: (K,) int64, negatives with a probability >= the threshold.
        positives: number of positives.
        negatives: number of negatives.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    positives: int
    negatives: int

    def roc_auc(self) -> float:
        """Area under the ROC curve, 0..1: the chance that a positive ranks above a negative.

        A tie counts as half. NaN without positives or without negatives.
        """
        if not self.positives or not self.negatives:
            return NAN
        # Trapezoids in whole numbers: their sum is exact (below 2**63 for four thousand million rows).
        height_sums = self.true_positives.copy()
        height_sums[1:] += self.true_positives[:-1]
        widths = np.diff(self.false_positives, prepend=0)
        return int(np.dot(widths, height_sums)) / (2 * self.positives * self.negatives)

    def average_precision(self) -> float:
        """Sum over the thresholds of (recall gained) x precision, 0..1; NaN without positives.

        1 if there are no negatives. A constant probability gives the prevalence.
        """
        if not self.positives:
            return NAN
        gained = np.diff(self.true_positives, prepend=0)
        precision = self.true_positives / (self.true_positives + self.false_positives)
        # Not np.dot: its threads cost more than they save here, and a pairwise sum is more exact.
        return float((gained * precision).sum()) / self.positives

    def roc_curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The points of the ROC curve, as `sklearn.metrics.roc_curve(drop_intermediate=False)`.

        Returns:
            False positive rates, true positive rates and thresholds, each (K+1,) float64. The first point is (0, 0) at
            infinity. A rate without a denominator is NaN everywhere.
        """
        both = ((self.false_positives, self.negatives), (self.true_positives, self.positives))
        rates = [
            np.concatenate(([0.0], counts / total)) if total else np.full(len(counts) + 1, NAN)
            for counts, total in both
        ]
        return rates[0], rates[1], np.concatenate(([np.inf], self.thresholds.astype(np.float64)))

    def precision_recall_curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The points of the curve, in the order of `sklearn.metrics.precision_recall_curve`.

        Returns:
            Precisions and recalls, each (K+1,) float64, and thresholds (K,) float64, rising. The last point is
            (precision 1, recall 0) by convention. Without positives both are NaN everywhere.
        """
        thresholds = self.thresholds[::-1].astype(np.float64)
        if not self.positives:
            return *np.full((2, len(thresholds) + 1), NAN), thresholds
        precision = self.true_positives / (self.true_positives + self.false_positives)
        recall = self.true_positives / self.positives
        return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds

    def lack(self) -> str | None:
        """Why some of its scores are undefined, as text; None if all are defined."""
        labelled = self.positives + self.negatives
        if not labelled:
            return "no image has a known label"
        if not self.positives:
            return f"none of {labelled:,} labelled images is positive"
        return None if self.negatives else f"none of {labelled:,} labelled images is negative"

    def confusion(self, threshold: float) -> Confusion:
        """The counts if a probability >= `threshold` is a positive prediction.

        The threshold is first rounded to the probabilities' own precision: a float32 probability of 0.7 reaches a
        threshold of 0.7, although the nearest float32 is below the nearest float64.
        """
        threshold = self.thresholds.dtype.type(threshold)
        below = int(np.searchsorted(self.thresholds[::-1], threshold, side="left"))
        reached = len(self.thresholds) - below
        tp = int(self.true_positives[reached - 1]) if reached else 0
        fp = int(self.false_positives[reached - 1]) if reached else 0
        return Confusion(tp, fp, self.positives - tp, self.negatives - fp)


def rank(
    y_true: np.ndarray,
    y_score: np.ndarray,
    target: str = "the target",
    ids: Sequence[Any] | np.ndarray | None = None,
) -> Ranking:
    """Sorts one target's probabilities, once.

    Args:
        y_true: (N,) 1 positive, 0 negative, NaN unknown; rows with an unknown label are left out.
        y_score: (N,) probabilities from 0 to 1; float32 and float64 are kept, others become float64.
        target: name for messages.
        ids: (N,) ImageIDs for messages; row positions if left out.

    Raises:
        HilumError: different lengths, a label other than 1, 0 or NaN, or a probability that is not finite or not from 0
            to 1 (also where the label is unknown).
    """
    y_true, y_score = np.asarray(y_true), np.asarray(y_score)
    if y_true.ndim != 1 or y_true.shape != y_score.shape:
        raise HilumError(
            f"{target}: y_true is {y_true.shape} and y_score {y_score.shape}; "
            "expected one of each per image, (N,)."
        )
    if y_score.dtype not in (np.float32, np.float64):
        y_score = y_score.astype(np.float64)
    check_probabilities(y_score, target, ids)
    positive, known = y_true == 1, y_true == y_true  # NaN is not equal to itself
    positives, negatives = int(np.count_nonzero(positive)), int(np.count_nonzero(y_true == 0))
    if positives + negatives < np.count_nonzero(known):
        check_labels(y_true, target, ids)
    if positives + negatives < len(y_true):
        positive, y_score = positive[known], y_score[known]
    # Floats that are not negative are ordered as their bits are, and up to 1.0 the two highest bits are 0. So the label
    # fits below the probability in one unsigned number, and sorting these numbers is 2-4 times as fast as an argsort
    # and the gathers that follow it.
    whole: Any = np.uint32 if y_score.dtype == np.float32 else np.uint64
    keys: Any = (y_score + 0.0).view(whole)  # a copy; + 0.0 turns -0.0 into 0.0
    keys <<= 1
    keys |= positive
    keys.sort()
    keys = keys[::-1]
    bits = keys >> 1
    # Images with one probability share one point; otherwise the order within a tie would count.
    last_of_tie = np.flatnonzero(np.append(bits[1:] != bits[:-1], True)[: len(bits)])
    true_positives = np.cumsum(keys & 1, dtype=np.int64)[last_of_tie]
    return Ranking(
        thresholds=bits[last_of_tie].view(y_score.dtype),
        true_positives=true_positives,
        false_positives=last_of_tie + 1 - true_positives,
        positives=positives,
        negatives=negatives,
    )


def pairs_won(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a positive and a negative, and in how many the positive ranks higher; a tie is half a pair.

    ROC AUC is the share of the pairs won (Hanley and McNeil 1982, Radiology 143, 29-36).

    The arguments are (R, K), the number of images of each of R samples at each of K rising distinct values. Pairs won
    and all pairs are each (R,) float64, exact below 2**53.
    """
    below = np.cumsum(negatives, axis=1, dtype=np.float64) - negatives / 2
    won = np.einsum("rk,rk->r", positives, below)
    return won, positives.sum(axis=1, dtype=np.float64) * negatives.sum(axis=1, dtype=np.float64)


def check_probabilities(
    values: np.ndarray, target: str, ids: Sequence[Any] | np.ndarray | None = None
) -> None:
    """Raises HilumError, naming the first, unless all of `values` (N,) are finite and from 0 to 1."""
    # Minimum and maximum are NaN if any value is, and a comparison with NaN is false.
    if len(values) == 0 or (values.min() >= 0 and values.max() <= 1):
        return
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    raise HilumError(
        f"{target}: {len(bad)} of {len(values)} probabilities are not finite numbers from 0 to 1; the first "
        f"is {values[bad[0]]} at {_place(bad[0], ids)}. Apply the sigmoid to raw model outputs first; NaN "
        "means that the model has diverged."
    )


def check_labels(values: np.ndarray, target: str, ids: Sequence[Any] | np.ndarray | None = None) -> None:
    """Raises HilumError, naming the first, unless all of `values` (N,) are 1, 0 or NaN."""
    bad = np.flatnonzero((values == values) & (values != 0) & (values != 1))
    if len(bad):
        raise HilumError(
            f"{target}: {len(bad)} of {len(values)} labels are not 1 (positive), 0 (negative) or NaN "
            f"(unknown); the first is {values[bad[0]]} at {_place(bad[0], ids)}."
        )


def _place(row: int, ids: Sequence[Any] | np.ndarray | None) -> str:
    return f"row {row}" if ids is None else f"ImageID {ids[row]}"
