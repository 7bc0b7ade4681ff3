"""A comparison on a page (one HTML file without other files) and in the terminal."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum import __version__
from hilum.metrics.comparison import COMPARED_SCORES, MATCHED, NO_EVIDENCE, ScoreDifference
from hilum.metrics.scores import SCORE_NAMES
from hilum.plots.comparison import differences_figure
from hilum.plots.style import target_colours
from hilum.report.comparison_types import FLIP_KINDS, MEAN, Changes, Claim, Comparison, Flip, SideComparison
from hilum.report.error_gallery import RunImages
from hilum.report.format import (
    UNDEFINED,
    data_uri,
    format_difference,
    format_number,
    format_p_value,
    format_setting,
    write_page,
)
from hilum.report.terminal import MAIN_SCORES, new_table, standard_console
from hilum.run_folder import RunFolder

#: What a flip is, by kind of `FLIP_KINDS`.
KIND_NAMES = {
    "new_false_negative": "missed by {other} only",
    "new_false_positive": "false alarms of {other} only",
    "fixed_false_negative": "missed by {reference} only",
    "fixed_false_positive": "false alarms of {reference} only",
}

#: Names of the scores in the terminal.
_NAMES = SCORE_NAMES | {MATCHED: "recall at A's precision"}

#: How many flips of a kind the page shows.
MOST_SHOWN = 12


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Writes the page of a comparison to an HTML file.

    Raises:
        HilumError: the file cannot be written.
    """
    content = {
        "comparison": comparison,
        "sides": [_page_content(side) for side in comparison.comparisons],
        "scores": COMPARED_SCORES,
        "version": __version__,
    }
    return write_page("comparison_page.html.jinja", content, Path(path))


def _page_content(side: SideComparison) -> dict[str, Any]:
    table = side.widest_claim.as_table()
    figure = differences_figure(table, side.reference.letter, side.other.letter)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    by_reason = table[table["target"] != MEAN].groupby("reason", sort=False)["target"]
    return {
        "side": side,
        "claim": side.widest_claim,
        "figure": data_uri(buffer.getvalue()),
        "colours": target_colours(side.targets),
        "undefined": by_reason.unique().to_dict(),
        "kinds": _kind_names(side),
        "flips": _shown_flips(side),
    }


def _kind_names(side: SideComparison) -> dict[str, str]:
    letters = {"reference": side.reference.letter, "other": side.other.letter}
    return {kind: name.format(**letters) for kind, name in KIND_NAMES.items()}


def _shown_flips(side: SideComparison) -> dict[str, list[tuple[str, Flip, str | None]]]:
    """Kind to target, flip and small copy: the first flip of each target, then the second of each, and so on."""
    path = next(run.path for run in side.reference.runs if run.name == side.flips.reference_run)
    images = RunImages(RunFolder(path))
    shown = {}
    for kind in FLIP_KINDS:
        ranked = []
        for target, flips in side.flips.images.items():
            same_kind = [flip for flip in flips if flip.kind == kind][:MOST_SHOWN]
            ranked += [(place, target, flip) for place, flip in enumerate(same_kind)]
        ranked.sort(key=lambda entry: entry[0])
        shown[kind] = [
            (target, flip, images.thumbnail(flip.image_id)) for _, target, flip in ranked[:MOST_SHOWN]
        ]
    return shown


def show_comparison(comparison: Comparison, console: Console | None = None, flips: int = 10) -> None:
    """Prints the changes, the mean differences, a row per target, and the first `flips`, most serious first."""
    console = console or standard_console(pipe_width=100)
    for note in comparison.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    for side in comparison.comparisons:
        _show_data(side, console)
        _show_scores(side, console)
        _show_flips(side, console, flips)


def _show_data(side: SideComparison, console: Console) -> None:
    """Prints the runs, what changed between them, and the images compared."""
    letter, images = side.other.letter, side.images
    for one in (side.reference, side.other):
        runs = ", ".join(f"{run.name} (seed {run.seed}, epoch {run.best_epoch})" for run in one.runs)
        console.print(f"[bold]{one.letter}[/]  {escape(runs)}")
    console.print(f"\n[bold]What differs[/]  {escape(side.changes.statement)}")
    if side.changes.groups:
        console.print(_changes_table(side.changes, letter))
    pairs = f", {len(images.pairs)} pairs of runs with the same seed" if images.pairs else ""
    console.print(
        f"\n[bold]Compared on[/]  {images.images:,} validation images of {images.patients:,} patients{pairs}"
    )
    if images.only_reference or images.only_other:
        console.print(
            f"The runs share only a part of their images: {images.only_reference:,} images of A and "
            f"{images.only_other:,} of {letter} are left out, because the other side did not evaluate them."
        )
    for target, reason in side.targets_left_out.items():
        console.print(f"{escape(target)} is left out: {escape(reason)}.")
    for note in side.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")


