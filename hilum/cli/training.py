"""The commands that train."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hilum.cli.settings import SettingsCommand, given_settings


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="where to"
)
def demo(out: Path) -> None:
    """Draw radiographs, train on them and score, in minutes.

    The whole way from a data set to a report, without any download.
    """
    from hilum.demo import run_demo

    run_demo(out)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """SIGTERM, with which machines and schedulers ask a process to end, leaves a run that can be resumed."""
    from hilum.training.keeping import Terminated

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def see_it_with(folder: Path, devices: int) -> None:
    """Says how to look at a run; of several processes that trained it, the first has done so."""
    from hilum.training.devices import is_main_process, under_torchrun

    if is_main_process() and (under_torchrun() or devices == 1):
        click.echo(f"See it with: hilum show {folder}")


_TRAIN_EXAMPLES = """\b
hilum train --source nih --root DIR --image-width 128 --image-height 128 --num-epochs 3
hilum train settings.toml --learning-rate 1e-3
hilum train runs/former/run.json --seed 1 --name again
torchrun --nproc-per-node 4 -m hilum train settings.toml
"""


@click.command(cls=SettingsCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path))
def train(file: Path | None, **flags: Any) -> None:
    """Train a model with settings of a FILE and of flags.

    FILE is TOML, or the run.json of a former run. A flag wins over the file.
    """
    settings = given_settings(file, flags)
    from hilum.config import RunConfig, refuse_idle

    refuse_idle(RunConfig(**settings))  # a mistake is told before torch is waited for
    from hilum.training.standard import StandardTraining

    training = StandardTraining(**settings)
    with ending_on_sigterm():
        training.train()
    see_it_with(training.folder.path, training.devices)


@click.command(cls=SettingsCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("file", required=False, type=click.Path(path_type=Path))
def resume(run: Path, file: Path | None, **flags: Any) -> None:
    """Go on with a RUN that was stopped.

    It goes on after its last ended epoch, and ends as if it had not been stopped. Settings are those of
    the run; only where its data lie and what is shown may change.
    """
    changes = given_settings(file, flags)
    from hilum.training.standard import StandardTraining

    training = StandardTraining.resume(run, **changes)
    with ending_on_sigterm():
        training.train()
    see_it_with(training.folder.path, training.devices)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--epochs", type=int, help="only the first so many; all if left out")
def verify(run: Path, epochs: int | None) -> None:
    """Train a RUN again and compare every prediction.

    Its settings are those of its run.json. The first epoch and image that differ are named; the exit code is
    then 1.
    """
    from hilum.training.devices import choose_device, is_main_process, train_on_devices, under_torchrun
    from hilum.training.verification import devices_of
    from hilum.training.verification import verify as verify_run

    devices, device = devices_of(run)
    if devices > 1 and not under_torchrun():
        only = [] if epochs is None else ["--epochs", str(epochs)]
        train_on_devices(["verify", str(run), *only], devices, choose_device(device))
        return
    found = verify_run(run, epochs=epochs)
    if not is_main_process():
        return
    for difference in found.environment:
        click.echo(f"note: {difference}")
    if not found.same:
        click.echo(f"Not the same: {found.difference}.")
        sys.exit(1)
    click.echo(f"The same, bit for bit, in {found.epochs} epoch(s); digest {found.digest[:16]}.")
