"""The commands that train."""

from pathlib import Path
from typing import Any

import click

from hilum.cli.settings import SettingsCommand, given_settings


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="where to"
)
def demo(out: Path) -> None:
    """Draw radiographs, clean, train and score: the whole way in a few minutes, without any download."""
    from hilum.demo import run_demo

    run_demo(out)


_TRAIN_EXAMPLES = """\b
hilum train --source nih --root DIR --image-width 128 --image-height 128 --num-epochs 3
hilum train settings.toml --learning-rate 1e-3
"""


@click.command(cls=SettingsCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path))
def train(file: Path | None, **flags: Any) -> None:
    """Train one model, with the settings of a TOML FILE and of flags; flags win."""
    settings = given_settings(file, flags)
    from hilum.config import RunConfig

    RunConfig(**settings)  # a misspelt setting is told before torch is waited for
    from hilum.training.standard import StandardTraining

    training = StandardTraining(**settings)
    training.train()
    click.echo(f"See it with: hilum show {training.folder.path}")
