"""Reliability diagrams: one small panel per target, with how many images each point stands for."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hilum.metrics.calibration import ReliabilityCurve, reliability_curve
from hilum.plots.curves import PALE, frame, head, panel_grid, say_why_empty, target_colours


def reliability_figure(
    labels: np.ndarray,
    probabilities: np.ndarray,
    targets: Sequence[str],
    title: str = "Calibration",
    column_count: int = 4,
    height: float = 3,
    width: float = 20,
) -> Figure:
    """The share of positives against the mean probability, in ten bins of about equally many images.

    The bar of each point is the Wilson 95 % interval of its share, as if all images were independent. The axes
    end where the probabilities do, so that a rare finding's points are not all in one corner.

    Args:
        labels: (N, T), 1, 0 or NaN.
        probabilities: (N, T) from 0 to 1.
        targets: (T,) names.
        title: stands above all panels.
        column_count: most panels beside each other.
        height: of one row of panels, in inches.
        width: of a full row of panels, in inches.
    """
    names = ("Mean probability", "Share of positives")
    figure, panels = panel_grid(list(targets), names, column_count, height, width)
    for column, (target, colour) in enumerate(target_colours(targets).items()):
        curve = reliability_curve(labels[:, column], probabilities[:, column])
        if not len(curve.counts):
            head(panels[target], target, "", colour)
            say_why_empty(panels[target], "no image has a known label")
            continue
        _draw(panels[target], curve, colour)
        error = curve.expected_calibration_error()
        least, most = int(curve.counts.min()), int(curve.counts.max())
        each = f"{least:,}" if least == most else f"{least:,}–{most:,}"
        head(panels[target], target, f"error {error:.3f}; a point: {each} images", colour)
    frame(figure, title, [])
    return figure


def _draw(axes: Axes, curve: ReliabilityCurve, colour: str) -> None:
    low, high = _wilson(curve.positive_share, curve.counts)
    reach = min(1.0, 1.12 * max(0.05, curve.mean_probability.max(), curve.positive_share.max()))
    axes.plot([0, reach], [0, reach], color=PALE, linestyle=":", linewidth=1.5, zorder=1)
    axes.vlines(curve.mean_probability, low, np.minimum(high, reach), color=colour, alpha=0.4, linewidth=2)
    axes.plot(
        curve.mean_probability,
        curve.positive_share,
        "o",
        color=colour,
        markersize=8,
        markeredgecolor="white",
    )
    axes.set(xlim=(-0.02 * reach, reach), ylim=(-0.02 * reach, reach))
    axes.locator_params(nbins=4)
    axes.tick_params(labelbottom=True, labelleft=True)  # each panel has its own scale


def _wilson(shares: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = 1.959964
    middle = (shares + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(shares * (1 - shares) / counts + z**2 / (4 * counts**2))
    return middle - half, middle + half
