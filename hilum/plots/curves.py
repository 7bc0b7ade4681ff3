"""Figures of scores, one small panel per target on one scale: ROC, precision-recall, progression, reliability.

The curve of a learning-rate range test is here too. The validation part is solid, the train part dashed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hilum.plots.style import (
    DEFAULT_GRID,
    GREY,
    GRID,
    INK,
    PALE,
    PALETTE,
    Grid,
    explain_empty,
    frame,
    head,
    panel_grid,
    target_colours,
)

LINE_STYLES = {"val": "-", "train": (0, (4, 2))}
PART_NAMES = {"val": "validation", "train": "train"}
MOST_POINTS = 2000

#: A `hilum.metrics.ranking.Ranking`; plots does not import metrics.
Ranking = Any
#: Part ("train", "val") -> target -> ranking; the same targets in each part.
Rankings = Mapping[str, Mapping[str, Ranking]]


def roc_figure(
    rankings: Rankings, thresholds: Mapping[str, float], title: str = "ROC curves", grid: Grid = DEFAULT_GRID
) -> Figure:
    """ROC curves, a panel per target; the point of each target's threshold is marked."""

    def draw(axes: Axes, ranking: Ranking, threshold: float, style: dict[str, Any]) -> None:
        false_rates, true_rates, _ = ranking.roc_curve()
        shown = _thinned(len(false_rates))
        axes.plot(false_rates[shown], true_rates[shown], **style)
        counts = ranking.confusion(threshold)
        _mark(axes, counts.false_positives / ranking.negatives, counts.recall, style)

    def prepare(axes: Axes, _: Mapping[str, Ranking]) -> None:
        axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1.5, zorder=1)

    names = ("False positive rate", "True positive rate")
    score = ("AUC", "roc_auc")
    return _curves_figure(rankings, thresholds, draw, prepare, score, names, "chance", title, grid)


def precision_recall_figure(
    rankings: Rankings,
    thresholds: Mapping[str, float],
    title: str = "Precision and recall",
    grid: Grid = DEFAULT_GRID,
) -> Figure:
    """Precision-recall curves, a panel per target; arguments as for `roc_figure`.

    Drawn as steps, because a straight line between two points of this curve would be too optimistic. The dotted line is
    the share of positives, the precision of random guessing.
    """

    def draw(axes: Axes, ranking: Ranking, threshold: float, style: dict[str, Any]) -> None:
        precision, recall, _ = ranking.precision_recall_curve()
        # Rising recall, and without the conventional point (0, 1), where nothing was measured.
        precision, recall = precision[-2::-1], recall[-2::-1]
        shown = _thinned(len(precision))
        axes.step(recall[shown], precision[shown], where="pre", **style)
        counts = ranking.confusion(threshold)
        _mark(axes, counts.recall, counts.precision, style)

    def prepare(axes: Axes, parts: Mapping[str, Ranking]) -> None:
        for part, ranking in parts.items():
            if ranking.positives:
                prevalence = ranking.positives / (ranking.positives + ranking.negatives)
                colour = GREY if part == "val" else PALE
                axes.axhline(prevalence, color=colour, linestyle=":", linewidth=1.5, zorder=1)

    names = ("Recall", "Precision")
    score, baseline = ("AP", "average_precision"), "share of positives"
    return _curves_figure(rankings, thresholds, draw, prepare, score, names, baseline, title, grid)


def progression_figure(
    scores: pd.DataFrame, score: str, name: str, targets: Sequence[str] | None = None
) -> Figure:
    """One score (column) of `Metrics.scores` by epoch, a panel per target; all panels share one scale.

    `name` is the score in titles; the targets are drawn in their order, by default all.
    """
    targets = list(dict.fromkeys(scores["target"])) if targets is None else list(targets)
    scores = scores[scores["target"].isin(targets)]
    figure, panels = panel_grid(targets, ("Epoch", name))
    for target, colour in target_colours(targets).items():
        rows = scores[scores["target"] == target]
        _progression_panel(panels[target], target, rows, score, colour)
        if rows[score].isna().all():
            explain_empty(panels[target], _why_undefined(rows, score))
    _share_scale(panels.values(), scores, score)
    frame(figure, f"{name} by epoch", _part_keys(scores["part"].unique()))
    return figure


