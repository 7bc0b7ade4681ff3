"""The command that writes pages."""

from pathlib import Path

import click


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
        from hilum.report.page import write_report

        click.echo(f"The page is {write_report(folders[0], out)}")
        return
    from hilum.report.comparison import compare_runs
    from hilum.report.comparison_page import write_comparison

    out = out or Path("comparison.html")
    click.echo(f"The page is {write_comparison(compare_runs(folders), out)}")
