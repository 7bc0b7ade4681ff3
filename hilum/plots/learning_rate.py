"""The curve of a range test, with what it suggests."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hilum.training.lr_finder import LearningRates

INK, GREY, PALE = "#1c2430", "#595959", "#b8b8b8"
CURVE, SUGGESTED = "#0072b2", "#c44e00"


def learning_rate_figure(found: LearningRates) -> Figure:
    """Loss against learning rate on a logarithmic axis: each batch a dot, their course a line."""
    figure = Figure(figsize=(10, 5.6), layout="constrained", dpi=120)
    axes = figure.subplots()
    table = found.table
    rates, smoothed = table["learning_rate"], table["smoothed_loss"]
    axes.plot(rates, table["loss"], "o", color=PALE, markersize=4, markeredgewidth=0, label="a batch")
    axes.plot(rates, smoothed, color=CURVE, linewidth=2.6, label="smoothed")
    axes.axvline(found.suggestion, color=SUGGESTED, linewidth=1.6, linestyle=(0, (5, 3)), zorder=1)
    _mark(axes, found, found.steepest, "v", "steepest descent")
    _mark(axes, found, found.lowest_loss, "s", "lowest loss")
    axes.set_xscale("log")
    low, high = float(smoothed.min()), float(smoothed.iloc[: max(5, len(smoothed) // 2)].max())
    reach = max(high - low, 1e-6)
    axes.set_ylim(low - 0.25 * reach, high + 0.6 * reach)  # what comes after, shoots up beyond use
    axes.set_xlabel("Learning rate", fontsize=12)
    axes.set_ylabel("Loss", fontsize=12)
    axes.set_title(
        f"Suggested learning rate: {found.suggestion:.1e}",
        loc="left",
        fontsize=15,
        fontweight="bold",
        color=INK,
    )
    ending = "the loss diverged after" if found.diverged else "all of"
    figure.text(0.995, 0.985, f"{ending} {len(table)} steps", ha="right", va="top", fontsize=10, color=GREY)
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=11, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=11)
    return figure


def _mark(axes: Axes, found: LearningRates, rate: float, marker: str, words: str) -> None:
    row = found.table[found.table["learning_rate"] == rate].iloc[0]
    axes.plot(
        rate,
        row["smoothed_loss"],
        marker,
        color=INK,
        markersize=9,
        markeredgecolor="white",
        linestyle="none",
        label=f"{words}, {rate:.1e}",
        zorder=3,
    )
