"""Which findings a model predicts together, beside those that do come together."""

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def co_predicted(labels: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Of the images with a finding, the share in which each finding is predicted.

    The diagonal is the recall. A row of a finding without images is NaN.

    Args:
        labels: (N, T), 1, 0 or NaN.
        predicted: (N, T) bool, indexed as the labels.

    Returns:
        (T, T) float64: actual findings as rows, predicted ones as columns.
    """
    actual = (labels == 1).to_numpy(dtype=np.float64)
    both = actual.T @ predicted.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = both / actual.sum(axis=0)[:, None]
    return pd.DataFrame(shares, labels.columns, labels.columns)


def co_actual(labels: pd.DataFrame) -> pd.DataFrame:
    """Of the images with a finding, the share that truly has each other; (T, T) as `co_predicted`."""
    return co_predicted(labels, labels == 1)


def co_occurrence_figure(labels: pd.DataFrame, predicted: pd.DataFrame) -> "Figure":
    """Two matrices: what comes with each finding in truth, and what is predicted with it.

    Args:
        labels: (N, T), 1, 0 or NaN.
        predicted: (N, T) bool, indexed as the labels.
    """
    from matplotlib.figure import Figure

    targets = list(labels.columns)
    side = max(3.2, 0.62 * len(targets))
    figure = Figure(figsize=(2 * side + 4.2, side + 2.2), layout="constrained", dpi=110)
    panels = figure.subplots(1, 2, sharey=True)
    shares = (co_actual(labels), co_predicted(labels, predicted))
    words = [textwrap.fill(target.replace("_", " "), 18) for target in targets]
    image = None
    for axes, table, title in zip(panels, shares, ("truly there as well", "predicted"), strict=True):
        image = axes.imshow(table.to_numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(
            f"Share of the images with the row's finding\nin which the column's is {title}", fontsize=13
        )
        axes.set_xticks(
            range(len(targets)), words, rotation=45, ha="right", rotation_mode="anchor", fontsize=17
        )
        axes.set_yticks(range(len(targets)), words, fontsize=17)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, values in enumerate(table.to_numpy()):
            for column, share in enumerate(values):
                said = "n/a" if math.isnan(share) else f"{100 * share:.0f}"
                colour = "white" if share > 0.55 else "#1c2430"
                axes.text(column, row, said, ha="center", va="center", fontsize=15, color=colour)
    bar = figure.colorbar(image, ax=panels, shrink=0.7)
    bar.set_ticks(np.linspace(0, 1, 6), labels=[f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    bar.ax.tick_params(labelsize=15)
    bar.outline.set_visible(False)
    return figure
