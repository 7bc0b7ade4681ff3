"""The figures of a data set's page: labels, their co-occurrence, and what predicts them without an image."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hilum.plots.style import GREY, INK, new_axes, new_figure
from hilum.targets import plain_name

MARK = "#0b5fa5"

#: Different in lightness and shape too, for readers who see fewer hues.
FEATURE_STYLES = {
    "view": ("#0b5fa5", "o"),
    "devices": ("#c44e00", "s"),
    "age": ("#117733", "^"),
    "sex": ("#aa3377", "D"),
    "all together": (INK, "o"),
}
#: Of a label before and after the policy.
LABEL_COLOURS = {
    "positive": "#0b5fa5",
    "smoothed": "#7b61d0",
    "uncertain": "#e09f1f",
    "uncertain_class": "#e09f1f",
    "negative": "#9fb4c7",
    "blank": "#e3e7ec",
    "left_out": "#ffffff",
}
LABEL_NAMES = {"uncertain_class": "uncertain", "left_out": "left out"}
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
LEVEL_COLOURS = {"View": "#0b5fa5", "Sex": "#aa3377", "Age": "#117733"}


def prevalence_figure(prevalence: pd.DataFrame) -> Figure:
    """A bar per target of `label_statistics.prevalence`, with its Wilson interval and counts, most common on top."""
    table = prevalence.sort_values("prevalence", kind="stable", na_position="first")
    figure = new_figure(10, 1.2 + 0.46 * len(table))
    axes = new_axes(figure)
    places = np.arange(len(table))
    share = table["prevalence"].fillna(0).to_numpy()
    axes.barh(places, share, color=MARK, height=0.62)
    reach = [share - table["low"].fillna(0).to_numpy(), table["high"].fillna(0).to_numpy() - share]
    line: dict[str, Any] = {"ecolor": INK, "elinewidth": 1.6, "capsize": 4, "capthick": 1.6}
    axes.errorbar(share, places, xerr=reach, fmt="none", **line)
    axes.set_yticks(range(len(table)), [plain_name(target) for target in table.index], fontsize=14)
    axes.set_ylim(-0.6, len(table) - 0.4)
    right = max(float(table["high"].max()), 0.01) if len(table) else 1
    for place, row in zip(places, table.itertuples(), strict=True):
        known = row.positives + row.negatives
        text = f"{row.prevalence:.1%}   {row.positives:,} of {known:,}" if known else "no label"
        at = row.high if known else 0
        axes.annotate(text, (at, place), (8, 0), textcoords="offset points", va="center", fontsize=13)
    axes.set_xlim(0, right * 1.42)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("Share of labelled images that are positive", fontsize=14, color=GREY)
    axes.grid(axis="y", visible=False)
    return figure


def findings_figure(findings: pd.Series) -> Figure:
    """The histogram of `label_statistics.findings_per_image`, with counts and shares above the bars."""
    figure = new_figure(10, 4.4)
    axes = new_axes(figure)
    axes.bar(findings.index, findings, color=MARK, width=0.72)
    total = findings.sum()
    size = 13 if len(findings) <= 9 else 11
    for count, images in findings.items():
        text = f"{images:,}\n{images / total:.1%}"
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
        axes.annotate(text, (float(count), images), (0, 4), **place, fontsize=size)
    axes.set(xticks=list(findings.index), ylim=(0, findings.max() * 1.22))
    axes.set_xlabel("Positive findings of an image", fontsize=14, color=GREY)
    axes.set_ylabel("Images", fontsize=14, color=GREY)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="x", visible=False)
    return figure


def co_occurrence_figure(pairs: pd.DataFrame, prevalence: pd.DataFrame) -> Figure:
    """Each pair's phi as colour and number, with the images that have both; counts on the diagonal.

    The tables are of `label_statistics.co_occurrence` and `label_statistics.prevalence`, in the same order.
    """
    targets = list(prevalence.index)
    cell = 0.86
    figure = new_figure(2.6 + cell * len(targets), 1.9 + cell * len(targets))
    axes = new_axes(figure)
    phi = np.full((len(targets), len(targets)), np.nan)
    place = {target: position for position, target in enumerate(targets)}
    for pair in pairs.itertuples():
        phi[place[pair.second], place[pair.first]] = pair.phi
    reach = max(0.1, math.ceil(10 * float(np.nanmax(np.abs(phi), initial=0.1))) / 10)
    image = axes.imshow(phi, cmap="PuOr_r", vmin=-reach, vmax=reach)
    for pair in pairs.itertuples():
        colour = "white" if abs(pair.phi) > 0.62 * reach else INK
        text = f"{_two_digits(pair.phi)}\n{pair.both:,}"
        axes.text(place[pair.first], place[pair.second], text, **_CENTRED, fontsize=14, color=colour)
    for target, positives in prevalence["positives"].items():
        at = place[target]
        axes.text(at, at, f"{positives:,}", **_CENTRED, fontsize=14, fontweight="bold")
    names = [plain_name(target) for target in targets]
    axes.set_xticks(range(len(targets)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=15)
    axes.set_yticks(range(len(targets)), names, fontsize=15)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    # The upper triangle repeats the lower one, so the scale is drawn there.
    bar = figure.colorbar(image, cax=axes.inset_axes((0.6, 0.93, 0.38, 0.03)), orientation="horizontal")
    bar.set_ticks([-reach, 0, reach])
    bar.set_label("phi", fontsize=15, color=GREY)
    bar.ax.tick_params(labelsize=14)
    bar.outline.set_visible(False)
    return figure


def feature_figure(shares: pd.DataFrame, targets: Sequence[str]) -> Figure:
    """The shares of `label_statistics.by_feature` (not empty), a panel per target in order, each on its own scale."""
    levels = list(dict.fromkeys(zip(shares["feature"], shares["level"], strict=True)))
    # A small gap between the features.
    features = list(dict.fromkeys(feature for feature, _ in levels))
    places = {key: position + 0.6 * features.index(key[0]) for position, key in enumerate(levels)}
    row_count = math.ceil(len(targets) / 4)
    used = math.ceil(len(targets) / row_count)
    figure = new_figure(2.4 + 3.5 * used, 0.8 + row_count * (1.1 + 0.31 * len(levels)))
    for position, target in enumerate(targets):
        axes = new_axes(figure, (row_count, used, position + 1))
        axes.set_title(plain_name(target), loc="left", fontsize=14, fontweight="bold", color=INK)
        rows = shares[(shares["target"] == target) & shares["prevalence"].notna()]
        for row in rows.itertuples():
            at, colour = places[row.feature, row.level], LEVEL_COLOURS[row.feature]
            axes.plot([row.low, row.high], [at, at], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot(row.prevalence, at, "o", color=colour, markersize=8, markeredgecolor="white")
        axes.set_yticks(list(places.values()), [level for _, level in places])
        axes.set_ylim(max(places.values()) + 0.7, -0.7)
        axes.tick_params(labelleft=position % used == 0, labelsize=13)
        axes.set_xlim(0, max(float(rows["high"].max()) if len(rows) else 0, 0.01) * 1.06)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(_percent)
    return figure


def policy_figure(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Each target's labels in the data set (upper bar), and after the label policy (lower bar).

    The tables are of `label_statistics.code_counts` and `label_statistics.label_counts`, with the same targets.
    """
    figure = new_figure(10, 1.7 + 0.72 * len(before))
    axes = new_axes(figure)
    drawn = {}
    for table, offset in ((before, -0.19), (after, 0.19)):
        shares = table.div(table.sum(axis=1), axis=0)
        left = np.zeros(len(table))
        for name in [name for name in LABEL_COLOURS if name in table and table[name].any()]:
            label = LABEL_NAMES.get(name, name)
            style: dict[str, Any] = {"color": LABEL_COLOURS[name], "edgecolor": GREY, "linewidth": 0.6}
            places = np.arange(len(table)) + offset
            drawn[label] = axes.barh(places, shares[name], left=left, height=0.34, label=label, **style)
            left += shares[name].to_numpy()
    axes.set_yticks(range(len(before)), [plain_name(name) for name in before.index], fontsize=14)
    axes.set(xlim=(0, 1.003), ylim=(len(before) - 0.45, -0.55))
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("Share of images", fontsize=14, color=GREY)
    axes.grid(visible=False)
    handles = list(drawn.values())
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=13, frameon=False)
    return figure


