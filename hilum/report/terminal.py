"""Tables for the terminal."""

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum.config import DEFAULTS
from hilum.metrics.scores import SCORE_NAMES
from hilum.metrics.selection import best_epoch_means
from hilum.report.format import (
    format_number,
    format_percent,
    format_probability,
    format_setting,
    format_with_interval,
)
from hilum.run_folder import RunFolder, read_evaluation
from hilum.sources import Catalog

if TYPE_CHECKING:  # imports torch, which takes seconds
    from hilum.models.describe import Description, Summary

#: The scores whose means over targets are shown first.
MAIN_SCORES = ("recall", "roc_auc", "precision")

#: The columns of the scores by target.
COUNT_COLUMNS = ("positives", "predicted_positives", "true_positives")
TARGET_COLUMNS = (*COUNT_COLUMNS, "recall", "precision", "f1", "roc_auc", "avg_precision", "threshold")
#: The columns of the scores of all targets together.
COMBINED_COLUMNS = ("loss", "accuracy", "hamming_loss", "recall", "precision", "f1")


def standard_console(pipe_width: int = 160) -> Console:
    """Standard output: as wide as the terminal, `pipe_width` columns for a file or a pipe."""
    width = None if sys.stdout.isatty() else pipe_width
    return Console(file=sys.stdout, width=width, highlight=False)


def new_table(*headings: str, text: int = 1, numbers: int | None = None, fold: bool = False) -> Table:
    """A table without borders: `text` columns, then `numbers` right-aligned ones, None for all; `fold` folds names."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    last = len(headings) if numbers is None else text + numbers
    for position, heading in enumerate(headings):
        right = text <= position < last
        whole = right or (position == 0 and not fold)
        table.add_column(heading, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    return table


def narrow_headings(names: Iterable[str]) -> list[str]:
    """The names of scores for narrow columns: a line per word, but `ROC AUC` in one."""
    return [SCORE_NAMES[name].replace(" ", "\n").replace("ROC\n", "ROC ") for name in names]


def show_catalog(catalog: Catalog, console: Console | None = None) -> None:
    """Prints the contents of a catalog: images, patients, views, and each target's counts and prevalence."""
    console = console or standard_console()
    table = catalog.table
    console.print(
        f"[bold]{escape(catalog.name)}[/]  {len(table):,} images of {table['PatientID'].nunique():,} patients"
    )
    if catalog.origin is not None:
        console.print(f"from {escape(str(catalog.origin))}", soft_wrap=True)
    console.print(f"fingerprint {catalog.fingerprint}", soft_wrap=True)
    shares = {"PA": "Orientation_PA", "male": "Sex_Male"}
    about = [
        f"{format_percent(table[column].mean(), 1)} {name}"
        for name, column in shares.items()
        if table[column].notna().any()
    ]
    if table["Age"].notna().any():
        about.append(f"median age {table['Age'].median():.0f}")
    if catalog.fixed_split is not None:
        parts = catalog.fixed_split.value_counts()
        about.append("official split " + ", ".join(f"{part} {count:,}" for part, count in parts.items()))
    console.print("; ".join(about))
    rows = new_table("target", "positive", "negative", "left out", "prevalence")
    for target in catalog.targets:
        positive, negative = int((table[target] == 1).sum()), int((table[target] == 0).sum())
        known = positive + negative
        counts = map(format_number, (positive, negative, len(table) - known))
        rows.add_row(escape(target), *counts, format_percent(positive / known if known else math.nan, 1))
    console.print(rows)


def show_parameters(folder: RunFolder, console: Console | None = None) -> None:
    """Prints every setting of a run, those that differ from their defaults in bold."""
    console = console or standard_console()
    record, defaults = folder.record, DEFAULTS.as_record()
    console.print(f"[bold]{record['name']}[/]  {escape(_run_state(record))}")
    rows = new_table("parameter", "value", numbers=0)
    for name, value in folder.settings.items():
        style = "bold" if value != defaults.get(name) else "dim"
        rows.add_row(name, escape(format_setting(value)), style=style)
    if record.get("own_net"):
        rows.add_row("net", escape(record["own_net"]), style="bold")
    console.print(rows)
    console.print(f"Targets: {escape(', '.join(folder.targets))}", soft_wrap=True)


