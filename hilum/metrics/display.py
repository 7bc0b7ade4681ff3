"""Scores and figures shown in a notebook, or as text in a terminal.

A notebook shows styled tables and figures. A terminal shows tables; figures are written as PNG files if a folder is
given, also from a notebook.
"""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.files import replacing
from hilum.metrics.scores import COMBINED_TITLES, SCORE_NAMES, combined_scores, score_title
from hilum.targets import resolve_targets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hilum.metrics.history import Metrics

#: Columns of counts; all other numbers are shown with three decimals.
COUNTS = ("epoch", "positives", "negatives", "predicted_positives", "true_positives")
#: Headings of narrow columns in a terminal, so that eleven columns fit into one line.
SHORT_HEADINGS = SCORE_NAMES | {
    "positives": "pos",
    "negatives": "neg",
    "predicted_positives": "pred pos",
    "true_positives": "true pos",
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


def show_epoch(
    metrics: "Metrics",
    source: MetricDataSource | str = MetricDataSource.Both,
    combined: bool = True,
    itemized: bool = True,
    roc: bool = True,
    precision_recall: bool = True,
    include_targets: str | Sequence[str] | None = None,
    average: str = "samples",
    grid: tuple[int, float, float] = (4, 3, 20),
    epoch: int | None = None,
    figures_to: str | Path | None = None,
) -> list[Path]:
    """Shows one epoch's scores and curves; train and validation curves share their panels.

    Args:
        metrics: of the run.
        source: parts to show.
        combined: whether to show the scores of all targets together.
        itemized: whether to show the scores of each target.
        roc: whether to show ROC curves.
        precision_recall: whether to show precision-recall curves.
        include_targets: names, aliases or a named set; all targets by default.
        average: of the combined scores, see `combined_scores`.
        grid: largest number of panels in a row, height of a row and width of a full row in inches.
        epoch: its number; by default the last closed epoch.
        figures_to: folder for PNG files.

    Returns:
        The files that were written.

    Raises:
        HilumError: an epoch or part that is not closed, or an unknown target.
    """
    parts, epoch = _parts_and_epoch(metrics, MetricDataSource(source), epoch)
    targets = resolve_targets(include_targets, metrics.target_columns)
    screen = _Screen(figures_to)
    for part in parts:
        title = f"{'Training' if part == 'train' else 'Validation'}, epoch {epoch}"
        if combined:
            scores = _combined_of(metrics, epoch, part, targets, average)
            rows = pd.DataFrame({"score": list(scores), "all targets": list(scores.values())})
            screen.table(rows, f"{title}: all targets together (averaged over {average})")
        if itemized:
            screen.table(_itemized_of(metrics, epoch, part, targets), f"{title}: each target")
    if not (roc or precision_recall) or not screen.draws():
        return screen.written
    from hilum.plots.curves import precision_recall_figure, roc_figure

    ranked = {part: metrics.rankings(epoch, part) for part in parts}
    rankings = {part: {target: of_part[target] for target in targets} for part, of_part in ranked.items()}
    thresholds = dict(zip(metrics.target_columns, metrics.target_thresholds.tolist(), strict=True))
    suffix = f"epoch-{epoch:04d}" + ("" if len(parts) == 2 else f"-{parts[0]}")
    if roc:
        screen.figure(roc_figure(rankings, thresholds, f"ROC curves, epoch {epoch}", *grid), f"roc-{suffix}")
    if precision_recall:
        title = f"Precision and recall, epoch {epoch}"
        figure = precision_recall_figure(rankings, thresholds, title, *grid)
        screen.figure(figure, f"precision-recall-{suffix}")
    return screen.written


def show_progression(
    metrics: "Metrics",
    tables: bool = False,
    combined: bool = True,
    score_names: Sequence[str] = ("recall", "precision", "f1", "roc_auc", "avg_precision"),
    include_targets: str | Sequence[str] | None = None,
    figures_to: str | Path | None = None,
) -> list[Path]:
    """Shows the scores from epoch to epoch.

    Args:
        metrics: of the run.
        tables: whether to show the numbers too.
        combined: whether to show loss, accuracy and Hamming loss of all targets together.
        score_names: columns of `Metrics.scores`, a figure each.
        include_targets: names, aliases or a named set; all targets by default.
        figures_to: folder for PNG files.

    Returns:
        The files that were written.

    Raises:
        HilumError: no epoch is closed, or an unknown target.
    """
    if not metrics.epochs():
        raise HilumError("There is no progression to show: no epoch is closed.")
    targets = resolve_targets(include_targets, metrics.target_columns)
    scores = metrics.scores[metrics.scores["target"].isin(targets)]
    screen = _Screen(figures_to)
    if tables:
        if combined:
            screen.table(metrics.combined, "All targets together, by epoch")
        for name in score_names:
            # Not pivot_table, which averages and drops NaN.
            by_epoch = scores.pivot(index=["epoch", "part"], columns="target", values=name)  # noqa: PD010
            by_epoch = by_epoch[list(targets)]
            screen.table(by_epoch.rename_axis(columns=None).reset_index(), f"{name} by epoch")
    if not (combined or score_names) or not screen.draws():
        return screen.written
    from hilum.plots.curves import combined_progression_figure, progression_figure

    if combined:
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
        if self.is_notebook:
            _show_styled(table, title)
        else:
            _print_table(table, title)

    def figure(self, figure: "Figure", name: str) -> None:
        if self.folder is not None:
            path = self.folder / f"{name}.png"
            with replacing(path) as partial:
                figure.savefig(partial, format="png")
            self.written.append(path)
        if self.is_notebook:
            _show_picture(figure)
        else:
            print(f"Written: {path}")


def _show_styled(table: pd.DataFrame, title: str) -> None:
    from IPython.display import display

    style = table.style.hide(axis="index").set_caption(title).format(precision=3, na_rep=UNDEFINED)
    counts = [name for name in COUNTS if name in table.columns]
    display(style.format("{:,}", subset=counts) if counts else style)


def _show_picture(figure: "Figure") -> None:
    # As PNG bytes: IPython draws a Figure itself only after pyplot has been set up for notebooks.
    from io import BytesIO

    from IPython.display import Image, display

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


def _combined_of(
    metrics: "Metrics", epoch: int, part: str, targets: Sequence[str], average: str
) -> dict[str, float]:
    predictions = metrics.train_prediction_hx if part == "train" else metrics.val_prediction_hx
    names = list(targets)
    return combined_scores(metrics.actual(epoch, part)[names], predictions[epoch][names], average)


def _itemized_of(metrics: "Metrics", epoch: int, part: str, targets: Sequence[str]) -> pd.DataFrame:
    scores = metrics.scores
    chosen = scores[(scores["epoch"] == epoch) & (scores["part"] == part)].set_index("target")
    return chosen.loc[list(targets)].reset_index().drop(columns=["epoch", "part"])
