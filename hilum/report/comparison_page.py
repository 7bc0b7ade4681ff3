"""The page of a comparison: one HTML file that needs nothing beside it."""

import base64
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum import __version__
from hilum.metrics.comparison import COMPARED_SCORES, NO_EVIDENCE, NOT_AVAILABLE, ScoreDifference
from hilum.plots.comparison import differences_figure
from hilum.plots.curves import target_colours
from hilum.report.comparison_types import FLIP_KINDS, Claim, Comparison, Flip, SideComparison, gravest_first
from hilum.report.differences import Differences
from hilum.report.error_gallery import thumbnail
from hilum.report.run_page import write_html
from hilum.report.terminal import in_words
from hilum.run_folder import RunFolder

SCORE_WORDS = {
    "recall": "recall",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "specificity": "specificity",
    "predicted_positive_rate": "predicted positive",
    "recall_at_matched_precision": "recall at matched precision",
    "avg_precision": "average precision",
}

#: What became of an image, seen from B.
KIND_WORDS = {
    "new_false_negative": "missed by {other} only",
    "new_false_positive": "false alarm of {other} only",
    "mended_false_negative": "missed by {reference} only",
    "mended_false_positive": "false alarm of {reference} only",
}

#: How many flipped images of a kind the page shows.
MOST_SHOWN = 12


