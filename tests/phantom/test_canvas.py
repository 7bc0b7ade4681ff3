"""Areas, lines and curves in the image, and its exposure."""

import numpy as np
import pytest

from hilum.phantom._canvas import Canvas, Exposure, curve, draw_exposure, expose, ramp, ribbons
from hilum.randomness import generator

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
        plane = canvas.fine_plane()
        canvas.lines(plane, line, width, 1.0)
        sums.append(canvas.downsample(plane).sum())
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


PLAIN = Exposure(photons=1e6, scatter=0.0, gamma=1.0, black=0.2, white=99.0, focus=0.0)


def exposed(**changed) -> np.ndarray:
    canvas = Canvas(96)
    steps = np.repeat(np.linspace(0.5, 3, 8, dtype=np.float32), 12)
    return expose(canvas, np.tile(steps, (96, 1)), PLAIN._replace(**changed), generator(0, "exposure"))


def test_denser_is_whiter():
    columns = exposed().mean(axis=0)
    assert (np.diff(columns[6::12]) > 0).all()
    assert columns[-1] > 240


def test_fewer_photons_make_more_grain():
    assert exposed(photons=3000)[:, 50].std() > 3 * exposed(photons=1e6)[:, 50].std()


def test_portable_images_have_more_scatter_and_fewer_photons():
    draws = {
        kind: [draw_exposure(generator(0, "x", n), portable=kind) for n in range(50)]
        for kind in (True, False)
    }
    scatter = {kind: np.mean([one.scatter for one in exposures]) for kind, exposures in draws.items()}
    photons = {kind: np.mean([one.photons for one in exposures]) for kind, exposures in draws.items()}
    assert scatter[True] > 2 * scatter[False]
    assert photons[True] < photons[False] / 2


def test_scatter_hides_details_of_dense_tissue():
    stripes = np.tile(np.repeat(np.array([0.5, 2.5], np.float32), 24), (96, 2))
    stripes[46:50] += 0.3

    def dense_over_thin(scatter: float) -> float:
        shown = expose(Canvas(96), stripes, PLAIN._replace(scatter=scatter), generator(0, "exposure"))
        detail = shown[47:49].mean(axis=0) - shown[30:40].mean(axis=0)
        return detail[30:42].mean() / detail[54:66].mean()

    assert dense_over_thin(1.0) < 0.7 * dense_over_thin(0.0)
