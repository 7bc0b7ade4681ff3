"""Tables for the terminal."""

import math
import sys

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum.config import DEFAULTS
from hilum.report.format import small_share
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
    console = console or standard_console()
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
    rows = new_table("target", "positive", "negative", "left out", "prevalence")
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
    console = console or standard_console()
    record, defaults = folder.record, DEFAULTS.as_record()
    console.print(f"[bold]{record['name']}[/]  {escape(_course(record))}", highlight=False)
    rows = new_table("parameter", "value", numbers=False)
    for name, value in folder.settings.items():
        style = "bold" if value != defaults.get(name) else "dim"
        rows.add_row(name, escape(in_words(value)), style=style)
    if record.get("own_net"):
        rows.add_row("net", escape(record["own_net"]), style="bold")
    console.print(rows)
    console.print(f"Targets: {escape(', '.join(folder.targets))}", highlight=False, soft_wrap=True)


def show_run(folder: RunFolder, console: Console | None = None) -> None:
    """Prints a run's parameters, its parts, and the last epoch's scores of each."""
    console = console or standard_console()
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
    rows = new_table("epoch", "part", *COMBINED_HEADINGS.values(), text=2)
    for row in combined.to_dict("records"):
        rows.add_row(str(row["epoch"]), row["part"], *(one_score(row[name]) for name in COMBINED_HEADINGS))
    console.print(rows)
    points = record.get("operating_points")
    if points:
        console.print(f"\n[bold]frozen operating points, val, epoch {record['best_epoch']}[/]")
        console.print(operating_points_table(points))
        for target, point in points.items():
            for note in point["notes"]:
                console.print(f"{escape(target)}: {escape(note)}", highlight=False, soft_wrap=True)
    console.print(f"Everything else is in {escape(str(folder.path))}", highlight=False, soft_wrap=True)


def show_runs(runs: list[RunFolder], console: Console | None = None) -> None:
    """Prints a line per run: its state, and the validation scores of its best epoch, means over targets.

    Recall and precision are those of the frozen operating points; until a run has them, those at the
    thresholds of its settings.
    """
    console = console or standard_console()
    rows = new_table("run", "status", "epochs", "best", "recall", "ROC AUC", "precision", "digest", text=2)
    for folder in runs:
        record = folder.record
        means = best_means(folder)
        rows.add_row(
            record["name"],
            record["status"],
            f"{record.get('epochs_done', 0)}/{folder.settings['num_epochs']}",
            str(record.get("best_epoch") or "–"),
            *(one_score(means[name]) for name in ("recall", "roc_auc", "precision")),
            record.get("digest", "–")[:12],
        )
    console.print(rows)


def best_means(folder: RunFolder) -> dict[str, float]:
    """Validation recall, ROC AUC and precision of a run's best epoch, means over targets; NaN without one.

    Recall and precision are those of the frozen operating points, where the run has them.
    """
    means = dict.fromkeys(("recall", "roc_auc", "precision"), math.nan)
    best = folder.record.get("best_epoch")
    if not best:
        return means
    scores = folder.scores()
    means |= scores[(scores["epoch"] == best) & (scores["part"] == "val")][list(means)].mean()
    if folder.record.get("operating_points"):
        frozen = pd.DataFrame(folder.record["operating_points"].values(), dtype=object)
        means |= frozen[["recall", "precision"]].astype(float).mean()
    return {name: float(value) for name, value in means.items()}


def print_table(table: Table) -> None:
    """Prints a table at the terminal's width, or whole where there is none."""
    standard_console().print(table)


def itemized_table(scores: pd.DataFrame) -> Table:
    """One row per target; a score that does not exist is `n/a`."""
    rows = new_table("target", *SCORE_HEADINGS.values())
    for row in scores.to_dict("records"):
        rows.add_row(escape(row["target"]), *(one_score(row[name]) for name in SCORE_HEADINGS))
    return rows


def operating_points_table(points: dict[str, dict]) -> Table:
    """One row per target: the recall with its interval, and what it costs."""
    rows = new_table(
        "target", "recall", "precision", "specificity", "predicted\npositive", "threshold", "chosen by"
    )
    for target, point in points.items():
        values = {name: math.nan if value is None else value for name, value in point.items()}
        rate = values["predicted_positive_rate"]
        rows.add_row(
            escape(target),
            score_and_interval(values, "recall"),
            *(one_score(values[name]) for name in ("precision", "specificity")),
            "n/a" if math.isnan(rate) else f"{rate:.0%}",
            threshold_in_words(values["threshold"]),
            escape(point["policy"]),
        )
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


def one_score(value: float) -> str:
    """A count with its thousands apart, a score with three digits, n/a for NaN."""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def threshold_in_words(value: float) -> str:
    """With as many digits as it takes to tell it from 0; n/a for NaN."""
    return "n/a" if math.isnan(value) else small_share(value)


def score_and_interval(row: dict, name: str) -> str:
    """Such as `0.912 (0.85–0.95)`, from the columns `name`, `name_low` and `name_high`."""
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    if math.isnan(value):
        return "n/a"
    return f"{value:.3f}" + ("" if math.isnan(low) else f" ({low:.2f}–{high:.2f})")


def in_words(value: object) -> str:
    """A setting's value for people: a dash for nothing, lists and tables without their brackets."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def new_table(*headings: str, numbers: bool = True, text: int = 1) -> Table:
    """A plain table whose first `text` columns are words and the others, if `numbers`, numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for position, heading in enumerate(headings):
        right = numbers and position >= text
        table.add_column(heading, justify="right" if right else "left", no_wrap=right or position == 0)
    return table


def standard_console() -> Console:
    """Standard output: the terminal's width, or whole lines where there is no terminal."""
    # A file or a pipe gets whole lines, whatever the width of the terminal that is not there.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
