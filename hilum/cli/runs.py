"""The commands that read what runs have left."""

from pathlib import Path

import click


@click.command()
@click.argument("save_path", type=click.Path(path_type=Path), default=Path("runs"))
def runs(save_path: Path) -> None:
    """List the runs in SAVE_PATH (default: runs)."""
    from hilum.report.tables import show_runs
    from hilum.run_folder import find_runs

    found, problems = find_runs(save_path)
    show_runs(found)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show the settings and the scores of a RUN folder."""
    from hilum.report.tables import show_run
    from hilum.run_folder import RunFolder

    show_run(RunFolder(run))
