"""Commands that train, and those about models."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import click

from hilum.cli.options import PATH, SettingsCommand, given_settings, json_option, parse_setting, progress_bar
from hilum.errors import HilumError


@click.command()
@click.option("--out", type=PATH, default=Path("demo"), help="folder of the demo")
def demo(out: Path) -> None:
    """Draw radiographs, train on them and score, in minutes.

    All steps from a data set to a report, without a download.
    """
    from hilum.demo import run_demo

    run_demo(out)


_TRAIN_EXAMPLES = """\b
hilum train --source nih --root DIR --image-width 128 --image-height 128 --num-epochs 3
hilum train settings.toml --learning-rate 1e-3
hilum train runs/first/run.json --seed 1 --name second
torchrun --nproc-per-node 4 -m hilum train settings.toml
"""


@click.command(cls=SettingsCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("file", required=False, type=PATH)
def train(file: Path | None, **flags: Any) -> None:
    """Train a model with the settings of a FILE and of flags.

    FILE is TOML, or the run.json of another run. Flags overrule the file.
    """
    settings = given_settings(file, flags)
    from hilum.config import RunConfig, check_effect

    check_effect(RunConfig(**settings))  # before importing torch, which takes seconds
    from hilum.training.run import StandardTraining

    _train(StandardTraining(**settings))


@click.command(cls=SettingsCommand)
@click.argument("run", type=PATH)
@click.argument("file", required=False, type=PATH)
def resume(run: Path, file: Path | None, **flags: Any) -> None:
    """Continue a RUN that was stopped.

    It continues after its last complete epoch, and gives the same results as if it had not been stopped. The
    settings are those of the run; only the place of its data and what is printed may change.
    """
    changes = given_settings(file, flags)
    from hilum.training.run import StandardTraining

    _train(StandardTraining.resume(run, **changes))


def _train(training: Any) -> None:
    """Trains, and prints how to see the run: once, also if several processes train it.

    SIGTERM stops the run so that it can be resumed, and ends the process with exit code 143.
    """
    from hilum.machine import raise_on_sigterm
    from hilum.training.distributed import is_main_process, under_torchrun
    from hilum.training.run_writer import Terminated

    try:
        with raise_on_sigterm(Terminated):
            training.train()
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    if is_main_process() and (under_torchrun() or training.devices == 1):
        click.echo(f"See it with: hilum show {training.folder.path}")


@click.command()
@click.argument("run", type=PATH)
@click.option("--epochs", type=int, help="number of epochs to repeat; default: all")
def verify(run: Path, epochs: int | None) -> None:
    """Train a RUN again and compare every prediction.

    The settings are those of its run.json. If a prediction differs, the first such epoch and image are printed
    and the exit code is 1.
    """
    from hilum.training.distributed import choose_device, is_main_process, train_on_devices, under_torchrun
    from hilum.training.verify import devices_of
    from hilum.training.verify import verify as verify_run

    devices, device = devices_of(run)
    if devices > 1 and not under_torchrun():
        arguments = ["verify", str(run), *([] if epochs is None else ["--epochs", str(epochs)])]
        train_on_devices(arguments, devices, choose_device(device))
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
@click.option("--parallel", type=click.IntRange(1), help="runs at once; default: one per CUDA device, or one")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="where runs are trained: processes of this machine, or a Ray cluster",
)
@click.option("--address", help="address of the Ray cluster; default: a new cluster of this machine")
@click.option("--retry-failed", is_flag=True, help="start failed runs again")
@click.option("--compare", is_flag=True, help="at the end, compare the best combination with the base")
@json_option
@click.argument("file", type=PATH)
def sweep(file: Path, compare: bool, as_json: bool, **flags: Any) -> None:
    """Train the runs of a TOML FILE, each in its own process.

    The file has a [base] and what varies: a [grid], [[runs]], seeds or a [search]. After a stop, the same command
    continues. Flags overrule the base. With --json, progress goes to standard error. The exit code is 1 if a run
    has failed.
    """
    from rich.console import Console

    from hilum.sweeps.model_loop import ModelLoop

    options = {name: flags.pop(name) for name in ("parallel", "executor", "address", "retry_failed")}
    loop = ModelLoop.from_toml(file, **given_settings(None, flags))
    result = loop.run(**options, console=Console(file=sys.stderr if as_json else sys.stdout))
    comparison = result.compare() if compare and result.compare_command else None
    if as_json:
        record = result.as_record() | ({"comparison": comparison.as_record()} if comparison else {})
        click.echo(json.dumps(record, allow_nan=False))
    else:
        result.show()
        if comparison:
            from hilum.report.comparison_page import show_comparison

            show_comparison(comparison)
    if result.failures:
        sys.exit(1)


_FIND_LR_EXAMPLES = """\b
hilum find-lr --source nih --root DIR --image-width 128 --image-height 128 --out rates.png
hilum find-lr settings.toml --optimizer sgd
"""


@click.command(name="find-lr", cls=SettingsCommand, epilog=_FIND_LR_EXAMPLES)
@click.argument("file", required=False, type=PATH)
@click.option("--lowest", type=float, default=1e-7, help="first learning rate")
@click.option("--highest", type=float, default=10.0, help="last learning rate")
@click.option("--steps", type=int, default=100, help="number of steps, one batch each")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="draw the curve to this PNG file"
)
def find_lr(
    file: Path | None, lowest: float, highest: float, steps: int, out: Path | None, **flags: Any
) -> None:
    """Suggest a learning rate for the settings of a FILE and of flags.

    A copy of the model is trained with a learning rate that rises from batch to batch; a rate at which its loss
    falls fastest is a good one. Only the figure is kept.
    """
    settings = given_settings(file, flags)
    if out is not None and out.suffix.lower() != ".png":
        raise HilumError(f"--out: the figure is a PNG file; {out} does not end in .png.")
    from hilum.config import RunConfig

    RunConfig(**settings)  # before importing torch, which takes seconds
    from hilum.training.lr_finder import RangeTest

    test = RangeTest.from_settings(settings)
    click.echo(f"Training {steps} steps, the learning rate rising from {lowest:g} to {highest:g}.", err=True)
    with progress_bar("learning rates", steps) as advance:
        found = test.run(lowest, highest, steps, on_step=advance)
    _print_learning_rates(found, steps)
    if out is not None:
        from hilum.files import replacing
        from hilum.plots.curves import learning_rate_figure

        with replacing(out) as partial:
            learning_rate_figure(found).savefig(partial, format="png")
        click.echo(f"The curve is in {out}.")
    click.echo(
        f"Suggested: --learning-rate {found.suggestion:.1e} (the lower of the steepest descent, "
        f"{found.steepest:.1e}, and a tenth of the rate with the lowest loss, {found.lowest_loss / 10:.1e})"
    )


def _print_learning_rates(found: Any, steps: int) -> None:
    click.echo("learning rate  smoothed loss")
    shown = {round(number * (len(found.table) - 1) / 11) for number in range(12)}
    marks = {found.steepest: "  steepest descent", found.lowest_loss: "  lowest loss"}
    for number, row in enumerate(found.table.itertuples()):
        mark = marks.get(row.learning_rate, "")
        if number in shown or mark:
            click.echo(f"{row.learning_rate:13.1e}  {row.smoothed_loss:13.4f}{mark}")
    if found.diverged:
        click.echo(f"The loss diverged after {len(found.table)} of {steps} steps.")


_size = click.option("--size", default="320", help="image size, pixels: 320, or 320x256")
_targets = click.option("--targets", type=click.IntRange(min=1), default=14, help="number of outputs")


@click.group(invoke_without_command=True)
@_size
@_targets
@json_option
@click.pass_context
def models(context: click.Context, size: str, targets: int, as_json: bool) -> None:
    """List the models, or describe one.

    Without a command: the models for net_name, with their default settings, numbers of parameters, and shapes of
    input and output.
    """
    if context.invoked_subcommand:
        for name in context.params:
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                flag = f"--{name.removeprefix('as_')}"
                raise click.UsageError(f"{flag} must follow {context.invoked_subcommand}, not precede it.")
        return
    from hilum.models.describe import list_models, timm_version
    from hilum.report.terminal import show_models

    found, problems = list_models(outputs=targets, image_size=_image_size(size))
    if as_json:
        records = [model.as_record() for model in found]
        click.echo(json.dumps({"models": records, "left_out": problems, "timm": timm_version()}))
    else:
        show_models(found, problems, timm_version())


@models.command()
@click.argument("name")
@_size
@_targets
@click.option("--net-kwargs", help="arguments of the model, such as '{layers = 34}'")
@json_option
def describe(name: str, size: str, targets: int, net_kwargs: str | None, as_json: bool) -> None:
    """Show each layer of a model.

    NAME is a net_name, also timm:NAME. For each layer, its output shape and parameters; the sum of the parameters;
    and where the convolutions end and the fully connected layers begin. It needs no data, no pretrained weights
    and little time, because nothing is computed.
    """
    from hilum.config import RunConfig

    kwargs = RunConfig(net_kwargs=parse_setting("net_kwargs", net_kwargs or "{}")).net_kwargs
    from hilum.models.describe import describe_model
    from hilum.report.terminal import show_model

    described = describe_model(name, kwargs, outputs=targets, image_size=_image_size(size))
    if as_json:
        click.echo(json.dumps(described.as_record()))
    else:
        show_model(described)


def _image_size(size: str) -> tuple[int, int]:
    """Width and height, from `320` or `320x256`."""
    from hilum.config import RunConfig

    numbers = size.lower().split("x")
    if len(numbers) > 2 or not all(number.strip().isdecimal() for number in numbers):
        raise HilumError(f"--size {size!r}: give pixels, 320, or width and height, 320x256.")
    chosen = RunConfig(image_width=int(numbers[0]), image_height=int(numbers[-1]))
    return chosen.image_width, chosen.image_height