def leaks_figure(leaks: pd.DataFrame, targets: Sequence[str]) -> Figure:
    """The AUCs of `label_statistics.metadata_leaks` (not empty): a column per feature, a row per target."""
    features = list(dict.fromkeys(leaks["feature"]))
    places = {target: position for position, target in enumerate(targets)}
    figure = new_figure(3.2 + 2.7 * len(features), 1.3 + 0.5 * len(targets))
    low = min(0.45, float(leaks["low"].min()) - 0.02) if leaks["low"].notna().any() else 0.45
    high = max(0.75, float(leaks["high"].max()) + 0.02) if leaks["high"].notna().any() else 0.75
    low, high = max(low, 0), min(high, 1)
    right = high + 0.3 * (high - low)  # room for the numbers
    for position, feature in enumerate(features):
        axes = new_axes(figure, (1, len(features), position + 1))
        colour, marker = FEATURE_STYLES[feature]
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.6)
        for row in leaks[leaks["feature"] == feature].itertuples():
            at = places[row.target]
            if math.isnan(row.auc):
                axes.text(0.5, at, "too few", **_CENTRED, fontsize=12, color=GREY, backgroundcolor="white")
                continue
            axes.plot([row.low, row.high], [at, at], color=colour, linewidth=2.6, solid_capstyle="butt")
            axes.plot(row.auc, at, marker, color=colour, markersize=8.5, markeredgecolor="white")
            axes.text(right, at, f"{row.auc:.2f}", va="center", ha="right", fontsize=13)
        axes.set_title(feature, loc="left", fontsize=15, fontweight="bold", color=colour)
        axes.set(xlim=(low, right), ylim=(len(targets) - 0.4, -0.6))
        axes.set_yticks(range(len(targets)), [plain_name(target) for target in targets], fontsize=13)
        axes.tick_params(labelleft=position == 0)
        step = 0.1 if high - low < 0.35 else 0.25
        axes.set_xticks([tick for tick in np.arange(0, 1.01, step).round(2) if low <= tick <= high])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("AUC", fontsize=14, color=GREY)
    return figure


