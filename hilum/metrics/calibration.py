"""Whether a probability means what it says: of the images given 0.3, are three in ten positive?

Brier score: Brier 1950, "Verification of forecasts expressed in terms of probability". Expected calibration
error: Naeini, Cooper & Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning".
Temperature scaling: Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599). Platt
scaling: Platt 1999, "Probabilistic outputs for support vector machines".

A calibration is fitted on the validation part. Scored on the same images it looks better than it is; an
evaluation on other images tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit

from hilum.errors import HilumError, nearest
from hilum.metrics.ranking import NAN, refuse_bad_labels, refuse_bad_probabilities

METHODS = ("temperature", "platt")

#: A float32 probability is 0 or 1 where the logit left its range; this is the distance it is taken to have.
_LEAST = 2.0**-26


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """One target's images in bins of rising probability.

    Attributes:
        mean_probability: (B,) float64, of each bin's images.
        positive_share: (B,) float64, of them.
        counts: (B,) int64 images; no bin is empty.
    """

    mean_probability: np.ndarray
    positive_share: np.ndarray
    counts: np.ndarray

    def expected_calibration_error(self) -> float:
        """The mean distance of share and probability, each bin weighted by its images; NaN without any."""
        if not self.counts.sum():
            return NAN
        return float(np.average(np.abs(self.positive_share - self.mean_probability), weights=self.counts))


def reliability_curve(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 10, *, equal_counts: bool = True
) -> ReliabilityCurve:
    """Sorts one target's images into bins.

    Args:
        labels: (N,), 1, 0 or NaN (left out).
        probabilities: (N,) from 0 to 1.
        bins: at most so many; images of one probability share a bin, so there may be fewer.
        equal_counts: bins of about equally many images, which a rare finding needs; else of equal width.

    Raises:
        HilumError: a label or a probability that is none.
    """
    labels, probabilities = _known(labels, probabilities, "the target")
    if not len(labels):
        empty = np.empty(0)
        return ReliabilityCurve(empty, empty, empty.astype(np.int64))
    if equal_counts:
        # By rank within the distinct values, so that no tie is cut in two.
        order = np.argsort(probabilities, kind="stable")
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order))
        _, first, value_of = np.unique(probabilities[order], return_index=True, return_inverse=True)
        ranks[order] = first[value_of]
        place = np.floor(ranks * bins / len(ranks)).astype(np.int64)
    else:
        place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    kept = counts > 0
    sums = [np.bincount(place, values, minlength=bins)[kept] for values in (probabilities, labels)]
    return ReliabilityCurve(sums[0] / counts[kept], sums[1] / counts[kept], counts[kept])


def calibration_table(labels: np.ndarray, probabilities: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    """How far each target's probabilities are from what happens.

    Args:
        labels: (N, T), 1, 0 or NaN (left out).
        probabilities: (N, T) from 0 to 1.
        targets: (T,) names.

    Returns:
        One row per target: `target`; `brier`, the mean squared distance of probability and label;
        `brier_of_prevalence`, what the prevalence alone would have; `ece`, the expected calibration error
        over ten bins of about equal counts; `mean_probability` and `prevalence`. All 0..1, NaN without a
        known label.

    Raises:
        HilumError: a label or a probability that is none.
    """
    rows = []
    for column, target in enumerate(targets):
        actual, given = _known(labels[:, column], probabilities[:, column], target)
        if not len(actual):
            rows.append((target, NAN, NAN, NAN, NAN, NAN))
            continue
        share = float(actual.mean())
        error = reliability_curve(actual, given).expected_calibration_error()
        rows.append(
            (
                target,
                float(np.mean((given - actual) ** 2)),
                share * (1 - share),
                error,
                float(given.mean()),
                share,
            )
        )
    columns = ["target", "brier", "brier_of_prevalence", "ece", "mean_probability", "prevalence"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising function of each target's logit: slope times logit plus intercept.

    The order of the images stays as it is, and with it ROC AUC and average precision.

    Attributes:
        method: "temperature" (intercept 0, slope 1 / temperature) or "platt".
        targets: (T,) names.
        slopes: (T,) float64, above 0.
        intercepts: (T,) float64.
        notes: target -> why it was left as it is; only those that were.
    """

    method: str
    targets: tuple[str, ...]
    slopes: np.ndarray
    intercepts: np.ndarray
    notes: dict[str, str]

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (..., T) to calibrated ones, float64. 0 and 1 stay nearly 0 and 1."""
        return expit(self.slopes * _logits(probabilities) + self.intercepts)

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": self.method,
            "targets": {
                target: {"slope": slope, "intercept": intercept}
                for target, slope, intercept in zip(
                    self.targets, self.slopes.tolist(), self.intercepts.tolist(), strict=True
                )
            },
            "notes": self.notes,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Calibration":
        """The calibration that gave this record."""
        fits = record["targets"]
        return cls(
            method=record["method"],
            targets=tuple(fits),
            slopes=np.array([fit["slope"] for fit in fits.values()]),
            intercepts=np.array([fit["intercept"] for fit in fits.values()]),
            notes=dict(record["notes"]),
        )


def fit_calibration(
    labels: np.ndarray, probabilities: np.ndarray, targets: Sequence[str], method: str
) -> Calibration:
    """The scaling of each target's logit that makes its labels most likely.

    A target is left as it is, with a note, if its labels are all alike, or if the best slope is not above
    0 (it would turn the order of the images round) or without bound (probabilities that separate the
    classes completely have no best one).

    Args:
        labels: (N, T), 1, 0 or NaN (left out).
        probabilities: (N, T) from 0 to 1.
        targets: (T,) names.
        method: "temperature" fits the slope alone, "platt" slope and intercept. Labels are taken as they
            are, without the smoothing that Platt proposes for small samples.

    Raises:
        HilumError: another method, or a label or a probability that is none.
    """
    if method not in METHODS:
        raise HilumError(
            f"calibration: {method!r} is no method.{nearest(method, METHODS)} Known: {', '.join(METHODS)}."
        )
    slopes, intercepts, notes = np.ones(len(targets)), np.zeros(len(targets)), {}
    for column, target in enumerate(targets):
        actual, given = _known(labels[:, column], probabilities[:, column], target)
        if not len(actual) or actual.min() == actual.max():
            there = "no image has a known label" if not len(actual) else "all known labels are alike"
            notes[target] = f"left as it is: {there}"
            continue
        logits = _logits(given)
        slope, intercept = _fit(actual, logits, with_intercept=method == "platt")
        if slope <= 0:
            notes[target] = "left as it is: its probabilities do not rise with the finding"
            continue
        # A line that puts every label on its side can be made steeper without end.
        if ((slope * logits + intercept > 0) == (actual == 1)).all():
            notes[target] = "left as it is: its probabilities separate the labels completely"
            continue
        slopes[column], intercepts[column] = slope, intercept
    return Calibration(method, tuple(targets), slopes, intercepts, notes)


def _fit(labels: np.ndarray, logits: np.ndarray, *, with_intercept: bool) -> tuple[float, float]:
    """The slope and intercept of the logistic regression of labels on logits."""
    inputs = np.stack([logits, np.ones_like(logits)] if with_intercept else [logits], axis=1)

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        outputs = inputs @ parameters
        # log(1 + exp(x)) - y x, without overflow.
        losses = np.logaddexp(0, outputs) - labels * outputs
        return losses.mean(), inputs.T @ (expit(outputs) - labels) / len(labels)

    start = np.array([1.0, 0.0][: inputs.shape[1]])
    found = minimize(
        loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-10, "ftol": 1e-14},
    )
    return float(found.x[0]), float(found.x[1]) if with_intercept else 0.0


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(probabilities, dtype=np.float64), _LEAST, 1 - _LEAST))


def _known(labels: np.ndarray, probabilities: np.ndarray, target: str) -> tuple[np.ndarray, np.ndarray]:
    """The images with a known label, both as float64."""
    labels = np.asarray(labels, dtype=np.float64)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    refuse_bad_labels(labels, target)
    refuse_bad_probabilities(probabilities, target)
    known = ~np.isnan(labels)
    return labels[known], probabilities[known]
