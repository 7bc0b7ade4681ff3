"""The commands that train."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hilum.cli.options import SettingsCommand, given_settings, progress_bar
from hilum.errors import HilumError


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
def stopping_on_sigterm() -> Iterator[None]:
    """SIGTERM stops the run so that it can be resumed, and ends the process with exit code 143."""
    from hilum.machine import raise_on_sigterm
    from hilum.training.run_writer import Terminated

    try:
        with raise_on_sigterm(Terminated):
            yield
    except Terminated:
        sys.exit(128 + signal.SIGTERM)


def see_it_with(folder: Path, devices: int) -> None:
    """Says how to look at a run; of several processes that trained it, the first has done so."""
    from hilum.training.distributed import is_main_process, under_torchrun

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
    from hilum.config import RunConfig, check_effect

    check_effect(RunConfig(**settings))  # a mistake is told before torch is waited for
    from hilum.training.run import StandardTraining

    training = StandardTraining(**settings)
    with stopping_on_sigterm():
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
    from hilum.training.run import StandardTraining

    training = StandardTraining.resume(run, **changes)
    with stopping_on_sigterm():
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
    from hilum.training.distributed import choose_device, is_main_process, train_on_devices, under_torchrun
    from hilum.training.verify import devices_of
    from hilum.training.verify import verify as verify_run

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
            from hilum.report.comparison_page import show_comparison

            show_comparison(comparison)
    if result.failures:
        sys.exit(1)


_EXAMPLES = """\b
hilum find-lr --source nih --root DIR --image-width 128 --image-height 128 --out rates.png
hilum find-lr settings.toml --optimizer sgd
"""

#: So many rows of the curve are printed.
_ROWS = 12


@click.command(name="find-lr", cls=SettingsCommand, epilog=_EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--lowest", type=float, default=1e-7, show_default=True, help="the first learning rate")
@click.option("--highest", type=float, default=10.0, show_default=True, help="the last learning rate")
@click.option("--steps", type=int, default=100, show_default=True, help="how many, a batch each")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="draw the curve into this PNG file"
)
def find_lr(
    file: Path | None, lowest: float, highest: float, steps: int, out: Path | None, **flags: Any
) -> None:
    """Suggest a learning rate for settings of a FILE and of flags.

    A copy of the model learns with a learning rate that grows from batch to batch; where its loss falls
    fastest, the rate is right. Nothing is kept but the figure.
    """
    settings = given_settings(file, flags)
    if out is not None and out.suffix.lower() != ".png":
        raise HilumError(f"--out: the figure is a PNG file; {out} does not end in .png.")
    from hilum.config import RunConfig

    RunConfig(**settings)  # a misspelt setting is told before torch is waited for
    from hilum.training.lr_finder import find_learning_rate, prepare

    prepared = prepare(settings)
    click.echo(f"Training {steps} steps, the learning rate rising from {lowest:g} to {highest:g}.", err=True)
    with progress_bar("learning rates", steps) as advance:
        found = find_learning_rate(
            prepared.net,
            prepared.criterion,
            prepared.loader,
            make_optimizer=prepared.make_optimizer,
            device=prepared.device,
            lowest=lowest,
            highest=highest,
            steps=steps,
            precision=prepared.precision,
            seed=prepared.seed,
            on_step=advance,
        )
    click.echo("learning rate  smoothed loss")
    last = len(found.table) - 1
    shown = {round(place * last / (_ROWS - 1)) for place in range(_ROWS)}
    marks = {found.steepest: "  steepest descent", found.lowest_loss: "  lowest loss"}
    for place, row in enumerate(found.table.itertuples()):
        mark = marks.get(row.learning_rate, "")
        if place in shown or mark:
            click.echo(f"{row.learning_rate:13.1e}  {row.smoothed_loss:13.4f}{mark}")
    if found.diverged:
        click.echo(f"The loss diverged after {len(found.table)} of {steps} steps.")
    if out is not None:
        from hilum.files import replacing
        from hilum.plots.curves import learning_rate_figure

        with replacing(out) as partial:
            learning_rate_figure(found).savefig(partial, format="png")
        click.echo(f"The curve is in {out}.")
    click.echo(
        f"Suggested: --learning-rate {found.suggestion:.1e} (the lower of the steepest descent, "
        f"{found.steepest:.1e}, and a tenth of where the loss is lowest, {found.lowest_loss / 10:.1e})"
    )


_size = click.option("--size", default="320", show_default=True, help="pixels of the images: 320, or 320x256")
_targets = click.option(
    "--targets", type=click.IntRange(min=1), default=14, show_default=True, help="how many outputs"
)
_as_json = click.option("--json", "as_json", is_flag=True, help="one JSON object, for machines")


@click.group(invoke_without_command=True)
@_size
@_targets
@_as_json
@click.pass_context
def models(context: click.Context, size: str, targets: int, as_json: bool) -> None:
    """List the models, or describe one.

    Without a command: each model that net_name can name, with its default settings, its parameters, what
    goes in and what comes out.
    """
    if context.invoked_subcommand:
        for name in context.params:
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                flag = f"--{name.removeprefix('as_')}"
                raise click.UsageError(f"{flag} belongs behind {context.invoked_subcommand}, not before it.")
        return
    import json

    from hilum.models.describe import list_models, timm_version

    found, problems = list_models(outputs=targets, image_size=_image_size(size))
    if as_json:
        shown = [model.as_record() for model in found]
        click.echo(json.dumps({"models": shown, "left_out": problems, "timm": timm_version()}))
        return
    from hilum.report.terminal import show_models

    show_models(found, problems, timm_version())


@models.command()
@click.argument("name")
@_size
@_targets
@click.option("--net-kwargs", default="{}", help="the model's own settings, such as '{layers = 34}'")
@_as_json
def describe(name: str, size: str, targets: int, net_kwargs: str, as_json: bool) -> None:
    """Show each layer of a model.

    NAME is a net_name, timm:NAME included. Shown are each layer's output shape and parameters, how these add
    up, and where convolution meets fully connected. It needs no data, no pretrained weights and next to no
    time: nothing is computed.
    """
    import json

    from hilum.cli.options import parse_setting
    from hilum.config import RunConfig

    kwargs = RunConfig(net_kwargs=parse_setting("net_kwargs", net_kwargs)).net_kwargs
    from hilum.models.describe import describe_model

    described = describe_model(name, kwargs, outputs=targets, image_size=_image_size(size))
    if as_json:
        click.echo(json.dumps(described.as_record()))
        return
    from hilum.report.terminal import show_model

    show_model(described)


def _image_size(size: str) -> tuple[int, int]:
    """Width and height, from `320` or `320x256`."""
    from hilum.config import RunConfig
    from hilum.errors import HilumError

    numbers = size.lower().split("x")
    if len(numbers) > 2 or not all(number.strip().isdecimal() for number in numbers):
        raise HilumError(f"--size {size!r}: give pixels, 320, or width and height, 320x256.")
    chosen = RunConfig(image_width=int(numbers[0]), image_height=int(numbers[-1]))
    return chosen.image_width, chosen.image_height
