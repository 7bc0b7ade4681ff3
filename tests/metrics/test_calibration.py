"""Calibration against scikit-learn and SciPy; what cannot be calibrated is left as it is, with the reason."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from hilum.errors import HilumError
from hilum.metrics.calibration import (
    Calibration,
    calibration_table,
    fit_calibration,
    reliability_curve,
    reliability_curves,
)
from hilum.metrics.predictions import Predictions


def predictions(y_true, y_score):
    """Arrays of one or two targets as one object; each image has a patient of its own."""
    images, targets = y_true.shape
    return Predictions(
        y_true=y_true,
        y_score=y_score,
        image_ids=np.arange(images),
        patients=np.arange(images),
        targets=["Edema", "Mass"][:targets],
        thresholds=[0.5] * targets,
    )


def overconfident(images: int = 4000, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels whose true logit is 0.4 times the given one, minus 1; (N, 1) each."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 3, (images, 1))
    labels = (draw.random((images, 1)) < expit(0.4 * logits - 1)).astype(float)
    return labels, expit(logits).astype(np.float32)


@pytest.mark.parametrize(("equal_counts", "strategy"), [(True, "quantile"), (False, "uniform")])
def test_the_curve_is_scikit_learns(equal_counts, strategy):
    labels, probabilities = overconfident()
    curve = reliability_curve(labels[:, 0], probabilities[:, 0], equal_counts=equal_counts)
    shares, means = calibration_curve(labels[:, 0], probabilities[:, 0], n_bins=10, strategy=strategy)
    # scikit-learn cuts at interpolated quantiles: one image may be in the next bin.
    tolerance = 0.01 if equal_counts else 1e-7
    np.testing.assert_allclose(curve.positive_share, shares, atol=tolerance)
    np.testing.assert_allclose(curve.mean_probability, means, atol=tolerance)
    assert curve.counts.sum() == len(labels)


def test_the_calibration_error_is_the_weighted_distance_by_hand():
    probabilities = np.array([0.1, 0.1, 0.3, 0.3, 0.9, 0.9])
    labels = np.array([0, 1, 0, 0, 1, 1.0])
    curve = reliability_curve(labels, probabilities, bins=3)
    assert curve.counts.tolist() == [2, 2, 2]
    assert curve.positive_share.tolist() == [0.5, 0, 1]
    assert curve.expected_calibration_error() == pytest.approx((0.4 + 0.3 + 0.1) / 3)


def test_images_of_one_probability_share_a_bin():
    probabilities = np.array([0.2] * 7 + [0.4, 0.6, 0.8])
    curve = reliability_curve(np.ones(10), probabilities, bins=10)
    assert curve.counts[0] == 7
    assert curve.mean_probability[0] == pytest.approx(0.2)
    assert len(curve.counts) == 4


def test_the_table_is_scikit_learns_brier_score_over_the_known_labels():
    labels, probabilities = overconfident(500)
    labels[::7] = np.nan
    known = ~np.isnan(labels[:, 0])
    (row,) = calibration_table(predictions(labels, probabilities)).to_dict("records")
    assert row["brier"] == pytest.approx(brier_score_loss(labels[known, 0], probabilities[known, 0]))
    share = labels[known, 0].mean()
    assert row["brier_of_prevalence"] == pytest.approx(
        brier_score_loss(labels[known, 0], np.full(known.sum(), share))
    )
    assert (row["prevalence"], row["mean_probability"]) == pytest.approx(
        (share, probabilities[known, 0].mean())
    )


def test_a_target_without_labels_has_no_figures():
    (row,) = calibration_table(predictions(np.full((3, 1), np.nan), np.full((3, 1), 0.5))).to_dict("records")
    assert all(np.isnan(value) for name, value in row.items() if name != "target")


def test_platt_scaling_is_logistic_regression_on_the_logit():
    labels, probabilities = overconfident()
    fitted = fit_calibration(predictions(labels, probabilities), "platt")
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        logit(probabilities.astype(float)), labels[:, 0]
    )
    assert fitted.slopes[0] == pytest.approx(reference.coef_[0, 0], abs=1e-5)
    assert fitted.intercepts[0] == pytest.approx(reference.intercept_[0], abs=1e-5)
    assert fitted.slopes[0] == pytest.approx(0.4, abs=0.05)  # the truth it was drawn from


def test_temperature_scaling_minimizes_the_cross_entropy():
    labels, probabilities = overconfident()
    fitted = fit_calibration(predictions(labels, probabilities), "temperature")
    logits = logit(probabilities[:, 0].astype(float))

    def cross_entropy(slope: float) -> float:
        return np.mean(np.logaddexp(0, slope * logits) - labels[:, 0] * slope * logits)

    reference = minimize_scalar(cross_entropy, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-9})
    assert fitted.slopes[0] == pytest.approx(reference.x, abs=1e-6)
    assert fitted.intercepts.tolist() == [0.0]


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_the_order_of_the_images_stays_and_the_error_falls(method):
    labels, probabilities = overconfident()
    after = fit_calibration(predictions(labels, probabilities), method).apply(probabilities)
    assert roc_auc_score(labels, after) == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    before, now = (calibration_table(predictions(labels, values)).loc[0] for values in (probabilities, after))
    assert now["brier"] < before["brier"]
    # A temperature cannot mend that the finding is rarer than the probabilities say.
    assert now["ece"] < (0.2 if method == "platt" else 0.95) * before["ece"]


def test_probabilities_of_0_and_1_are_finite_and_stay_at_the_ends():
    labels, probabilities = overconfident(200)
    probabilities[:3], probabilities[3:6] = 0, 1
    fitted = fit_calibration(predictions(labels, probabilities), "platt")
    assert np.isfinite([fitted.slopes, fitted.intercepts]).all()
    ends = fitted.apply(np.array([[0.0], [1.0]]))
    assert np.isfinite(ends).all()
    inner = fitted.apply(probabilities[6:])
    assert ends[0] <= inner.min()
    assert inner.max() <= ends[1]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros(4), "all known labels are alike"),
        (np.full(4, np.nan), "no image has a known label"),
        (np.array([1, 1, 0, 0.0]), "do not rise with the finding"),
        (np.array([0, 0, 1, 1.0]), "separate the labels completely"),
    ],
)
def test_what_cannot_be_calibrated_is_left_with_the_reason(labels, reason):
    probabilities = np.array([0.1, 0.2, 0.8, 0.9])[:, None]
    fitted = fit_calibration(predictions(labels[:, None], probabilities), "platt")
    assert reason in fitted.notes["Edema"]
    np.testing.assert_allclose(fitted.apply(probabilities), probabilities, atol=1e-9)


def test_a_calibration_comes_back_from_json():
    labels, probabilities = overconfident(300)
    both = np.hstack([labels, np.zeros_like(labels)]), np.hstack([probabilities, probabilities])
    fitted = fit_calibration(predictions(*both), "platt")
    again = Calibration.from_record(json.loads(json.dumps(fitted.as_record())))
    np.testing.assert_array_equal(again.apply(both[1]), fitted.apply(both[1]))
    assert (again.targets, again.method, again.notes) == (fitted.targets, fitted.method, fitted.notes)
    assert list(again.notes) == ["Mass"]


def test_an_unknown_method_and_a_bad_probability_are_refused():
    with pytest.raises(HilumError, match=r"'plat' is not a method\. Did you mean 'platt'"):
        fit_calibration(predictions(np.ones((2, 1)), np.ones((2, 1))), "plat")
    with pytest.raises(HilumError, match=r"the target: 1 of 2 probabilities are not finite"):
        reliability_curve(np.ones(2), np.array([0.5, np.nan]))


def test_calibrated_predictions_find_their_targets_by_name():
    labels, probabilities = overconfident(300)
    both = predictions(np.hstack([labels, 1 - labels]), np.hstack([probabilities, 1 - probabilities**2]))
    fitted = fit_calibration(both, "platt")
    mass = fitted.apply_to(both.select(targets=["Mass"]))
    np.testing.assert_array_equal(mass.y_score[:, 0], fitted.apply(both.y_score)[:, 1])
    assert mass.targets == ("Mass",)


def test_the_curves_of_all_targets_have_wilsons_intervals():
    labels, probabilities = overconfident(300)
    curves = reliability_curves(predictions(labels, probabilities))
    assert list(curves) == ["Edema"]
    low, high = curves["Edema"].interval()
    assert ((low < curves["Edema"].positive_share) & (curves["Edema"].positive_share < high)).all()