@dataclass(frozen=True)
class ShownFlip:
    """A flipped image with its finding and, where it can be read, a small copy."""

    target: str
    flip: Flip
    thumbnail: str | None


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Writes the page.

    Args:
        comparison: of `hilum.report.comparison.compare_runs`.
        path: the HTML file.

    Raises:
        HilumError: the file cannot be written.
    """
    content = {
        "comparison": comparison,
        "sides": [_side(side) for side in comparison.comparisons],
        "scores": {name: SCORE_WORDS[name] for name in COMPARED_SCORES},
        "version": __version__,
    }
    return write_html("comparison.html.jinja", content, Path(path))


def _side(side: SideComparison) -> dict[str, Any]:
    claim = side.widest_claim
    names = {"reference": side.reference.letter, "other": side.other.letter}
    return {
        "it": side,
        "claim": claim,
        "figure": _figure(side),
        "colours": target_colours(side.targets),
        "kinds": {kind: KIND_WORDS[kind].format(**names) for kind in FLIP_KINDS},
        "flips": _shown_flips(side),
    }


def _figure(side: SideComparison) -> str:
    buffer = io.BytesIO()
    figure = differences_figure(side.widest_claim, side.reference.letter, side.other.letter)
    figure.savefig(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _shown_flips(side: SideComparison) -> dict[str, list[ShownFlip]]:
    """Kind -> the images shown: each finding has its turn, the largest change first."""
    folder = RunFolder(next(run.path for run in side.reference.runs if run.name == side.flips.reference_run))
    root = folder.record["catalog"].get("image_root")
    paths = {}
    if (folder.path / "images.parquet").is_file():
        paths = folder.images().set_index("ImageID")["Image_Path"].to_dict()
    shown = {}
    for kind in FLIP_KINDS:
        turns = []
        for target, flips in side.flips.images.items():
            of_kind = [flip for flip in flips if flip.kind == kind][:MOST_SHOWN]
            turns += [(turn, target, flip) for turn, flip in enumerate(of_kind)]
        turns.sort(key=lambda entry: entry[0])
        shown[kind] = [
            ShownFlip(target, flip, thumbnail(root, paths.get(flip.image_id)))
            for _, target, flip in turns[:MOST_SHOWN]
        ]
    return shown


FLIP_WORDS = {
    "new_false_negative": "missed by B",
    "new_false_positive": "false alarm of B",
    "mended_false_negative": "missed by A",
    "mended_false_positive": "false alarm of A",
}

TABLE_WORDS = {
    "recall": "recall",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "specificity": "specificity",
    "predicted_positive_rate": "predicted positive",
    "recall_at_matched_precision": "recall at A's precision",
    "avg_precision": "average precision",
}

_WIDTH_OF_A_PIPE = 100


def show_comparison(comparison: Comparison, console: Console | None = None, flips: int = 10) -> None:
    """Prints the differences, the headline, a row per target, and the first images that flipped.

    Args:
        comparison: what is shown.
        console: where; standard output by default.
        flips: how many flipped images are listed, the gravest first.
    """
    console = console or Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)
    for note in comparison.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False)
    for beside in comparison.comparisons:
        _show_side(beside, console, flips)


def _show_side(beside: SideComparison, console: Console, flips: int) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False)

    letter = beside.other.letter
    for side in (beside.reference, beside.other):
        runs = ", ".join(f"{run.name} (seed {run.seed}, epoch {run.best_epoch})" for run in side.runs)
        say(f"[bold]{side.letter}[/]  {escape(runs)}")
    say(f"\n[bold]What differs[/]  {escape(beside.differences.statement)}")
    if beside.differences.groups:
        console.print(_differences_table(beside.differences, letter))
    images = beside.images
    say(
        f"\n[bold]Compared on[/]  {images.images:,} validation images of {images.patients:,} patients"
        + (f", {len(images.pairs)} pairs of runs with the same seed" if images.pairs else "")
    )
    if images.only_reference or images.only_other:
        say(
            f"The runs share only a part: {images.only_reference:,} images of A and {images.only_other:,} of "
            f"{letter} are left out, as the other side did not evaluate them."
        )
    for target, reason in beside.targets_left_out.items():
        say(f"{escape(target)} is left out: {escape(reason)}.")
    for note in beside.notes:
        say(f"[yellow]note:[/] {escape(note)}")
    claim = beside.widest_claim
    say(f"\n[bold]Mean over targets[/]  {escape(claim.statement)}")
    console.print(_mean_table(claim, letter))
    if beside.about_settings.available:
        say(
            f"These {len(beside.reference.runs)} + {len(beside.other.runs)} models alone, on other patients: "
            + _in_one_line(beside.about_models.mean)
        )
    else:
        say(f"{beside.about_settings.statement} To say more, {beside.about_settings.reason}.")
    for callout in beside.callouts:
        say(f"[bold yellow]![/] {escape(callout)}")
    say(
        f"\n[bold]Each target[/]  {letter} − A with its 95 % interval; verdicts corrected for the number of targets"
    )
    console.print(_target_table(claim))
    say(f"\n[bold]At the same operating points[/]  {letter} − A; * where there is evidence")
    console.print(_points_table(claim))
    _show_flips(beside, console, flips)


def _differences_table(found: Differences, letter: str) -> Table:
    table = _plain_table(("", "", "A", letter), numbers=0)
    for group, changes in found.groups.items():
        for number, change in enumerate(changes):
            values = (_shortened(in_words(value)) for value in (change.reference, change.other))
            table.add_row("" if number else group, change.name, *map(escape, values))
    return table


def _mean_table(claim: Claim, letter: str) -> Table:
    headings = ("score", "targets", "A", letter, f"{letter} − A", "95 % interval", "p", "detectable")
    table = _plain_table(headings, numbers=7)
    table.add_column("verdict")
    for score, of in claim.mean.items():
        table.add_row(
            TABLE_WORDS[score],
            str(claim.targets_with(score)),
            _plain(of.reference),
            _plain(of.other),
            _signed(of.difference),
            f"{_signed(of.low)} to {_signed(of.high)}" if of.is_defined else NOT_AVAILABLE,
            _p_value(of.p_value),
            _detectable(of),
            escape(of.verdict if of.reason is None else f"n/a: {of.reason}"),
        )
    return table


def _target_table(claim: Claim) -> Table:
    table = _plain_table(("target", "recall", "ROC AUC"), numbers=2)
    table.add_column("verdict")
    for target, scores in claim.targets.items():
        cells = (_with_interval(scores[score]) for score in ("recall", "roc_auc"))
        table.add_row(escape(target), *cells, escape(_verdicts(scores)))
    return table


def _points_table(claim: Claim) -> Table:
    shown = [score for score in COMPARED_SCORES if score not in ("recall", "roc_auc")]
    headings = ("target", *(TABLE_WORDS[score] for score in shown), "detectable recall", "detectable ROC AUC")
    table = _plain_table(headings, numbers=len(headings) - 1, wrap=True)
    for target, scores in claim.targets.items():
        table.add_row(
            escape(target),
            *(_marked(scores[score]) for score in shown),
            *(_detectable(scores[score]) for score in ("recall", "roc_auc")),
        )
    return table


def _show_flips(beside: SideComparison, console: Console, first: int) -> None:
    total = {kind: sum(of[kind] for of in beside.flips.counts.values()) for kind in FLIP_KINDS}
    runs = f"{beside.flips.reference_run} and {beside.flips.other_run}"
    letter = beside.other.letter
    words = {kind: _for_side(FLIP_WORDS[kind], letter) for kind in FLIP_KINDS}
    console.print(
        f"\n[bold]Flipped predictions[/]  {sum(total.values()):,} between {escape(runs)}: "
        + ", ".join(f"{count:,} {words[kind]} alone" for kind, count in total.items()),
        highlight=False,
    )
    flipped = [(flip, target) for target, flips in beside.flips.images.items() for flip in flips]
    if not flipped or not first:
        return
    flipped.sort(key=lambda pair: gravest_first(pair[0]))
    table = _plain_table(("target", "ImageID", "PatientID", "label", "A", letter), numbers=5)
    table.add_column("")
    for flip, target in flipped[:first]:
        table.add_row(
            escape(target),
            str(flip.image_id),
            escape(str(flip.patient_id)),
            str(flip.label),
            _plain(flip.reference_probability),
            _plain(flip.other_probability),
            words[flip.kind],
        )
    console.print(table)
    if len(flipped) > first:
        console.print(f"The first {first} of {len(flipped):,}; --json has all.", highlight=False)


def _for_side(words: str, letter: str) -> str:
    return f"{words[:-1]}{letter}" if words.endswith(" B") else words


def _plain_table(headings: Sequence[str], numbers: int, wrap: bool = False) -> Table:
    """A table whose last `numbers` columns are numbers."""
    padding = (0, 1, 0, 0) if wrap else (0, 2, 0, 0)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=padding)
    for position, heading in enumerate(headings):
        right = position >= len(headings) - numbers
        heading = heading.replace(" ", "\n") if wrap else heading
        table.add_column(heading, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _verdicts(scores: dict[str, ScoreDifference]) -> str:
    """What is better and what is worse of the first scores; else that there is no evidence."""
    named = ("recall", "roc_auc", "precision", "specificity")
    said = []
    for verdict in ("better", "worse"):
        those = [TABLE_WORDS[score] for score in named if scores[score].verdict == verdict]
        said += [f"{', '.join(those)} {verdict}"] if those else []
    undefined = [scores[score].reason for score in ("recall", "roc_auc") if scores[score].reason]
    if said:
        return "; ".join(said)
    return f"n/a: {undefined[0]}" if len(undefined) == 2 else NO_EVIDENCE


def _in_one_line(mean: dict[str, ScoreDifference]) -> str:
    """Recall, ROC AUC and precision, each with its interval and verdict."""
    chosen = ("recall", "roc_auc", "precision")
    return "; ".join(
        f"{SCORE_WORDS[score]} {_with_interval(mean[score])}, {mean[score].verdict}" for score in chosen
    )


def _with_interval(of: ScoreDifference) -> str:
    if not of.is_defined:
        return NOT_AVAILABLE
    return f"{_signed(of.difference)} ({_signed(of.low)} to {_signed(of.high)})"


def _marked(of: ScoreDifference) -> str:
    star = "*" if of.verdict not in (NO_EVIDENCE, NOT_AVAILABLE) else ""
    return _signed(of.difference) + star


def _plain(value: float) -> str:
    return NOT_AVAILABLE if math.isnan(value) else f"{value:.3f}"


def _detectable(of: ScoreDifference) -> str:
    return "none" if of.detectable > 1 else _plain(of.detectable)


def _signed(value: float) -> str:
    if math.isnan(value):
        return NOT_AVAILABLE
    return f"{value:+.3f}" if round(value, 3) else "0.000"


def _p_value(value: float) -> str:
    if math.isnan(value):
        return NOT_AVAILABLE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _shortened(words: str) -> str:
    """Fingerprints and commits by their beginnings."""
    return words if len(words) <= 36 else f"{words[:24]}…"