def _percent(share: float, _: float = 0) -> str:
    return f"{100 * share:g}%"


def _two_digits(value: float) -> str:
    """Such as −0.25, and no minus before 0.00."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0:.2f}".replace("-", "−")


def co_predicted(y_true: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Of the images with a finding (row), the share in which each finding (column) is predicted: (T, T) float64.

    `y_true` is (N, T), 1, 0 or NaN; `predicted` (N, T) bool with the same index. The diagonal is the recall; the row of
    a finding without images is NaN.
    """
    actual = (y_true == 1).to_numpy(dtype=np.float64)
    both = actual.T @ predicted.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = both / actual.sum(axis=0)[:, None]
    return pd.DataFrame(shares, y_true.columns, y_true.columns)


def co_prediction_figure(y_true: pd.DataFrame, predicted: pd.DataFrame) -> Figure:
    """Two matrices of `co_predicted`: the findings that occur with each finding, and those predicted with it."""
    targets = list(y_true.columns)
    side = max(3.2, 0.62 * len(targets))
    figure = Figure(figsize=(2 * side + 4.2, side + 2.2), layout="constrained", dpi=110)
    panels = figure.subplots(1, 2, sharey=True)
    shares = (co_predicted(y_true, y_true == 1), co_predicted(y_true, predicted))
    names = [textwrap.fill(plain_name(target), 18) for target in targets]
    titles = ("that also have the column's", "predicted to have the column's")
    for axes, table, title in zip(panels, shares, titles, strict=True):
        image = axes.imshow(table.to_numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"Share of the images with the row's finding\n{title}", fontsize=13)
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(targets)), [plain_name(name) for name in targets], **turned, fontsize=17)
        axes.set_yticks(range(len(targets)), names, fontsize=17)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (row, column), share in np.ndenumerate(table.to_numpy()):
            text = "n/a" if math.isnan(share) else f"{100 * share:.0f}"
            axes.text(column, row, text, **_CENTRED, fontsize=15, color="white" if share > 0.55 else INK)
    bar = figure.colorbar(image, ax=panels, shrink=0.7)
    bar.set_ticks([0, 0.2, 0.4, 0.6, 0.8, 1], labels=[f"{share}%" for share in range(0, 101, 20)])
    bar.ax.tick_params(labelsize=15)
    bar.outline.set_visible(False)
    return figure
