"""The command that looks for what a model leans on."""

from pathlib import Path

import click


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
    from hilum.report.audit import audit_run
    from hilum.report.audit_tables import show_audit
    from hilum.run_folder import RunFolder

    chosen = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    found = audit_run(RunFolder(run), columns=chosen, replicates=replicates)
    if as_json:
        click.echo(found.as_json())
    else:
        show_audit(found)
