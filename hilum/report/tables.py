"""Tables for the terminal."""

import math
import sys

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum.config import DEFAULTS
from hilum.run_folder import RunFolder
from hilum.sources import Catalog

#: The itemized scores' columns and their headings; counts first, then scores.
SCORE_HEADINGS = {
    "positives": "positives",
    "predicted_positives": "predicted\npositives",
    "true_positives": "true\npositives",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "avg_precision": "average\nprecision",
    "threshold": "threshold",
}
COMBINED_HEADINGS = {
    "loss": "loss",
    "accuracy": "exact\nmatch",
    "hamming_loss": "Hamming\nloss",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
}


def show_catalog(catalog: Catalog, console: Console | None = None) -> None:
    """Prints what a catalog holds: images, patients, views, and each target's counts and prevalence."""
    console = console or _console()
    table = catalog.table
    console.print(
        f"[bold]{escape(catalog.name)}[/]  {len(table):,} images of {table['PatientID'].nunique():,} patients"
    )
    if catalog.origin is not None:
        console.print(f"from {escape(str(catalog.origin))}", highlight=False, soft_wrap=True)
    console.print(f"fingerprint {catalog.fingerprint}", highlight=False, soft_wrap=True)
    shares = {"PA": "Orientation_PA", "male": "Sex_Male"}
    about = [
        f"{table[column].mean():.1%} {word}" for word, column in shares.items() if table[column].notna().any()
    ]
    if table["Age"].notna().any():
        about.append(f"median age {table['Age'].median():.0f}")
    if catalog.fixed_split is not None:
        parts = catalog.fixed_split.value_counts()
        about.append("official split " + ", ".join(f"{part} {count:,}" for part, count in parts.items()))
    console.print("; ".join(about), highlight=False)
    rows = _table("target", "positive", "negative", "left out", "prevalence")
    for target in catalog.targets:
        positive, negative = int((table[target] == 1).sum()), int((table[target] == 0).sum())
        known = positive + negative
        rows.add_row(
            escape(target),
            f"{positive:,}",
            f"{negative:,}",
            f"{len(table) - known:,}",
            f"{positive / known:.1%}" if known else "n/a",
        )
    console.print(rows)


def show_parameters(folder: RunFolder, console: Console | None = None) -> None:
    """Prints every setting of a run, those that differ from their defaults in bold."""
    console = console or _console()
    record, defaults = folder.record, DEFAULTS.as_record()
    console.print(f"[bold]{record['name']}[/]  {escape(_course(record))}", highlight=False)
    rows = _table("parameter", "value", numbers=False)
    for name, value in folder.settings.items():
        style = "bold" if value != defaults.get(name) else "dim"
        rows.add_row(name, escape(in_words(value)), style=style)
    if record.get("own_net"):
        rows.add_row("net", escape(record["own_net"]), style="bold")
    console.print(rows)
    console.print(f"Targets: {escape(', '.join(folder.targets))}", highlight=False, soft_wrap=True)


def show_run(folder: RunFolder, console: Console | None = None) -> None:
    """Prints a run's parameters, its parts, and the last epoch's scores of each."""
    console = console or _console()
    show_parameters(folder, console)
    record = folder.record
    for part, count in record["split"]["parts"].items():
        console.print(
            f"{part}: {count['images']:,} images of {count['patients']:,} patients", highlight=False
        )
    for row in record["split"]["imbalance"]:
        console.print(
            f"[yellow]not balanced:[/] {escape(row['feature'])} is {row['train_share']:.1%} of train, "
            f"{row['part_share']:.1%} of {row['part']}",
            highlight=False,
        )
    scores, combined = folder.scores(), folder.combined()
    last = scores["epoch"].max()
    for part in ("train", "val"):
        console.print(f"\n[bold]{part}, epoch {last}[/]")
        itemized = scores[(scores["epoch"] == last) & (scores["part"] == part)]
        console.print(itemized_table(itemized))
    console.print("\n[bold]combined, by epoch[/]")
    rows = _table("epoch", "part", *COMBINED_HEADINGS.values(), text=2)
    for row in combined.to_dict("records"):
        rows.add_row(str(row["epoch"]), row["part"], *(_score(row[name]) for name in COMBINED_HEADINGS))
    console.print(rows)
    console.print(f"Everything else is in {escape(str(folder.path))}", highlight=False, soft_wrap=True)


def show_runs(runs: list[RunFolder], console: Console | None = None) -> None:
    """Prints a line per run: its state, and the validation scores of its best epoch, means over targets."""
    console = console or _console()
    rows = _table("run", "status", "epochs", "best", "recall", "ROC AUC", "precision", "digest", text=2)
    for folder in runs:
        record = folder.record
        best = record.get("best_epoch")
        means = dict.fromkeys(("recall", "roc_auc", "precision"), math.nan)
        if best:
            scores = folder.scores()
            means = scores[(scores["epoch"] == best) & (scores["part"] == "val")][list(means)].mean()
        rows.add_row(
            record["name"],
            record["status"],
            f"{record.get('epochs_done', 0)}/{folder.settings['num_epochs']}",
            str(best or "–"),
            *(_score(means[name]) for name in ("recall", "roc_auc", "precision")),
            record.get("digest", "–")[:12],
        )
    console.print(rows)


def print_table(table: Table) -> None:
    """Prints a table at the terminal's width, or whole where there is none."""
    _console().print(table)


def itemized_table(scores: pd.DataFrame) -> Table:
    """One row per target; a score that does not exist is `n/a`."""
    rows = _table("target", *SCORE_HEADINGS.values())
    for row in scores.to_dict("records"):
        rows.add_row(escape(row["target"]), *(_score(row[name]) for name in SCORE_HEADINGS))
    return rows


def _course(record: dict) -> str:
    """How a run went, in a few words."""
    words = [record["status"], f"{record.get('epochs_done', 0)} of {record['settings']['num_epochs']} epochs"]
    if "seconds" in record:
        words.append(f"{record['seconds']:,.0f} s on {record['device']['type']}")
    if record.get("failure"):
        words.append(record["failure"])
    if record.get("digest"):
        words.append(f"digest {record['digest'][:16]}")
    return ", ".join(words)


def _score(value: float) -> str:
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def in_words(value: object) -> str:
    """A setting's value for people: a dash for nothing, lists and tables without their brackets."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _table(*headings: str, numbers: bool = True, text: int = 1) -> Table:
    """A plain table whose first `text` columns are words and the others, if `numbers`, numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for position, heading in enumerate(headings):
        right = numbers and position >= text
        table.add_column(heading, justify="right" if right else "left", no_wrap=right or position == 0)
    return table


def _console() -> Console:
    # A file or a pipe gets whole lines, whatever the width of the terminal that is not there.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
