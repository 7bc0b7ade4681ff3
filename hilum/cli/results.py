"""The commands that read what runs have left."""

from pathlib import Path

import click

from hilum.cli.options import parse_setting, progress_bar


@click.command()
@click.argument("save_path", type=click.Path(path_type=Path), default=Path("runs"))
def runs(save_path: Path) -> None:
    """List the runs in SAVE_PATH (default: runs)."""
    from hilum.report.terminal import show_runs
    from hilum.run_folder import find_runs

    found, problems = find_runs(save_path)
    show_runs(found)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show the settings and the scores of a RUN folder."""
    from hilum.report.terminal import show_run
    from hilum.run_folder import RunFolder

    show_run(RunFolder(run))


@click.command()
@click.argument("run", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="the HTML file; in the run's folder if left out")
def report(run: tuple[Path, ...], out: Path | None) -> None:
    """Write the page of a RUN, or the comparison of several.

    One run: its report.html anew, with the evaluations made since. Several: how the others differ from the
    first, as hilum compare.
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
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--replicates",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="bootstrap samples of the patients",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="of these samples")
@click.option(
    "--flips",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="how many images that flipped are listed",
)
@click.option("--html", type=click.Path(path_type=Path), help="write the page of the comparison here")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object, with all that flipped")
def compare(
    runs: tuple[Path, ...], replicates: int, seed: int, flips: int, html: Path | None, as_json: bool
) -> None:
    """Say which of several RUNS is better, and how surely.

    What differs between each and the first comes first, then how their scores differ on the same patients.
    Runs that differ only in the seed are repeats and are taken together; with two or more on each side the
    verdict is about the settings, else about these models only.
    """
    import json

    from hilum.report.comparison import compare_runs
    from hilum.report.comparison_page import show_comparison
    from hilum.run_folder import RunFolder

    comparison = compare_runs([RunFolder(run) for run in runs], replicates=replicates, seed=seed)
    if html:
        from hilum.report.comparison_page import write_comparison

        write_comparison(comparison, html)
    if as_json:
        click.echo(json.dumps(comparison.as_record(), allow_nan=False))
    else:
        show_comparison(comparison, flips=flips)
        if html:
            click.echo(f"The page is {html}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--columns", help="only these: view, sex, age, devices or columns of images.parquet; all if left out"
)
@click.option(
    "--replicates", type=click.IntRange(min=50), default=200, show_default=True, help="bootstrap samples"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object, for machines")
def audit(run: Path, columns: str | None, replicates: int, as_json: bool) -> None:
    """Score a RUN by view, sex, age and devices; name shortcuts.

    A finding whose ROC AUC falls among images that are alike in a column may be told by that column.
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
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--source", help="the data set, as for hilum train; the run's own if left out")
@click.option("--root", type=click.Path(path_type=Path), help="the data set's folder")
@click.option("--source-kwargs", default="{}", help="the source's own filters, such as '{max_studies = 2}'")
@click.option(
    "--split",
    type=click.Choice(["test", "val", "train", "all"]),
    help="which part; of the run's own data set test, of others all, if left out",
)
@click.option("--pack", help="prepared pixels of these images, see hilum pack")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option(
    "--num-workers", type=click.IntRange(min=0), help="loader processes; half the cores if left out"
)
@click.option(
    "--replicates",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="bootstrap samples of the patients",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object, for machines")
def evaluate(
    run: Path,
    source: str | None,
    root: Path | None,
    source_kwargs: str,
    split: str | None,
    pack: str | None,
    device: str,
    num_workers: int | None,
    replicates: int,
    as_json: bool,
) -> None:
    """Score a RUN on another data set or its own test part.

    Targets are matched by name, thresholds are those frozen in the run. Predictions and scores are kept in
    the run's folder, under evaluations/.
    """
    from hilum.training.evaluation import evaluate as evaluate_run

    with progress_bar("scoring", None) as advance:
        found = evaluate_run(
            run,
            source=source,
            root=root,
            source_kwargs=parse_setting("source_kwargs", source_kwargs),
            part=split,
            pack=pack,
            device=device,
            num_workers=num_workers,
            replicates=replicates,
            progress=advance,
        )
    if as_json:
        from hilum.run_folder import read_evaluation

        click.echo(read_evaluation(found.folder).as_json())
    else:
        from hilum.report.terminal import show_evaluation

        show_evaluation(found.folder)
