"""Scores and figures shown in a notebook, or as text in a terminal.

A notebook shows styled tables and figures. A terminal shows tables; figures are written as PNG files if a folder is
given, also from a notebook.
"""

import sys
from collections.abc import Sequence
from enum import StrEnum
from io import BytesIO
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.files import replacing
from hilum.metrics.scores import (
    COMBINED_TITLES,
    COUNT_COLUMNS,
    SCORE_COLUMNS,
    SCORE_NAMES,
    combined_scores,
    score_title,
)
from hilum.targets import resolve_targets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hilum.metrics.history import Metrics
    from hilum.plots.style import Grid

#: Columns of counts; all other numbers are shown with three decimals.
COUNTS = ("epoch", *COUNT_COLUMNS)
#: Headings of narrow columns in a terminal, so that eleven columns fit into one line.
SHORT_HEADINGS = SCORE_NAMES | dict(zip(COUNT_COLUMNS, ("pos", "neg", "pred pos", "true pos"), strict=True))
SHORT_HEADINGS |= {
    "precision": "prec",
    "accuracy": "accuracy",
    "avg_precision": "avg prec",
    "threshold": "thr",
}
UNDEFINED = "n/a"
NO_FOLDER = "Figures are not drawn in a terminal: give figures_to=<folder> to write them as PNG files."


class MetricDataSource(StrEnum):
    """The part of the data to show; also given as text: "train", "val", "both"."""

    Train = "train"
    Val = "val"
    Both = "both"

    @classmethod
    def _missing_(cls, value: object) -> "MetricDataSource":
        names = [member.value for member in cls]
        if str(value).lower() in names:
            return cls(str(value).lower())
        raise HilumError(
            f"metric_data_source is {value!r}.{nearest(str(value), names)} Known: {', '.join(names)}."
        )


def display_metrics(
    metrics: "Metrics",
    metric_data_source: MetricDataSource | str = MetricDataSource.Both,
    show_combined_metrics: bool = True,
    show_metric_data_frame: bool = True,
    show_roc_curves: bool = True,
    show_precision_recall_curves: bool = True,
    include_targets: str | Sequence[str] | None = None,
    combined_average_method: str = "samples",
    grid_spec_column_count: int = 4,
    grid_spec_height: float = 3,
    grid_spec_width: float = 20,
    epoch: int | None = None,
    figures_to: str | Path | None = None,
) -> list[Path]:
    """Shows one epoch's scores and curves; train and validation curves share their panels.

    Args:
        metrics: of the run.
        metric_data_source: parts to show.
        show_combined_metrics: whether to show the scores of all targets together.
        show_metric_data_frame: whether to show the scores of each target.
        show_roc_curves: whether to draw them.
        show_precision_recall_curves: whether to draw them.
        include_targets: names, aliases or a named set; all targets by default.
        combined_average_method: see `combined_scores`.
        grid_spec_column_count: largest number of panels in a row.
        grid_spec_height: of a row of panels, in inches.
        grid_spec_width: of a full row of panels, in inches.
        epoch: its number; by default the last closed epoch.
        figures_to: folder for PNG files.

    Returns:
        The files that were written.

    Raises:
        HilumError: an epoch or part that is not closed, or an unknown target.
    """
    parts, epoch = _parts_and_epoch(metrics, MetricDataSource(metric_data_source), epoch)
    targets = list(resolve_targets(include_targets, metrics.target_columns))
    screen = _Screen(figures_to)
    for part in parts:
        title = f"{'Training' if part == 'train' else 'Validation'}, epoch {epoch}"
        if show_combined_metrics:
            reached = getattr(metrics, f"{part}_prediction_hx")[epoch][targets]
            scores = combined_scores(metrics.actual(epoch, part)[targets], reached, combined_average_method)
            rows = pd.DataFrame({"score": list(scores), "all targets": list(scores.values())})
            screen.table(rows, f"{title}: all targets together ({combined_average_method} average)")
        if show_metric_data_frame:
            itemized = metrics.scores.set_index(["epoch", "part", "target"]).loc[(epoch, part)].loc[targets]
            screen.table(itemized.reset_index(), f"{title}: each target")
    curves = {"roc": show_roc_curves, "precision-recall": show_precision_recall_curves}
    if any(curves.values()) and screen.draws():
        from hilum.plots.style import Grid

        grid = Grid(grid_spec_column_count, grid_spec_height, grid_spec_width)
        _draw_curves(screen, metrics, epoch, parts, targets, curves, grid)
    return screen.written


def _draw_curves(
    screen: "_Screen",
    metrics: "Metrics",
    epoch: int,
    parts: list[str],
    targets: list[str],
    curves: dict[str, bool],
    grid: "Grid",
) -> None:
    from hilum.plots.curves import precision_recall_figure, roc_figure

    ranked = {part: metrics.rankings(epoch, part) for part in parts}
    rankings = {part: {target: of_part[target] for target in targets} for part, of_part in ranked.items()}
    thresholds = dict(zip(metrics.target_columns, metrics.target_thresholds.tolist(), strict=True))
    suffix = f"epoch-{epoch:04d}" + ("" if len(parts) == 2 else f"-{parts[0]}")
    if curves["roc"]:
        figure = roc_figure(rankings, thresholds, f"ROC curves, epoch {epoch}", grid)
        screen.figure(figure, f"roc-{suffix}")
    if curves["precision-recall"]:
        figure = precision_recall_figure(rankings, thresholds, f"Precision and recall, epoch {epoch}", grid)
        screen.figure(figure, f"precision-recall-{suffix}")


