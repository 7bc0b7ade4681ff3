"""A reliability diagram has a panel per target, with the curve's own points, and says why one is empty."""

import numpy as np

from hilum.metrics.calibration import reliability_curve
from hilum.plots.calibration import reliability_figure


def test_each_panel_has_the_curves_points_and_an_empty_one_its_reason(tmp_path):
    draw = np.random.default_rng(0)
    probabilities = draw.random((300, 2))
    labels = (draw.random((300, 2)) < probabilities).astype(float)
    labels[:, 1] = np.nan
    figure = reliability_figure(labels, probabilities, ["Edema", "Lung_Lesion"])
    edema, lesion = figure.axes[:2]
    points = next(line for line in edema.lines if line.get_marker() == "o")
    curve = reliability_curve(labels[:, 0], probabilities[:, 0])
    np.testing.assert_allclose(points.get_xdata(), curve.mean_probability)
    np.testing.assert_allclose(points.get_ydata(), curve.positive_share)
    assert edema.get_title(loc="left") == "Edema"
    assert lesion.get_title(loc="left") == "Lung Lesion"
    assert any("no image has a known label" in text.get_text() for text in lesion.texts)
    figure.savefig(tmp_path / "reliability.png")