def _run_state(record: dict[str, Any]) -> str:
    """The status of a run, its epochs, duration, failure and digest."""
    parts = [record["status"], f"{record.get('epochs_done', 0)} of {record['settings']['num_epochs']} epochs"]
    if "seconds" in record:
        parts.append(f"{record['seconds']:,.0f} s on {record['device']['type']}")
    parts += [record["failure"]] if record.get("failure") else []
    parts += [f"digest {record['digest'][:16]}"] if record.get("digest") else []
    return ", ".join(parts)


def show_run(folder: RunFolder, console: Console | None = None) -> None:
    """Prints a run's parameters, its parts, and the last epoch's scores of each part."""
    console = console or standard_console()
    show_parameters(folder, console)
    record = folder.record
    for part, count in record["split"]["parts"].items():
        console.print(f"{part}: {count['images']:,} images of {count['patients']:,} patients")
    for row in record["split"]["imbalance"]:
        console.print(
            f"[yellow]not balanced:[/] {escape(row['feature'])} is {format_percent(row['train_share'], 1)} of train, "
            f"{format_percent(row['part_share'], 1)} of {row['part']}"
        )
    scores = folder.scores()
    last = scores["epoch"].max()
    for part in ("train", "val"):
        console.print(f"\n[bold]{part}, epoch {last}[/]")
        console.print(target_table(scores[(scores["epoch"] == last) & (scores["part"] == part)]))
    console.print("\n[bold]all targets together, by epoch[/]")
    rows = new_table("epoch", "part", *narrow_headings(COMBINED_COLUMNS), text=2)
    for row in folder.combined().to_dict("records"):
        values = (format_number(row[name]) for name in COMBINED_COLUMNS)
        rows.add_row(str(row["epoch"]), row["part"], *values)
    console.print(rows)
    if points := record.get("operating_points"):
        console.print(f"\n[bold]frozen operating points, val, epoch {record['best_epoch']}[/]")
        console.print(operating_points_table(points))
        for target, point in points.items():
            for note in point["notes"]:
                console.print(f"{escape(target)}: {escape(note)}", soft_wrap=True)
    console.print(f"All files of the run: {escape(str(folder.path))}", soft_wrap=True)


def target_table(scores: pd.DataFrame) -> Table:
    """One row per target; an undefined score is `n/a`."""
    rows = new_table("target", *narrow_headings(TARGET_COLUMNS))
    for row in scores.to_dict("records"):
        rows.add_row(escape(row["target"]), *(format_number(row[name]) for name in TARGET_COLUMNS))
    return rows


