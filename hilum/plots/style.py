"""The common style of all figures: colours, empty panels, headings and the legend.

Each figure is an unattached `matplotlib.figure.Figure`: nothing here touches pyplot's global state, so figures can be
drawn in any thread, with or without a screen.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hilum.targets import CHEXPERT_FINDINGS, NIH_TARGETS, plain_name

#: At least 3:1 contrast on white; neighbours differ in lightness too, for readers who see fewer hues.
PALETTE = (
    *("#0072b2", "#c44e00", "#117733", "#aa3377", "#2f2585", "#b07d00", "#00857c"),
    *("#cc4455", "#6a4c1f", "#7b61d0", "#5a7d00", "#882255", "#2a8fb8", "#4d4d4d"),
)
INK, GREY, PALE, GRID = "#1c2430", "#595959", "#b8b8b8", "#e6e6e6"


def target_colours(targets: Iterable[str]) -> dict[str, str]:
    """Target -> colour. A known finding has the same colour in every figure of every data set."""
    only_nih = iter(target for target in NIH_TARGETS if target not in CHEXPERT_FINDINGS)
    fixed = {}
    for position, finding in enumerate(CHEXPERT_FINDINGS):
        fixed[finding] = PALETTE[position]
        if finding not in NIH_TARGETS:  # as many findings are only in CheXpert as are only in NIH
            fixed[next(only_nih)] = PALETTE[position]
    return {
        target: fixed.get(target, PALETTE[position % len(PALETTE)]) for position, target in enumerate(targets)
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=100, facecolor="white")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.04)
    return figure


def new_axes(figure: Figure, place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    """An empty panel; `place` is its rows, columns and position from 1."""
    axes = figure.add_subplot(*place)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=13, color=GREY)
    return axes


class Grid(NamedTuple):
    """The grid of the panels: largest number in a row, height of a row, width of a full row in inches.

    Fewer panels make a narrower figure.
    """

    columns: int = 4
    height: float = 3
    width: float = 20


DEFAULT_GRID = Grid()


def panel_grid(
    names: Sequence[str], axis_names: tuple[str, str], grid: Grid = DEFAULT_GRID
) -> tuple[Figure, dict[str, Axes]]:
    """An empty panel per name, in even rows: five panels in four columns become three and two."""
    row_count = math.ceil(len(names) / grid.columns)
    used = math.ceil(len(names) / row_count)
    figure = new_figure(grid.width / grid.columns * used, grid.height * row_count + 1.2)
    panels = {}
    for position, name in enumerate(names):
        axes = new_axes(figure, (row_count, used, position + 1))
        is_lowest, is_leftmost = position + used >= len(names), position % used == 0
        axes.tick_params(labelbottom=is_lowest, labelleft=is_leftmost)
        axes.set_xlabel(axis_names[0] if is_lowest else "", fontsize=14, color=GREY)
        axes.set_ylabel(axis_names[1] if is_leftmost else "", fontsize=14, color=GREY)
        panels[name] = axes
    return figure, panels


def head(axes: Axes, name: str, values: str, colour: str) -> None:
    """The target's name above its panel, in its colour, and some values below the name."""
    axes.set_title(plain_name(name), loc="left", fontsize=16, fontweight="bold", color=colour, pad=24)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(values, (0, 1), (0, 6), **place, fontsize=13, color="#303030")


def explain_empty(axes: Axes, reason: str) -> None:
    """The reason in the middle of a panel without data; lines are wrapped, line feeds are kept."""
    axes.set_facecolor("#f4f4f4")
    axes.grid(False)
    text = "\n".join(line for part in reason.split("\n") for line in textwrap.wrap(part, 34))
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, **place, fontsize=13, color=GREY)


def frame(figure: Figure, title: str, keys: Sequence[Line2D]) -> None:
    """The title above all panels and the legend below them."""
    figure.suptitle(title, fontsize=20, fontweight="bold", x=0.01, ha="left")
    if keys:
        columns = len(keys) if figure.get_figwidth() >= 9 else 2
        figure.legend(handles=keys, loc="outside lower center", ncols=columns, fontsize=14, frameon=False)
