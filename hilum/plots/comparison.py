"""The differences of a comparison, with their intervals, side by side."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hilum.metrics.comparison import ScoreDifference
from hilum.report.comparison_types import Claim

#: The scores drawn, the most important first, and what each is called.
DRAWN_SCORES = {
    "recall": "Recall at the\nfrozen thresholds",
    "recall_at_matched_precision": "Recall at\nmatched precision",
    "roc_auc": "ROC AUC",
    "precision": "Precision at the\nfrozen thresholds",
    "avg_precision": "Average precision",
}

#: Told apart by place and by shape as well as by colour.
VERDICT_STYLES = {
    "better": ("#0072b2", "o"),
    "worse": ("#c44e00", "s"),
    "no evidence": ("#767676", "D"),
}
MEAN = "Mean of the targets"


def differences_figure(claim: Claim, reference: str, other: str) -> Figure:
    """B minus A for each target and score: a point, its 95 % interval, and zero as a line.

    Args:
        claim: one that is available.
        reference: what A is called.
        other: what B is called.
    """
    rows = [(MEAN, claim.mean), *claim.targets.items()]
    figure = Figure(figsize=(20, 2.6 + 0.52 * len(rows)), layout="constrained", dpi=100)
    panels = figure.subplots(1, len(DRAWN_SCORES), sharey=True)
    for axes, (score, title) in zip(panels, DRAWN_SCORES.items(), strict=True):
        axes.axvline(0, color="#1c2430", linewidth=1.2, zorder=1)
        for place, (_, differences) in enumerate(rows):
            _draw(axes, place, differences[score])
        axes.axhline(0.5, color="#b8b8b8", linewidth=1)
        axes.set_title(title, fontsize=17, fontweight="bold", loc="left")
        axes.tick_params(labelsize=14)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="x", color="#e6e6e6")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        reach = max(0.02, *(abs(edge) * 1.08 for edge in axes.get_xlim()))
        axes.set_xlim(-reach, reach)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), [name.replace("_", " ") for name, _ in rows], fontsize=16)
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    panels[0].set_ylim(len(rows) - 0.5, -0.7)
    figure.supxlabel(f"← {reference} is higher        {other} is higher →", fontsize=16)
    return figure


def _draw(axes: Axes, place: int, difference: ScoreDifference) -> None:
    if math.isnan(difference.difference):
        axes.text(
            0, place, " n/a ", ha="center", va="center", fontsize=13, color="#767676", backgroundcolor="white"
        )
        return
    colour, marker = VERDICT_STYLES.get(difference.verdict, VERDICT_STYLES["no evidence"])
    if not math.isnan(difference.low):
        axes.plot(
            [difference.low, difference.high],
            [place, place],
            color=colour,
            linewidth=2.4,
            solid_capstyle="butt",
        )
    axes.plot(difference.difference, place, marker, color=colour, markersize=9, markeredgecolor="white")