def _show_scores(side: SideComparison, console: Console) -> None:
    """Prints the differences of the scores: their means, then each target."""
    letter, claim = side.other.letter, side.widest_claim
    console.print(f"\n[bold]Mean over targets[/]  {escape(claim.statement)}")
    console.print(_mean_table(claim, letter))
    if side.about_settings.available:
        means = ((SCORE_NAMES[score], side.about_models.mean[score]) for score in MAIN_SCORES)
        line = "; ".join(f"{name} {_with_interval(mean)}, {mean.verdict}" for name, mean in means)
        models = f"{len(side.reference.runs)} + {len(side.other.runs)}"
        console.print(f"Only these {models} models, on patients like these: {line}")
    else:
        settings = side.about_settings
        console.print(f"{settings.statement} To conclude more, {settings.reason}.")
    for callout in side.callouts:
        console.print(f"[bold yellow]![/] {escape(callout)}")
    console.print(
        f"\n[bold]Each target[/]  {letter} − A with its 95 % interval; verdicts corrected for the number of targets"
    )
    console.print(_target_table(claim))
    console.print(f"\n[bold]At the same operating points[/]  {letter} − A; * where there is evidence")
    console.print(_operating_points_table(claim))


def _changes_table(changes: Changes, letter: str) -> Table:
    table = new_table("", "", "A", letter, numbers=0, fold=True)
    for group, changed in changes.groups.items():
        for number, change in enumerate(changed):
            texts = (format_setting(value) for value in (change.reference, change.other))
            short = (text if len(text) <= 36 else f"{text[:24]}…" for text in texts)  # such as a fingerprint
            table.add_row("" if number else group, change.name, *map(escape, short))
    return table


def _mean_table(claim: Claim, letter: str) -> Table:
    difference = (f"{letter} − A", "95 % interval", "p", "detectable", "verdict")
    table = new_table("score", "targets", "A", letter, *difference, numbers=7, fold=True)
    for score, mean in claim.mean.items():
        low, high = format_difference(mean.low), format_difference(mean.high)
        table.add_row(
            _NAMES[score],
            str(claim.target_count(score)),
            format_number(mean.reference),
            format_number(mean.other),
            format_difference(mean.difference),
            f"{low} to {high}" if mean.is_defined else UNDEFINED,
            format_p_value(mean.p_value),
            _detectable(mean),
            escape(mean.verdict if mean.reason is None else f"n/a: {mean.reason}"),
        )
    return table


def _target_table(claim: Claim) -> Table:
    table = new_table("target", "recall", "ROC AUC", "verdict", numbers=2, fold=True)
    for target, scores in claim.targets.items():
        cells = (_with_interval(scores[score]) for score in ("recall", "roc_auc"))
        table.add_row(escape(target), *cells, escape(_verdicts(scores)))
    return table


def _operating_points_table(claim: Claim) -> Table:
    shown = [score for score in COMPARED_SCORES if score not in ("recall", "roc_auc")]
    headings = (*(_NAMES[score] for score in shown), "detectable recall", "detectable ROC AUC")
    table = new_table("target", *(heading.replace(" ", "\n") for heading in headings), fold=True)
    table.padding = (0, 1, 0, 0)
    for target, scores in claim.targets.items():
        stars = ("" if scores[score].verdict in (NO_EVIDENCE, UNDEFINED) else "*" for score in shown)
        table.add_row(
            escape(target),
            *(
                format_difference(scores[score].difference) + star
                for score, star in zip(shown, stars, strict=True)
            ),
            *(_detectable(scores[score]) for score in ("recall", "roc_auc")),
        )
    return table


def _show_flips(side: SideComparison, console: Console, most: int) -> None:
    names = _kind_names(side)
    counts = {kind: sum(by_kind[kind] for by_kind in side.flips.counts.values()) for kind in FLIP_KINDS}
    by_kind = ", ".join(f"{count:,} {names[kind]}" for kind, count in counts.items())
    runs = f"{escape(side.flips.reference_run)} and {escape(side.flips.other_run)}"
    console.print(f"\n[bold]Flipped predictions[/]  {sum(counts.values()):,} between {runs}: {by_kind}")
    flips = [(flip, target) for target, flips in side.flips.images.items() for flip in flips]
    if not flips or not most:
        return
    flips.sort(key=lambda pair: pair[0].sort_key)
    headings = ("ImageID", "PatientID", "label", "A", side.other.letter, "")
    table = new_table("target", *headings, numbers=5, fold=True)
    for flip, target in flips[:most]:
        table.add_row(
            escape(target),
            str(flip.image_id),
            escape(str(flip.patient_id)),
            str(flip.label),
            format_number(flip.reference_probability),
            format_number(flip.other_probability),
            names[flip.kind],
        )
    console.print(table)
    if len(flips) > most:
        console.print(f"The first {most} of {len(flips):,}; --json prints all.")


def _verdicts(scores: dict[str, ScoreDifference]) -> str:
    """Which of the first four scores are better and which are worse; or that there is no evidence."""
    names: dict[str, list[str]] = {"better": [], "worse": []}
    for score in ("recall", "roc_auc", "precision", "specificity"):
        names.get(scores[score].verdict, []).append(SCORE_NAMES[score])
    parts = [f"{', '.join(of_verdict)} {verdict}" for verdict, of_verdict in names.items() if of_verdict]
    undefined = [scores[score].reason for score in ("recall", "roc_auc") if scores[score].reason]
    if parts:
        return "; ".join(parts)
    return f"n/a: {undefined[0]}" if len(undefined) == 2 else NO_EVIDENCE


def _with_interval(score: ScoreDifference) -> str:
    if not score.is_defined:
        return UNDEFINED
    low, high = format_difference(score.low), format_difference(score.high)
    return f"{format_difference(score.difference)} ({low} to {high})"


def _detectable(score: ScoreDifference) -> str:
    return "none" if score.detectable > 1 else format_number(score.detectable)
