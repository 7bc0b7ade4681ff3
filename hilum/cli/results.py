"""Commands that read finished runs."""

import json
from pathlib import Path
from typing import Any

import click

from hilum.cli.options import PATH, device_option, json_option, parse_setting, progress_bar, replicates_option


@click.command()
@click.argument("save_path", type=PATH, default=Path("runs"))
def runs(save_path: Path) -> None:
    """List the runs in SAVE_PATH (default: runs)."""
    from hilum.report.terminal import show_runs
    from hilum.run_folder import find_runs

    found, problems = find_runs(save_path)
    show_runs(found)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


@click.command()
@click.argument("run", type=PATH)
def show(run: Path) -> None:
    """Show the settings and the scores of a RUN folder."""
    from hilum.report.terminal import show_run
    from hilum.run_folder import RunFolder

    show_run(RunFolder(run))


@click.command()
@click.argument("run", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, help="HTML file; default: report.html in the run's folder")
def report(run: tuple[Path, ...], out: Path | None) -> None:
    """Write the page of a RUN, or the comparison of several.

    One run: its report.html, with all evaluations so far. Several: how the others differ from the first, as
    hilum compare.
    """
    from hilum.run_folder import RunFolder

    folders = [RunFolder(path) for path in run]
    if len(folders) == 1:
        from hilum.report.run_page import write_report

        click.echo(f"The page is {write_report(folders[0], out)}")
        return
    from hilum.report.comparison import compare_runs
    from hilum.report.comparison_page import write_comparison

    out = out or Path("comparison.html")
    click.echo(f"The page is {write_comparison(compare_runs(folders), out)}")


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@replicates_option(least=100, default=1000)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="seed of the bootstrap samples")
@click.option("--flips", type=click.IntRange(min=0), default=10, help="list at most this many changed images")
@click.option("--html", type=PATH, help="write the page of the comparison to this file")
@json_option
def compare(
    runs: tuple[Path, ...], replicates: int, seed: int, flips: int, html: Path | None, as_json: bool
) -> None:
    """Compare RUNS with the first: which is better, and how certain that is.

    The settings that differ are listed first, then the differences in scores on the same patients. Runs that
    differ only in the seed are repeats and form one group. With two or more runs in each group the conclusion is
    about the settings, else about these models only.
    """
    from hilum.report.comparison import compare_runs
    from hilum.report.comparison_page import show_comparison, write_comparison
    from hilum.run_folder import RunFolder

    comparison = compare_runs([RunFolder(run) for run in runs], replicates=replicates, seed=seed)
    if html:
        write_comparison(comparison, html)
    if as_json:
        click.echo(json.dumps(comparison.as_record(), allow_nan=False))
    else:
        show_comparison(comparison, flips=flips)
        if html:
            click.echo(f"The page is {html}")


@click.command()
@click.argument("run", type=PATH)
@click.option("--columns", help="view, sex, age, devices or columns of images.parquet; default: all")
@replicates_option(least=50, default=200)
@json_option
def audit(run: Path, columns: str | None, replicates: int, as_json: bool) -> None:
    """Score a RUN by view, sex, age and devices; name shortcuts.

    If the ROC AUC of a finding is lower among images with the same value of a column, the model may predict the
    finding from that column.
    """
    from hilum.report.audit import audit_run, show_audit
    from hilum.run_folder import RunFolder

    chosen = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    found = audit_run(RunFolder(run), columns=chosen, replicates=replicates)
    if as_json:
        click.echo(found.as_json())
    else:
        show_audit(found)


@click.command()
@click.argument("run", type=PATH)
@click.option("--source", help="data set, as for hilum train; default: the run's own")
@click.option("--root", type=PATH, help="folder of the data set")
@click.option("--source-kwargs", help="filters of the source, such as '{max_studies = 2}'")
@click.option(
    "--split",
    "part",
    type=click.Choice(["test", "val", "train", "all"]),
    help="part; default: test of the run's own data set, all of another",
)
@click.option("--pack", help="pack of these images, see hilum pack")
@device_option
@click.option("--num-workers", type=click.IntRange(min=0), help="loader processes; default: half the cores")
@replicates_option(least=100, default=1000)
@json_option
def evaluate(run: Path, source_kwargs: str | None, as_json: bool, **options: Any) -> None:
    """Score a RUN on another data set or its own test part.

    Targets are matched by name; thresholds are those frozen in the run. Predictions and scores are written to
    evaluations/ in the run's folder.
    """
    from hilum.training.evaluation import evaluate as evaluate_run

    with progress_bar("scoring", None) as advance:
        kwargs = parse_setting("source_kwargs", source_kwargs or "{}")
        found = evaluate_run(run, source_kwargs=kwargs, progress=advance, **options)
    from hilum.report.terminal import show_evaluation

    if as_json:
        click.echo(found.as_json())
    else:
        show_evaluation(found.folder)
