"""The standard error of ROC AUC by DeLong's formula, for one model or two models on the same images.

Sources: DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 44, 837-845; computed from midranks as in Sun and Xu 2014,
"Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21, 1389-1393.

The formula assumes that images are independent. With several images per patient they are not, and the interval is too
narrow. It is a check of the cluster bootstrap in `hilum.metrics.intervals`, which is the interval to report.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hilum.errors import HilumError
from hilum.metrics.ranking import NAN, rank


@dataclass(frozen=True)
class AucInterval:
    """ROC AUC of one model and its interval. Undefined values are NaN."""

    roc_auc: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class AucDifference:
    """ROC AUC of the second model minus that of the first, its interval and two-sided p-value."""

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float


def auc_interval(labels: np.ndarray, probabilities: np.ndarray, confidence: float = 0.95) -> AucInterval:
    """The normal interval of ROC AUC, clipped to 0..1.

    Standard error and bounds are NaN with fewer than two positives or two negatives. They are also NaN if every
    positive ranks above (or below) every negative, because the formula then gives a variance of 0.

    Args:
        labels: (N,) 1 positive, 0 negative, NaN unknown (left out).
        probabilities: (N,) from 0 to 1.
        confidence: confidence level, above 0 and below 1.

    Raises:
        HilumError: for the reasons of `hilum.metrics.ranking.rank`, or if the confidence is not between 0 and 1.

    >>> interval = auc_interval(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1]))
    >>> interval.roc_auc, round(interval.standard_error**2, 6)
    (0.75, 0.125)
    """
    areas, covariance = _areas_and_covariance(labels, [probabilities])
    error = float(np.sqrt(covariance[0, 0])) or NAN
    reach = _normal_quantile(confidence) * error
    low, high = np.clip([areas[0] - reach, areas[0] + reach], 0, 1).tolist()
    return AucInterval(areas[0], error, low, high)


def auc_difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> AucDifference:
    """The paired test of DeLong et al. for the ROC AUC of two models on the same images.

    Args:
        labels: (N,) 1 positive, 0 negative, NaN unknown (left out).
        first: (N,) probabilities of one model.
        second: (N,) probabilities of the other.
        confidence: confidence level, above 0 and below 1.

    Returns:
        Second minus first. Equal rankings give difference 0, bounds 0 and p-value 1. Interval and p-value are NaN
        with fewer than two positives or two negatives, or if the areas differ but the variance is 0.

    Raises:
        HilumError: for the reasons of `hilum.metrics.ranking.rank`, or if the confidence is not between 0 and 1.
    """
    areas, covariance = _areas_and_covariance(labels, [first, second])
    difference = areas[1] - areas[0]
    # For similar models the terms nearly cancel, and rounding can give a negative value.
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reach = _normal_quantile(confidence)
    if np.isnan(variance):
        return AucDifference(difference, NAN, NAN, NAN, NAN)
    if variance <= 1e-12 * float(covariance[0, 0] + covariance[1, 1]):
        return (
            AucDifference(0.0, 0.0, 0.0, 0.0, 1.0)
            if abs(difference) < 1e-12
            else AucDifference(difference, NAN, NAN, NAN, NAN)
        )
    error = variance**0.5
    p_value = 2 * float(stats.norm.sf(abs(difference) / error))
    return AucDifference(difference, error, difference - reach * error, difference + reach * error, p_value)


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise HilumError(
            f"confidence is {confidence!r}; expected a number above 0 and below 1, such as 0.95."
        )
    return float(stats.norm.ppf((1 + confidence) / 2))


def _areas_and_covariance(
    labels: np.ndarray, probabilities: list[np.ndarray]
) -> tuple[list[float], np.ndarray]:
    """Areas of M models and their covariance (M, M), which is NaN with fewer than two positives or negatives."""
    areas = [rank(labels, values).roc_auc() for values in probabilities]
    positive, negative = np.asarray(labels) == 1, np.asarray(labels) == 0
    positives, negatives = np.count_nonzero(positive), np.count_nonzero(negative)
    if positives < 2 or negatives < 2:
        return areas, np.full((len(areas), len(areas)), NAN)
    # The midrank of an image among all images, minus its midrank in its own class, is the number of images of the
    # other class below it (ties count half). Divided by their number, it is the proportion of correct rankings.
    of_positives, of_negatives = [], []
    for values in map(np.asarray, probabilities):
        above, below = values[positive], values[negative]
        ranks = stats.rankdata(np.concatenate([above, below]))
        of_positives.append((ranks[:positives] - stats.rankdata(above)) / negatives)
        of_negatives.append(1 - (ranks[positives:] - stats.rankdata(below)) / positives)
    return areas, np.atleast_2d(np.cov(of_positives) / positives + np.cov(of_negatives) / negatives)
