"""ROC, precision-recall and progression figures: one small panel per target, all on the same scale.

Each figure is an unattached `matplotlib.figure.Figure`: nothing here touches pyplot's global state, so
figures can be drawn in any thread, with or without a screen. The validation part is solid, train dashed.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hilum.metrics.ranking import Ranking
from hilum.targets import CHEXPERT_FINDINGS, NIH_TARGETS

#: At least 3:1 contrast on white; neighbours differ in lightness too, for eyes that see fewer hues.
PALETTE = (
    "#0072b2",
    "#c44e00",
    "#117733",
    "#aa3377",
    "#2f2585",
    "#b07d00",
    "#00857c",
    "#cc4455",
    "#6a4c1f",
    "#7b61d0",
    "#5a7d00",
    "#882255",
    "#2a8fb8",
    "#4d4d4d",
)
LINE_STYLES = {"val": "-", "train": (0, (4, 2))}
PART_WORDS = {"val": "validation", "train": "train"}
GREY, PALE = "#595959", "#b8b8b8"
SCORE_WORDS = {
    "loss": "Loss",
    "accuracy": "Accuracy (all labels of an image right)",
    "hamming_loss": "Hamming loss (share of labels wrong)",
    "recall": "Recall",
    "precision": "Precision",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "avg_precision": "Average precision",
}
MOST_POINTS = 2000

Rankings = Mapping[str, Mapping[str, Ranking]]


def target_colours(targets: Iterable[str]) -> dict[str, str]:
    """Target -> colour. A known finding has the same colour in every figure of every data set."""
    only_nih = iter(target for target in NIH_TARGETS if target not in CHEXPERT_FINDINGS)
    fixed = {}
    for position, finding in enumerate(CHEXPERT_FINDINGS):
        fixed[finding] = PALETTE[position]
        if finding not in NIH_TARGETS:  # so many are only in CheXpert as are only in NIH
            fixed[next(only_nih)] = PALETTE[position]
    return {
        target: fixed.get(target, PALETTE[position % len(PALETTE)]) for position, target in enumerate(targets)
    }


def roc_figure(
    rankings: Rankings,
    thresholds: Mapping[str, float],
    title: str = "ROC curves",
    column_count: int = 4,
    height: float = 3,
    width: float = 20,
) -> Figure:
    """ROC curves, a panel per target.

    Args:
        rankings: part ("train", "val") -> target -> `Ranking`; the same targets in each part.
        thresholds: target -> threshold of the predictions; the point there is marked.
        title: stands above all panels.
        column_count: most panels beside each other.
        height: of one row of panels, in inches.
        width: of a full row of panels, in inches; fewer panels make a narrower figure.
    """

    def draw(axes: Axes, ranking: Ranking, threshold: float, style: dict[str, object]) -> None:
        false_rates, true_rates, _ = ranking.roc_curve()
        shown = _thinned(len(false_rates))
        axes.plot(false_rates[shown], true_rates[shown], **style)
        counts = ranking.confusion(threshold)
        _mark(axes, counts.false_positives / ranking.negatives, counts.recall, style)

    def prepare(axes: Axes, _: Mapping[str, Ranking]) -> None:
        axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1.5, zorder=1)

    return _curves_figure(
        rankings,
        thresholds,
        draw,
        prepare,
        score=("AUC", Ranking.roc_auc),
        axis_names=("False positive rate", "True positive rate"),
        baseline="chance",
        title=title,
        grid=(column_count, height, width),
    )


def precision_recall_figure(
    rankings: Rankings,
    thresholds: Mapping[str, float],
    title: str = "Precision and recall",
    column_count: int = 4,
    height: float = 3,
    width: float = 20,
) -> Figure:
    """Precision-recall curves, a panel per target; arguments as for `roc_figure`.

    Drawn as steps: between two points of this curve a straight line would promise too much.
    The dotted line is the share of positives, which is what guessing attains.
    """

    def draw(axes: Axes, ranking: Ranking, threshold: float, style: dict[str, object]) -> None:
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
                axes.axhline(
                    prevalence, color=GREY if part == "val" else PALE, linestyle=":", linewidth=1.5, zorder=1
                )

    return _curves_figure(
        rankings,
        thresholds,
        draw,
        prepare,
        score=("AP", Ranking.average_precision),
        axis_names=("Recall", "Precision"),
        baseline="share of positives",
        title=title,
        grid=(column_count, height, width),
    )


def progression_figure(
    scores: pd.DataFrame,
    score: str,
    parts: Sequence[str] = ("train", "val"),
    targets: Sequence[str] | None = None,
    column_count: int = 4,
    height: float = 3,
    width: float = 20,
) -> Figure:
    """One itemized score from epoch to epoch, a panel per target; all panels share one scale.

    Args:
        scores: `Metrics.scores`.
        score: its column, e.g. "roc_auc".
        parts: which to draw.
        targets: which to draw, in order; all by default.
        column_count: as for `roc_figure`.
        height: as for `roc_figure`.
        width: as for `roc_figure`.
    """
    targets = list(dict.fromkeys(scores["target"])) if targets is None else list(targets)
    scores = scores[scores["part"].isin(parts) & scores["target"].isin(targets)]
    figure, panels = panel_grid(targets, ("Epoch", SCORE_WORDS[score]), column_count, height, width)
    for target, colour in target_colours(targets).items():
        rows = scores[scores["target"] == target]
        _progression_panel(panels[target], target, rows, score, parts, colour)
        if rows[score].isna().all():
            say_why_empty(panels[target], _lack_in_words(rows, score))
    _share_scale(panels.values(), scores, score)
    frame(figure, f"{SCORE_WORDS[score]} by epoch", _part_keys(scores["part"].unique()))
    return figure


def combined_progression_figure(
    combined: pd.DataFrame,
    parts: Sequence[str] = ("train", "val"),
    score_names: Sequence[str] = ("loss", "accuracy", "hamming_loss"),
    column_count: int = 3,
    height: float = 4,
    width: float = 20,
) -> Figure:
    """Scores of all targets together from epoch to epoch, a panel per score, each on its own scale.

    Args:
        combined: `Metrics.combined`.
        parts: which to draw.
        score_names: its columns that are drawn, but for those without any value.
        column_count: as for `roc_figure`.
        height: as for `roc_figure`.
        width: as for `roc_figure`.
    """
    combined = combined[combined["part"].isin(parts)]
    names = [name for name in score_names if combined[name].notna().any()] or list(score_names)
    figure, panels = panel_grid(names, ("Epoch", ""), column_count, height, width)
    for name, panel in panels.items():
        _progression_panel(panel, SCORE_WORDS[name], combined, name, parts, PALETTE[0])
        _share_scale([panel], combined, name)
        panel.tick_params(labelleft=True)
    frame(figure, "All targets together, by epoch", _part_keys(combined["part"].unique()))
    return figure


# ---- panels of curves ----------------------------------------------------------------------------------


def _curves_figure(
    rankings: Rankings,
    thresholds: Mapping[str, float],
    draw: Callable[[Axes, Ranking, float, dict[str, object]], None],
    prepare: Callable[[Axes, Mapping[str, Ranking]], None],
    score: tuple[str, Callable[[Ranking], float]],
    axis_names: tuple[str, str],
    baseline: str,
    title: str,
    grid: tuple[int, float, float],
) -> Figure:
    """What both kinds of curves have in common: panels, headings, legend."""
    targets = list(next(iter(rankings.values())))
    parts = [part for part in ("val", "train") if part in rankings]
    score_name, score_of = score
    figure, panels = panel_grid(targets, axis_names, *grid)
    for target, colour in target_colours(targets).items():
        axes, of_part = panels[target], {part: rankings[part][target] for part in parts}
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        values = {part: score_of(ranking) for part, ranking in of_part.items()}
        defined = [part for part in parts if not math.isnan(values[part])]
        if not defined:
            head(axes, target, "", colour)
            say_why_empty(axes, "\n".join(f"{PART_WORDS[part]}: {of_part[part].lack()}" for part in parts))
            continue
        prepare(axes, of_part)
        for part in reversed(defined):  # train first, so that validation lies above it
            draw(axes, of_part[part], thresholds[target], _line_style(part, colour))
        head(axes, target, f"{_in_words(score_name, values)}   ● ≥ {thresholds[target]:.2g}", colour)
    marker = {"marker": "o", "markersize": 9, "linestyle": "", "color": GREY, "markeredgecolor": "white"}
    keys = [
        *_part_keys(parts),
        Line2D([], [], label="prediction threshold", **marker),
        Line2D([], [], label=baseline, color=GREY, linestyle=":", linewidth=1.5),
    ]
    frame(figure, title, keys)
    return figure


def _thinned(count: int) -> np.ndarray:
    """Positions of at most about `MOST_POINTS` of `count` points, first and last among them.

    The first few hundred stay: there, where few images count, curves jump.
    """
    if count <= MOST_POINTS:
        return np.arange(count)
    few = MOST_POINTS // 4
    return np.unique(
        np.concatenate([np.arange(few), np.linspace(few, count - 1, MOST_POINTS - few).astype(int)])
    )


def _mark(axes: Axes, x: float, y: float, style: dict[str, object]) -> None:
    """The point that the threshold chooses, hollow for train; nowhere if it is undefined."""
    if math.isfinite(x) and math.isfinite(y):
        is_val = style["linestyle"] == LINE_STYLES["val"]
        face, edge = (style["color"], "white") if is_val else ("white", style["color"])
        axes.plot(
            x,
            y,
            "o",
            markersize=9,
            color=face,
            markeredgecolor=edge,
            zorder=5 if is_val else 4,
            clip_on=False,
        )


def _line_style(part: str, colour: str) -> dict[str, object]:
    return {
        "color": colour,
        "linestyle": LINE_STYLES[part],
        "linewidth": 2.4 if part == "val" else 1.8,
        "alpha": 1.0 if part == "val" else 0.75,
    }


# ---- panels of progressions ----------------------------------------------------------------------------


def _progression_panel(
    axes: Axes, name: str, rows: pd.DataFrame, score: str, parts: Sequence[str], colour: str
) -> None:
    """One line per part, and the last values above it."""
    last = {}
    for part in ("train", "val"):  # train first, so that validation lies above it
        line = rows[rows["part"] == part].dropna(subset=[score])
        if part in parts and len(line):
            style = {"marker": "o", "markersize": 6, "markeredgecolor": "white", **_line_style(part, colour)}
            axes.plot(line["epoch"], line[score], **style)
            last[part] = float(line[score].iloc[-1])
    values = {part: last[part] for part in ("val", "train") if part in last}
    head(axes, name, _in_words("last", values) if values else "", colour)


def _share_scale(panels: Iterable[Axes], rows: pd.DataFrame, score: str) -> None:
    """The same scales for all panels: every epoch, and every value with a little air.

    No less than a twentieth is shown of a score that lies in 0..1, or noise would look like a trend.
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


