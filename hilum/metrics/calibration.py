"""Calibration: of the images with a probability of 0.3, are three in ten positive?

Brier score: Brier 1950, "Verification of forecasts expressed in terms of probability". Expected calibration error:
Naeini, Cooper & Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning". Temperature scaling:
Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599). Platt scaling: Platt 1999,
"Probabilistic outputs for support vector machines".

A calibration is fitted on the validation part, so on the same images it looks better than it is: judge it by an
evaluation on other images.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import rankdata

from hilum.errors import HilumError, nearest
from hilum.metrics.intervals import wilson_interval
from hilum.metrics.predictions import Predictions
from hilum.metrics.ranking import NAN, check_labels, check_probabilities

METHODS = ("temperature", "platt")

#: A float32 probability of 0 or 1 is taken to be this far from it, so that its logit is finite.
_LEAST = 2.0**-26


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """One target's images in B bins of rising probability: (B,) float64 twice, and (B,) int64 images, never 0."""

    mean_probability: np.ndarray
    positive_share: np.ndarray
    counts: np.ndarray

    def expected_calibration_error(self) -> float:
        """The mean distance of share and probability, each bin weighted by its images; NaN without images."""
        if not self.counts.sum():
            return NAN
        return float(np.average(np.abs(self.positive_share - self.mean_probability), weights=self.counts))

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Wilson's 95 % interval of each share, as if all images were independent; each (B,)."""
        return wilson_interval(self.positive_share, self.counts)


def reliability_curve(
    y_true: np.ndarray, y_score: np.ndarray, bins: int = 10, *, equal_counts: bool = True
) -> ReliabilityCurve:
    """Sorts one target's images into bins.

    Args:
        y_true: (N,), 1, 0 or NaN (left out).
        y_score: (N,) probabilities from 0 to 1.
        bins: largest number of bins; images of equal probability share a bin, so there may be fewer.
        equal_counts: bins of about equally many images, as a rare finding needs; else of equal width.

    Raises:
        HilumError: a label other than 1, 0 or NaN, or a probability that is not from 0 to 1.
    """
    labels, probabilities = _known(y_true, y_score, "the target")
    if not len(labels):
        empty = np.empty(0)
        return ReliabilityCurve(empty, empty, empty.astype(np.int64))
    if equal_counts:
        ranks = rankdata(probabilities, method="min") - 1  # ties stay in one bin
        place = np.floor(ranks * bins / len(ranks)).astype(np.int64)
    else:
        place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    kept = counts > 0
    sums = [np.bincount(place, values, minlength=bins)[kept] for values in (probabilities, labels)]
    return ReliabilityCurve(sums[0] / counts[kept], sums[1] / counts[kept], counts[kept])


def reliability_curves(predictions: Predictions) -> dict[str, ReliabilityCurve]:
    """Target -> its `reliability_curve` in ten bins of about equal counts."""
    return {
        target: reliability_curve(predictions.y_true[:, column], predictions.y_score[:, column])
        for column, target in enumerate(predictions.targets)
    }


