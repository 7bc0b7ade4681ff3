"""The command that runs many."""

import sys
from pathlib import Path
from typing import Any

import click

from hilum.cli.settings import SettingsCommand, given_settings

_SWEEP_EXAMPLES = """\b
hilum sweep learning-rates.toml
hilum sweep learning-rates.toml --parallel 2 --root DIR
"""


@click.command(cls=SettingsCommand, epilog=_SWEEP_EXAMPLES)
@click.option("--parallel", type=click.IntRange(min=1), help="runs at once; one per CUDA device, or one")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="processes of this machine, or a Ray cluster",
)
@click.option("--address", help="of the Ray cluster; one of this machine if left out")
@click.option("--retry-failed", is_flag=True, help="start failed runs again")
@click.option("--compare", is_flag=True, help="then compare the best combination with the base")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object at the end; lines go to stderr")
@click.argument("file", type=click.Path(path_type=Path))
def sweep(
    file: Path,
    parallel: int | None,
    executor: str,
    address: str | None,
    retry_failed: bool,
    compare: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train the runs of a TOML FILE, each in a process of its own.

    The file has a [base] and what varies: a [grid], [[runs]], seeds or a [search]. The same command goes on
    after a stop. Settings given as flags win over the base. The exit code is 1 if a run has failed.
    """
    import json

    from rich.console import Console

    from hilum.sweeps.model_loop import ModelLoop

    loop = ModelLoop.from_toml(file, **given_settings(None, flags))
    console = Console(file=sys.stderr if as_json else sys.stdout)
    result = loop.run(parallel, executor, retry_failed=retry_failed, address=address, console=console)
    comparison = result.compare() if compare and result.compare_command else None
    if as_json:
        record = result.as_record()
        if comparison:
            record["comparison"] = comparison.as_record()
        click.echo(json.dumps(record, allow_nan=False))
    else:
        result.show()
        if comparison:
            from hilum.report.comparison_tables import show_comparison

            show_comparison(comparison)
    if result.failures:
        sys.exit(1)
