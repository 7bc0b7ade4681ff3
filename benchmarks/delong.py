"""ROC AUC's standard error by formula, for one model or for two models on the same images.

Sources: DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 44, 837-845; computed from midranks as in Sun and Xu 2014,
"Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21, 1389-1393.

The formula takes the images for independent. Several images of one patient are not, and the interval is then
too narrow: it is here as a check on `hilum.metrics.intervals`, which draws patients, and that is the one to
report.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hilum.errors import HilumError
from hilum.metrics.ranking import NAN, rank


@dataclass(frozen=True)
class AucInterval:
    """ROC AUC of one model and its interval; all but `roc_auc` NaN where undefined."""

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
    """The normal interval of ROC AUC, cut off at 0 and 1.

    Standard error and bounds are NaN with fewer than two positives or two negatives, and where every
    positive ranks above every negative or below: the formula then says that nothing is uncertain.

    Args:
        labels: (N,) 1 positive, 0 negative, NaN unknown (left out).
        probabilities: (N,) from 0 to 1.
        confidence: of the interval, above 0 and below 1.

    Raises:
        HilumError: as `hilum.metrics.ranking.rank`, or a confidence that is not between 0 and 1.

    >>> interval = auc_interval(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1]))
    >>> interval.roc_auc, round(interval.standard_error**2, 6)
    (0.75, 0.125)
    """
    areas, covariance = _areas_and_covariance(labels, [probabilities])
    error = float(np.sqrt(covariance[0, 0])) or NAN
    reach = _normal_reach(confidence) * error
    low, high = np.clip([areas[0] - reach, areas[0] + reach], 0, 1).tolist()
    return AucInterval(areas[0], error, low, high)


def auc_difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> AucDifference:
    """Whether two models' areas on the same images differ: the paired test of DeLong et al.

    Args:
        labels: (N,) 1 positive, 0 negative, NaN unknown (left out).
        first: (N,) probabilities of one model.
        second: (N,) probabilities of the other.
        confidence: of the interval, above 0 and below 1.

    Returns:
        Second minus first. Equal rankings have difference 0, bounds 0 and p-value 1. NaN with fewer than two
        positives or two negatives, and if the areas differ but the formula's variance is 0.

    Raises:
        HilumError: as `hilum.metrics.ranking.rank`, or a confidence that is not between 0 and 1.
    """
    areas, covariance = _areas_and_covariance(labels, [first, second])
    difference = areas[1] - areas[0]
    # Two variances less twice the covariance cancel for models that are alike: rounding may go below 0.
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reach = _normal_reach(confidence)
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


def _normal_reach(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise HilumError(
            f"confidence is {confidence!r}; expected a number above 0 and below 1, such as 0.95."
        )
    return float(stats.norm.ppf((1 + confidence) / 2))


def _areas_and_covariance(
    labels: np.ndarray, probabilities: list[np.ndarray]
) -> tuple[list[float], np.ndarray]:
    """Areas of M models and their covariance, (M, M); all NaN where there is no variance to speak of."""
    areas = [rank(labels, values).roc_auc() for values in probabilities]
    positive, negative = np.asarray(labels) == 1, np.asarray(labels) == 0
    positives, negatives = np.count_nonzero(positive), np.count_nonzero(negative)
    if positives < 2 or negatives < 2:
        return areas, np.full((len(areas), len(areas)), NAN)
    # An image's midrank among all, less that among its own class, counts the other class's images below it
    # (ties as half): its share is how often it is ranked right.
    of_positives, of_negatives = [], []
    for values in map(np.asarray, probabilities):
        above, below = values[positive], values[negative]
        ranks = stats.rankdata(np.concatenate([above, below]))
        of_positives.append((ranks[:positives] - stats.rankdata(above)) / negatives)
        of_negatives.append(1 - (ranks[positives:] - stats.rankdata(below)) / positives)
    return areas, np.atleast_2d(np.cov(of_positives) / positives + np.cov(of_negatives) / negatives)