def calibration_table(predictions: Predictions) -> pd.DataFrame:
    """How far each target's probabilities are from the observed frequencies.

    Returns:
        One row per target: `target`; `brier`, the mean squared distance of probability and label;
        `brier_of_prevalence`, the Brier score of the prevalence alone; `ece`, the expected calibration error over ten
        bins of about equal counts; `mean_probability` and `prevalence`. All 0..1, NaN without a known label.
    """
    rows = []
    for column, target in enumerate(predictions.targets):
        actual, given = _known(predictions.y_true[:, column], predictions.y_score[:, column], target)
        share, mean = (float(values.mean()) if len(values) else NAN for values in (actual, given))
        brier = float(np.mean((given - actual) ** 2)) if len(actual) else NAN
        error = reliability_curve(actual, given).expected_calibration_error()
        rows.append((target, brier, share * (1 - share), error, mean, share))
    columns = ["target", "brier", "brier_of_prevalence", "ece", "mean_probability", "prevalence"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising function of each target's logit: slope times logit plus intercept.

    The order of the images does not change, so neither do ROC AUC and average precision.

    Attributes:
        method: "temperature" (intercept 0, slope 1 / temperature) or "platt".
        targets: (T,) names.
        slopes: (T,) float64, above 0.
        intercepts: (T,) float64.
        notes: target -> why it is not calibrated.
    """

    method: str
    targets: tuple[str, ...]
    slopes: np.ndarray
    intercepts: np.ndarray
    notes: dict[str, str]

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (..., T), float64. 0 and 1 stay nearly 0 and 1."""
        return expit(self.slopes * _logits(probabilities) + self.intercepts)

    def apply_to(self, predictions: Predictions) -> Predictions:
        """The predictions with calibrated probabilities; their targets are found by name."""
        columns = [self.targets.index(target) for target in predictions.targets]
        own = replace(self, slopes=self.slopes[columns], intercepts=self.intercepts[columns])
        return replace(predictions, y_score=own.apply(predictions.y_score))

    def as_record(self) -> dict[str, Any]:
        """As JSON values."""
        fits = zip(self.targets, self.slopes.tolist(), self.intercepts.tolist(), strict=True)
        targets = {target: {"slope": slope, "intercept": intercept} for target, slope, intercept in fits}
        return {"method": self.method, "targets": targets, "notes": self.notes}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Calibration":
        """The calibration of such a record."""
        targets, fits = tuple(record["targets"]), record["targets"].values()
        slopes, intercepts = (np.array([fit[name] for fit in fits]) for name in ("slope", "intercept"))
        return cls(record["method"], targets, slopes, intercepts, dict(record["notes"]))


def fit_calibration(predictions: Predictions, method: str) -> Calibration:
    """The scaling of each target's logit that makes its labels most likely.

    A target is not changed, with a note, if its known labels are all equal, if the best slope is not above 0 (it would
    reverse the order of the images), or if its probabilities separate the classes completely (the best slope is then
    infinite).

    Args:
        predictions: labels and probabilities to fit on.
        method: "temperature" fits the slope alone, "platt" slope and intercept. Labels are used without the smoothing
            that Platt proposes for small samples.

    Raises:
        HilumError: an unknown method.
    """
    if method not in METHODS:
        raise HilumError(
            f"calibration: {method!r} is not a method.{nearest(method, METHODS)} Known: {', '.join(METHODS)}."
        )
    targets, notes = predictions.targets, {}
    slopes, intercepts = np.ones(len(targets)), np.zeros(len(targets))
    for column, target in enumerate(targets):
        actual, given = _known(predictions.y_true[:, column], predictions.y_score[:, column], target)
        if not len(actual) or actual.min() == actual.max():
            reason = "all known labels are alike" if len(actual) else "no image has a known label"
        else:
            logits = _logits(given)
            slope, intercept = _fit(actual, logits, with_intercept=method == "platt")
            # A line that puts every label on its side can be made steeper without end.
            separated = ((slope * logits + intercept > 0) == (actual == 1)).all()
            if slope > 0 and not separated:
                slopes[column], intercepts[column] = slope, intercept
                continue
            separates = "its probabilities separate the labels completely"
            reason = separates if slope > 0 else "its probabilities do not rise with the finding"
        notes[target] = f"left as it is: {reason}"
    return Calibration(method, targets, slopes, intercepts, notes)


def _fit(labels: np.ndarray, logits: np.ndarray, *, with_intercept: bool) -> tuple[float, float]:
    """The slope and intercept of the logistic regression of labels on logits."""
    inputs = np.stack([logits, np.ones_like(logits)] if with_intercept else [logits], axis=1)

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        outputs = inputs @ parameters
        # log(1 + exp(x)) - y x, without overflow.
        losses = np.logaddexp(0, outputs) - labels * outputs
        return losses.mean(), inputs.T @ (expit(outputs) - labels) / len(labels)

    start, options = [1.0, 0.0][: inputs.shape[1]], {"gtol": 1e-10, "ftol": 1e-14}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return float(found[0]), float(found[1]) if with_intercept else 0.0


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(probabilities, dtype=np.float64), _LEAST, 1 - _LEAST))


def _known(y_true: np.ndarray, y_score: np.ndarray, target: str) -> tuple[np.ndarray, np.ndarray]:

    labels, probabilities = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
    check_labels(labels, target)
    check_probabilities(probabilities, target)
    known = ~np.isnan(labels)
    return labels[known], probabilities[known]