def operating_points_table(points: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row per target: the recall with its interval, then precision, specificity and share positive."""
    columns = ("recall", "precision", "specificity", "predicted_positive_rate", "threshold")
    rows = new_table("target", *narrow_headings(columns), "chosen by")
    for target, point in points.items():
        values = {name: math.nan if value is None else value for name, value in point.items()}
        rows.add_row(
            escape(target),
            format_with_interval(values, "recall"),
            *(format_number(values[name]) for name in ("precision", "specificity")),
            format_percent(values["predicted_positive_rate"]),
            format_probability(values["threshold"]),
            escape(point["policy"]),
        )
    return rows


def show_runs(runs: list[RunFolder], console: Console | None = None) -> None:
    """Prints a line per run: its status, and the validation scores of its best epoch, means over targets."""
    console = console or standard_console()
    names = (SCORE_NAMES[name] for name in MAIN_SCORES)
    rows = new_table("run", "status", "epochs", "best", *names, "digest", text=2)
    for folder in runs:
        record = folder.record
        means = best_epoch_means(folder) if record.get("best_epoch") else {}
        rows.add_row(
            record["name"],
            record["status"],
            f"{record.get('epochs_done', 0)}/{folder.settings['num_epochs']}",
            str(record.get("best_epoch") or "–"),
            *(format_number(means.get(name)) for name in MAIN_SCORES),
            record.get("digest", "–")[:12],
        )
    console.print(rows)


def show_evaluation(path: Path, console: Console | None = None) -> None:
    """Prints the scores of an evaluation with their intervals, by image and by study."""
    console = console or standard_console()
    evaluation = read_evaluation(path)
    record = evaluation.record
    console.print(
        f"[bold]{escape(record['run'])}[/], epoch {record['epoch']}, on {escape(record['name'])}: "
        f"{record['images']:,} images of {record['patients']:,} patients; thresholds as frozen in the run",
        soft_wrap=True,
    )
    for remark in record["remarks"]:
        console.print(f"[yellow]note:[/] {escape(remark)}", soft_wrap=True)
    for level, scores in (("image", evaluation.scores), ("study", evaluation.study_scores)):
        if scores is not None:
            console.print(f"\n[bold]by {level}[/]  score (95 % interval over patients)")
            console.print(interval_table(scores))
    for target, reason in record["left_out"].items():
        console.print(f"{escape(target)}: n/a, {escape(reason)}")
    for row in evaluation.scores.itertuples():
        if row.lack:
            console.print(f"{escape(row.target)}: n/a where {escape(row.lack)}")
    console.print(f"Written to {escape(str(path))}", soft_wrap=True)


def interval_table(scores: pd.DataFrame) -> Table:
    """One row per target: scores with their intervals, recall first, and the share predicted positive."""
    with_interval = ("recall", "roc_auc", "precision", "specificity", "avg_precision")
    names = (*(SCORE_NAMES[name] for name in with_interval), "predicted\npositive", "threshold")
    table = new_table("target", "positives", *names)
    for row in scores.to_dict("records"):
        table.add_row(
            escape(row["target"]),
            f"{row['positives']:,}",
            *(format_with_interval(row, name) for name in with_interval),
            format_percent(row["predicted_positive_rate"]),
            format_probability(row["threshold"]),
        )
    return table


def show_models(
    models: list["Summary"], problems: list[str], timm: str | None, console: Console | None = None
) -> None:
    """Prints the models and problems that `list_models` found, and timm's version, None if it is not installed."""
    console = console or standard_console()
    rows = new_table("model", "parameters", "trainable", "input", "output")
    for model in models:
        counts = (f"{number:,}" for number in (model.parameters, model.trainable))
        rows.add_row(model.name, *counts, _format_shape(model.input_shape), f"{model.outputs:,}")
    console.print(rows)
    console.print()
    for model in models:
        console.print(f"[bold]{model.name}[/]: {escape(model.about)}")
    installed = f"timm {timm} is installed" if timm else "it is not installed: pip install 'hilum\\[timm]'"
    console.print(f"[bold]timm:NAME[/]: Any network of timm; {installed}.")
    for problem in problems:
        console.print(escape(problem))
    console.print("\nTo see the layers of a model: hilum models describe NAME")


def show_model(described: "Description", console: Console | None = None) -> None:
    """Prints a model's layers: each layer's output shape, its parameters and how they are counted."""
    console = console or standard_console()
    model = described.model
    width, height = model.image_size
    console.print(f"[bold]{escape(model.name)}[/]  {escape(model.about)}")
    if model.net_kwargs:
        settings = ", ".join(f"{name} = {value!r}" for name, value in model.net_kwargs.items())
        console.print(f"with {escape(settings)}")
    console.print(
        f"for gray images of {width} x {height} (width x height) and {model.outputs:,} outputs; shapes are "
        "channels x height x width\n"
    )
    _print_layers(described, console)
    frozen = model.parameters - model.trainable
    console.print(
        f"\n{model.parameters:,} parameters, {f'{model.trainable:,} of them' if frozen else 'all of them'} trainable: "
        f"{4 * model.parameters / 1e6:,.1f} MB in float32. The forward pass of one image takes "
        f"{described.multiply_adds:,} multiply-adds, and training keeps {described.activation_bytes / 1e6:,.1f} MB "
        "of its activations in memory."
    )


def _print_layers(described: "Description", console: Console) -> None:
    """Prints the layers, with a line where convolution meets fully connected; columns are equally wide."""
    headings = ("layer", "kind", "output", "parameters", "counted as")
    first = ("", "image", _format_shape(described.model.input_shape), "", "")
    cells = []
    for layer in described.layers:
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        cells.append((layer.name, layer.kind, _format_shape(layer.output_shape), parameters, layer.formula))
    widths = [max(map(len, column)) for column in zip(headings, first, *cells, strict=True)]

    def layers_table() -> Table:
        rows = new_table(*headings, numbers=0)
        for column, width in list(zip(rows.columns, widths, strict=True))[:4]:
            column.min_width, column.no_wrap = width, True
        rows.columns[3].justify = "right"
        return rows

    rows = layers_table()
    rows.add_row(*first)
    for layer, row in zip(described.layers, cells, strict=True):
        if layer.flattening:
            console.print(rows)
            console.print(f"\nHere convolution meets fully connected layers: {layer.flattening}.\n")
            rows = layers_table()
        rows.add_row(*map(escape, row))
    console.print(rows)


def _format_shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " x ".join(f"{number:,}" for number in shape)
