"""The command that compares runs."""

from pathlib import Path

import click


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
    from hilum.report.comparison_tables import show_comparison
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
