"""The command that looks for a learning rate."""

from pathlib import Path
from typing import Any

import click

from hilum.cli.settings import SettingsCommand, given_settings, progress_bar
from hilum.errors import HilumError

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
    from hilum.training.learning_rate_finder import find_learning_rate, prepare

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
        from hilum.training.learning_rate_figure import learning_rate_figure

        with replacing(out) as partial:
            learning_rate_figure(found).savefig(partial, format="png")
        click.echo(f"The curve is in {out}.")
    click.echo(
        f"Suggested: --learning-rate {found.suggestion:.1e} (the lower of the steepest descent, "
        f"{found.steepest:.1e}, and a tenth of where the loss is lowest, {found.lowest_loss / 10:.1e})"
    )