def display_epoch_progression(
    metrics: "Metrics",
    show_result_data_frames: bool = False,
    show_accuracy_progression: bool = True,
    show_recall_progression: bool = True,
    show_precision_progression: bool = True,
    show_f1_progression: bool = True,
    show_roc_auc_progression: bool = True,
    show_avg_precision_progression: bool = True,
    include_targets: str | Sequence[str] | None = None,
    figures_to: str | Path | None = None,
) -> list[Path]:
    """Shows the scores from epoch to epoch, a figure per score.

    Args:
        metrics: of the run.
        show_result_data_frames: whether to show the numbers too.
        show_accuracy_progression: whether to show loss, accuracy and Hamming loss of all targets together.
        show_recall_progression: whether to show it; also the four that follow.
        show_precision_progression: as above.
        show_f1_progression: as above.
        show_roc_auc_progression: as above.
        show_avg_precision_progression: as above.
        include_targets: names, aliases or a named set; all targets by default.
        figures_to: folder for PNG files.

    Returns:
        The files that were written.

    Raises:
        HilumError: no epoch is closed, or an unknown target.
    """
    if not metrics.epochs():
        raise HilumError("There is no progression to show: no epoch is closed.")
    shown = [show_recall_progression, show_precision_progression, show_f1_progression]
    shown += [show_roc_auc_progression, show_avg_precision_progression]
    score_names = list(compress(SCORE_COLUMNS, shown))
    targets = list(resolve_targets(include_targets, metrics.target_columns))
    scores = metrics.scores[metrics.scores["target"].isin(targets)]
    screen = _Screen(figures_to)
    if show_result_data_frames:
        if show_accuracy_progression:
            screen.table(metrics.combined, "All targets together, by epoch")
        for name in score_names:
            # Not pivot_table, which averages and drops NaN.
            table = scores.pivot(index=["epoch", "part"], columns="target", values=name)  # noqa: PD010
            screen.table(table[targets].rename_axis(columns=None).reset_index(), f"{name} by epoch")
    if not (show_accuracy_progression or score_names) or not screen.draws():
        return screen.written
    from hilum.plots.curves import combined_progression_figure, progression_figure

    if show_accuracy_progression:
        screen.figure(combined_progression_figure(metrics.combined, COMBINED_TITLES), "progression-combined")
    for name in score_names:
        figure = progression_figure(scores, name, score_title(name), targets=targets)
        screen.figure(figure, f"progression-{name.replace('_', '-')}")
    return screen.written


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel (an IPython shell in a terminal shows no figures)."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class _Screen:
    """Shows tables and figures, and keeps the list of written files."""

    def __init__(self, figures_to: str | Path | None) -> None:
        self.folder = None if figures_to is None else Path(figures_to)
        self.is_notebook = in_notebook()
        self.written: list[Path] = []

    def draws(self) -> bool:
        """Whether figures are shown or written; prints the remedy if not."""
        if not self.is_notebook and self.folder is None:
            print(NO_FOLDER)
            return False
        return True

    def table(self, table: pd.DataFrame, title: str) -> None:
        if not self.is_notebook:
            _print_table(table, title)
            return
        from IPython.display import display

        style = table.style.hide(axis="index").set_caption(title).format(precision=3, na_rep=UNDEFINED)
        counts = [name for name in COUNTS if name in table.columns]
        display(style.format("{:,}", subset=counts) if counts else style)

    def figure(self, figure: "Figure", name: str) -> None:
        if self.folder is not None:
            path = self.folder / f"{name}.png"
            with replacing(path) as partial:
                figure.savefig(partial, format="png")
            self.written.append(path)
        if not self.is_notebook:
            print(f"Written: {path}")
            return
        from IPython.display import Image, display

        # As PNG bytes: IPython draws a Figure itself only after pyplot has been set up for notebooks.
        picture = BytesIO()
        figure.savefig(picture, format="png")
        display(Image(data=picture.getvalue()))


def _print_table(table: pd.DataFrame, title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for name in table.columns:
        cells = [_cell(name, value) for value in table[name]]
        heading = SHORT_HEADINGS.get(str(name), str(name).replace("_", " "))
        if pd.api.types.is_numeric_dtype(table[name].dtype):
            least = max(map(len, cells), default=1)  # the heading is broken, never a number
            shown.add_column(heading.replace(" ", "\n"), justify="right", min_width=least, overflow="fold")
        else:
            longest = max((len(part) for cell in cells for part in cell.split()), default=1)
            shown.add_column(heading, min_width=min(14, longest), overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*(_cell(name, value) for name, value in zip(table.columns, row, strict=True)))
    console = Console()
    console.print(f"\n[bold]{title}[/bold]")
    console.print(shown)


def _cell(column: str, value: Any) -> str:
    if isinstance(value, str):
        return value.replace("_", " ")
    if pd.isna(value):
        return UNDEFINED
    return f"{value:,}" if column in COUNTS else f"{value:.3f}"


def _parts_and_epoch(
    metrics: "Metrics", source: MetricDataSource, epoch: int | None
) -> tuple[list[str], int]:
    """The parts to show, those of `source` that the epoch has, and the epoch."""
    asked = ["train", "val"] if source == MetricDataSource.Both else [source.value]
    closed = metrics.epochs() if source == MetricDataSource.Both else metrics.epochs(source.value)
    if not closed or (epoch is not None and epoch not in closed):
        what = "No epoch" if epoch is None else f"No epoch {epoch}"
        raise HilumError(
            f"{what} of {source.value} is closed; closed are: {', '.join(map(str, closed)) or 'none'}."
        )
    epoch = closed[-1] if epoch is None else epoch
    return [part for part in asked if epoch in metrics.epochs(part)], epoch
