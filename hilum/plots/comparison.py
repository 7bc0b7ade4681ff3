"""The differences of a comparison, with their intervals, side by side."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hilum.plots.style import GRID, INK, PALE, PALETTE
from hilum.targets import plain_name

#: The scores that are drawn, the most important first, and their titles.
DRAWN_SCORES = {
    "recall": "Recall at the\nfrozen thresholds",
    "recall_at_matched_precision": "Recall at\nmatched precision",
    "roc_auc": "ROC AUC",
    "precision": "Precision at the\nfrozen thresholds",
    "avg_precision": "Average precision",
}

#: Different in shape as well as in colour.
VERDICT_STYLES = {"better": (PALETTE[0], "o"), "worse": (PALETTE[1], "s"), "no evidence": ("#767676", "D")}


def differences_figure(differences: pd.DataFrame, reference: str, other: str) -> Figure:
    """B minus A for each target and score: a point, its 95 % interval, and zero as a line.

    Args:
        differences: one row per target and score: `target`, `score`, `difference`, its interval `low` and `high`
            (float, NaN if undefined) and `verdict`. The first target is the mean of the others.
        reference: name of A.
        other: name of B.
    """
    names = differences["target"].drop_duplicates().map(plain_name)
    figure = Figure(figsize=(20, 2.6 + 0.52 * len(names)), layout="constrained", dpi=100)
    panels = figure.subplots(1, len(DRAWN_SCORES), sharey=True)
    for axes, (score, title) in zip(panels, DRAWN_SCORES.items(), strict=True):
        axes.axvline(0, color=INK, linewidth=1.2, zorder=1)
        for place, row in enumerate(differences[differences["score"] == score].to_dict("records")):
            _draw(axes, place, row["verdict"], row["difference"], [row["low"], row["high"]])
        axes.axhline(0.5, color=PALE, linewidth=1)
        axes.set_title(title, fontsize=17, fontweight="bold", loc="left")
        axes.tick_params(labelsize=14)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="x", color=GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        reach = max(0.02, *(abs(edge) * 1.08 for edge in axes.get_xlim()))
        axes.set_xlim(-reach, reach)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names, fontsize=16)
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    panels[0].set_ylim(len(names) - 0.5, -0.7)
    figure.supxlabel(f"← {reference} is higher        {other} is higher →", fontsize=16)
    return figure


def _draw(axes: Axes, place: int, verdict: str, difference: float, ends: list[float]) -> None:
    if np.isnan(difference):
        text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 13, "backgroundcolor": "white"}
        axes.text(0, place, " n/a ", **text, color="#767676")
        return
    colour, marker = VERDICT_STYLES.get(verdict, VERDICT_STYLES["no evidence"])
    if not np.isnan(ends).any():
        axes.plot(ends, [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot(difference, place, marker, color=colour, markersize=9, markeredgecolor="white")