def _lack_in_words(rows: pd.DataFrame, score: str) -> str:
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


# ---- the figure around the panels ----------------------------------------------------------------------


def panel_grid(
    names: Sequence[str], axis_names: tuple[str, str], column_count: int, height: float, width: float
) -> tuple[Figure, dict[str, Axes]]:
    """An empty panel per name. Rows are filled evenly: five panels in four columns are three and two."""
    row_count = math.ceil(len(names) / column_count)
    used = math.ceil(len(names) / row_count)
    figure = Figure(
        figsize=(width / column_count * used, height * row_count + 1.2), layout="constrained", dpi=100
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.04)
    panels = {}
    for position, name in enumerate(names):
        axes = figure.add_subplot(row_count, used, position + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        is_lowest, is_leftmost = position + used >= len(names), position % used == 0
        axes.tick_params(labelsize=13, color=GREY, labelbottom=is_lowest, labelleft=is_leftmost)
        axes.set_xlabel(axis_names[0] if is_lowest else "", fontsize=14, color=GREY)
        axes.set_ylabel(axis_names[1] if is_leftmost else "", fontsize=14, color=GREY)
        panels[name] = axes
    return figure, panels


def head(axes: Axes, name: str, values: str, colour: str) -> None:
    """The target's name above its panel, in its colour, and some values below it."""
    axes.set_title(name.replace("_", " "), loc="left", fontsize=16, fontweight="bold", color=colour, pad=24)
    place = {"xy": (0, 1), "xytext": (0, 6), "xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(values, **place, fontsize=13, color="#303030")


def _in_words(score_name: str, values: Mapping[str, float]) -> str:
    """Such as `AUC 0.812 val, 0.840 train`."""
    words = [
        f"{'n/a' if math.isnan(value) else format(value, '.3f')} {part}" for part, value in values.items()
    ]
    return f"{score_name} {', '.join(words)}"


def say_why_empty(axes: Axes, reason: str) -> None:
    """The reason in the middle of a panel that has nothing to show; a line feed keeps its place."""
    axes.set_facecolor("#f4f4f4")
    axes.grid(False)
    lines = [line for part in reason.split("\n") for line in textwrap.wrap(part, 34)]
    axes.text(
        0.5,
        0.5,
        "\n".join(lines),
        ha="center",
        va="center",
        fontsize=13,
        color=GREY,
        transform=axes.transAxes,
    )


def _part_keys(parts: Iterable[str]) -> list[Line2D]:
    shown = [part for part in ("val", "train") if part in parts]
    return [Line2D([], [], label=PART_WORDS[part], **_line_style(part, GREY)) for part in shown]


def frame(figure: Figure, title: str, keys: list[Line2D]) -> None:
    """The title above all panels and the legend below them."""
    figure.suptitle(title, fontsize=20, fontweight="bold", x=0.01, ha="left")
    if keys:
        columns = len(keys) if figure.get_figwidth() >= 9 else 2
        figure.legend(handles=keys, loc="outside lower center", ncols=columns, fontsize=14, frameon=False)