def combined_progression_figure(combined: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """The scores of `Metrics.combined` by epoch, a panel per score, each on its own scale.

    `names` maps a column to its title; a column without any value is left out.
    """
    drawn = [name for name in names if combined[name].notna().any()] or list(names)
    figure, panels = panel_grid(drawn, ("Epoch", ""), Grid(3, 4))
    for name, panel in panels.items():
        _progression_panel(panel, names[name], combined, name, PALETTE[0])
        _share_scale([panel], combined, name)
        panel.tick_params(labelleft=True)
    frame(figure, "All targets together, by epoch", _part_keys(combined["part"].unique()))
    return figure


def _curves_figure(
    rankings: Rankings,
    thresholds: Mapping[str, float],
    draw: Callable[[Axes, Ranking, float, dict[str, Any]], None],
    prepare: Callable[[Axes, Mapping[str, Ranking]], None],
    score: tuple[str, str],
    axis_names: tuple[str, str],
    baseline: str,
    title: str,
    grid: Grid,
) -> Figure:
    """The panels, headings and legend of both kinds of curves; score is its name and its method."""
    targets = list(next(iter(rankings.values())))
    parts = [part for part in ("val", "train") if part in rankings]
    score_name, method = score
    figure, panels = panel_grid(targets, axis_names, grid)
    for target, colour in target_colours(targets).items():
        axes, of_part = panels[target], {part: rankings[part][target] for part in parts}
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        values = {part: getattr(ranking, method)() for part, ranking in of_part.items()}
        defined = [part for part in parts if not math.isnan(values[part])]
        if not defined:
            head(axes, target, "", colour)
            explain_empty(axes, "\n".join(f"{PART_NAMES[part]}: {of_part[part].lack()}" for part in parts))
            continue
        prepare(axes, of_part)
        for part in reversed(defined):  # train first, so that validation is drawn over it
            draw(axes, of_part[part], thresholds[target], _line_style(part, colour))
        head(axes, target, f"{_score_text(score_name, values)}   ● ≥ {thresholds[target]:.2g}", colour)
    marker: dict[str, Any] = {"marker": "o", "markersize": 9, "linestyle": "", "markeredgecolor": "white"}
    keys = [
        *_part_keys(parts),
        Line2D([], [], label="prediction threshold", color=GREY, **marker),
        Line2D([], [], label=baseline, color=GREY, linestyle=":", linewidth=1.5),
    ]
    frame(figure, title, keys)
    return figure


def _thinned(count: int) -> np.ndarray:
    """Positions of about `MOST_POINTS` of `count` points, with the first and the last.

    The first few hundred stay, because the curve jumps where it counts few images.
    """
    if count <= MOST_POINTS:
        return np.arange(count)
    few = MOST_POINTS // 4
    others = np.linspace(few, count - 1, MOST_POINTS - few).astype(int)
    return np.unique(np.concatenate([np.arange(few), others]))


def _mark(axes: Axes, x: float, y: float, style: dict[str, Any]) -> None:
    """Marks the point of the threshold, hollow for train; nothing if it is undefined."""
    if math.isfinite(x) and math.isfinite(y):
        is_val = style["linestyle"] == LINE_STYLES["val"]
        face, edge = (style["color"], "white") if is_val else ("white", style["color"])
        marker: dict[str, Any] = {"markersize": 9, "color": face, "markeredgecolor": edge}
        axes.plot(x, y, "o", **marker, zorder=5 if is_val else 4, clip_on=False)


def _line_style(part: str, colour: str) -> dict[str, Any]:
    width, alpha = (2.4, 1.0) if part == "val" else (1.8, 0.75)
    return {"color": colour, "linestyle": LINE_STYLES[part], "linewidth": width, "alpha": alpha}


def _progression_panel(axes: Axes, name: str, rows: pd.DataFrame, score: str, colour: str) -> None:
    """One line per part, and the last values above it."""
    last = {}
    for part in ("train", "val"):  # train first, so that validation is drawn over it
        line = rows[rows["part"] == part].dropna(subset=[score])
        if len(line):
            style = {"marker": "o", "markersize": 6, "markeredgecolor": "white", **_line_style(part, colour)}
            axes.plot(line["epoch"], line[score], **style)
            last[part] = float(line[score].iloc[-1])
    values: dict[str, float] = {part: last[part] for part in ("val", "train") if part in last}
    head(axes, name, _score_text("last", values) if values else "", colour)


def _share_scale(panels: Iterable[Axes], rows: pd.DataFrame, score: str) -> None:
    """The same scales for all panels: every epoch, and every value with a small margin.

    A score from 0 to 1 has a range of at least a twentieth, so that noise does not look like a trend.
    """
    finite = rows.loc[np.isfinite(rows[score]), score]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    air = max(0.08 * (high - low), 0.05 * abs(high) if score == "loss" else 0.025)
    bottom, top = max(low - air, -0.01), high + air if score == "loss" else min(high + air, 1.01)
    first, last = rows["epoch"].min(), rows["epoch"].max()
    margin = 0.04 * (last - first) or 0.5
    for panel in panels:
        panel.set(xlim=(first - margin, last + margin), ylim=(bottom, top))
        panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        panel.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _why_undefined(rows: pd.DataFrame, score: str) -> str:
    """Why a target has no value of a score in any epoch, from its counts."""
    if rows.empty:
        return "no epoch is closed"
    row = rows.iloc[-1]
    labelled = int(row["positives"] + row["negatives"])
    if not labelled:
        return "no image has a known label"
    if not row["positives"]:
        return f"none of {labelled:,} labelled images is positive"
    if score == "roc_auc" and not row["negatives"]:
        return f"none of {labelled:,} labelled images is negative"
    return "nothing was predicted positive"


def reliability_figure(curves: Mapping[str, Any], title: str = "Calibration") -> Figure:
    """The share of positives against the mean probability, a panel per target.

    The bar of each point is the Wilson 95 % interval of its share, as if all images were independent. The axes end near
    the largest probability, so that a rare finding's points are not all in one corner.

    The curves are `hilum.metrics.calibration.ReliabilityCurve` by target.
    """
    names = ("Mean probability", "Share of positives")
    figure, panels = panel_grid(list(curves), names)
    for target, colour in target_colours(curves).items():
        curve = curves[target]
        if not len(curve.counts):
            head(panels[target], target, "", colour)
            explain_empty(panels[target], "no image has a known label")
            continue
        _reliability_panel(panels[target], curve, colour)
        error = curve.expected_calibration_error()
        least, most = int(curve.counts.min()), int(curve.counts.max())
        each = f"{least:,}" if least == most else f"{least:,}–{most:,}"
        head(panels[target], target, f"error {error:.3f}; a point: {each} images", colour)
    frame(figure, title, [])
    return figure


def _reliability_panel(axes: Axes, curve: Any, colour: str) -> None:
    low, high = curve.interval()
    x, y = curve.mean_probability, curve.positive_share
    reach = min(1.0, 1.12 * max(0.05, x.max(), y.max()))
    axes.plot([0, reach], [0, reach], color=PALE, linestyle=":", linewidth=1.5, zorder=1)
    axes.vlines(x, low, np.minimum(high, reach), color=colour, alpha=0.4, linewidth=2)
    axes.plot(x, y, "o", color=colour, markersize=8, markeredgecolor="white")
    axes.set(xlim=(-0.02 * reach, reach), ylim=(-0.02 * reach, reach))
    axes.locator_params(nbins=4)
    axes.tick_params(labelbottom=True, labelleft=True)  # each panel has its own scale


def learning_rate_figure(found: Any) -> Figure:
    """Loss by learning rate of `training.lr_finder.LearningRates`: a dot per batch, the smoothed loss as a line."""
    figure = Figure(figsize=(10, 5.6), layout="constrained", dpi=120)
    axes = figure.subplots()
    table = found.table
    rates, smoothed = table["learning_rate"], table["smoothed_loss"]
    axes.plot(rates, table["loss"], "o", color=PALE, markersize=4, markeredgewidth=0, label="a batch")
    axes.plot(rates, smoothed, color=PALETTE[0], linewidth=2.6, label="smoothed")
    axes.axvline(found.suggestion, color=PALETTE[1], linewidth=1.6, linestyle=(0, (5, 3)), zorder=1)
    marker: dict[str, Any] = {"color": INK, "markersize": 9, "markeredgecolor": "white", "linestyle": "none"}
    marks = ((found.steepest, "v", "steepest descent"), (found.lowest_loss, "s", "lowest loss"))
    for rate, shape, name in marks:
        loss = table.loc[table["learning_rate"] == rate, "smoothed_loss"].iloc[0]
        axes.plot(rate, loss, shape, **marker, label=f"{name}, {rate:.1e}", zorder=3)
    axes.set_xscale("log")
    low, high = float(smoothed.min()), float(smoothed.iloc[: max(5, len(smoothed) // 2)].max())
    reach = max(high - low, 1e-6)
    axes.set_ylim(low - 0.25 * reach, high + 0.6 * reach)  # the diverging end is far above
    axes.set_xlabel("Learning rate", fontsize=12)
    axes.set_ylabel("Loss", fontsize=12)
    title = f"Suggested learning rate: {found.suggestion:.1e}"
    axes.set_title(title, loc="left", fontsize=15, fontweight="bold", color=INK)
    ending = "the loss diverged after" if found.diverged else "all of"
    figure.text(0.995, 0.985, f"{ending} {len(table)} steps", ha="right", va="top", fontsize=10, color=GREY)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=11, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=11)
    return figure


def _score_text(score_name: str, values: Mapping[str, float]) -> str:
    """Such as `AUC 0.812 val, 0.840 train`."""
    texts = [f"{'n/a' if math.isnan(of) else format(of, '.3f')} {part}" for part, of in values.items()]
    return f"{score_name} {', '.join(texts)}"


def _part_keys(parts: Iterable[str]) -> list[Line2D]:
    shown = [part for part in ("val", "train") if part in parts]
    return [Line2D([], [], label=PART_NAMES[part], **_line_style(part, GREY)) for part in shown]
