"""Areas, lines and curves on the film."""

import numpy as np
import pytest

from hilum.phantom.canvas import Canvas, curve, ramp, ribbons

SQUARE = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])


def test_a_curve_passes_through_its_points():
    points = np.array([(0, 0), (1, 2), (3, 1), (4, 4)], dtype=np.float32)
    line = curve(points, steps=5)
    assert line.shape == (16, 2)
    np.testing.assert_allclose(line[::5], points, atol=1e-6)


def test_several_curves_at_once_are_the_same_as_one_by_one():
    points = np.random.default_rng(0).normal(size=(3, 4, 2))
    np.testing.assert_allclose(curve(points), [curve(one) for one in points], atol=1e-6)


def test_a_ribbon_has_its_width():
    line = np.array([(0.0, 0.0), (0.5, 0.0), (1.0, 0.0)])
    band = ribbons(line, 0.2)
    assert band.shape == (6, 2)
    assert np.ptp(band[:, 1]) == pytest.approx(0.2)


@pytest.mark.parametrize("size", [64, 100])
def test_an_area_covers_what_it_should(size):
    coverage = Canvas(size).area(SQUARE)
    assert coverage.mean() == pytest.approx(0.25, abs=0.03)
    assert coverage[size // 2, size // 2] == 1
    assert coverage[0, 0] == 0


def test_patient_coordinates_follow_the_position():
    canvas = Canvas(64, zoom=1.3, degrees=10, shift=(0.1, -0.05))
    inside = (np.abs(canvas.x) < 0.5) & (np.abs(canvas.y) < 0.5)
    assert np.mean(inside == (canvas.area(SQUARE) > 0.5)) > 0.97


def test_a_thin_line_is_fainter_not_wider():
    canvas = Canvas(64)
    line = [np.array([(-0.5, 0.0), (0.5, 0.0)])]
    sums = []
    for width in (0.005, 0.01):
        plane = canvas.detail()
        canvas.lines(plane, line, width, 1.0)
        sums.append(canvas.settle(plane).sum())
    assert sums[0] == pytest.approx(sums[1] / 2, rel=0.05)


def test_blur_keeps_the_sum():
    canvas = Canvas(96)
    coverage = canvas.area(0.3 * SQUARE)
    for radius in (0.0, 0.02, 0.15):
        assert canvas.blur(coverage, radius).sum() == pytest.approx(coverage.sum(), rel=0.03)


def test_ramp_rises_and_falls():
    values = np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(ramp(values, 0.0, 1.0), [0, 0.5, 1])
    np.testing.assert_allclose(ramp(values, 1.0, 0.0), [1, 0.5, 0])
