"""Every command: parse, call one function, print."""

import os
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import click

from hilum import __version__
from hilum.errors import HilumError


class SettingsCommand(click.Command):
    """A command with an option for every setting of a run, made from `RunConfig` when it is needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then the settings."""
        return [*super().get_params(ctx)[:-1], *_setting_options(), *super().get_params(ctx)[-1:]]


def _setting_options() -> list[click.Option]:
    from hilum.config import RunConfig

    options = []
    for name, field in RunConfig.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        shown = field.description or ""
        if field.annotation is bool:
            declared, kind = [f"{flag}/--no-{flag[2:]}"], {"default": None}
        else:
            declared, kind = [flag], {"metavar": "VALUE"}
        if field.default is not None and field.default is not False and field.default != {}:
            shown += f"  [{field.default}]"
        options.append(click.Option(declared, help=shown, **kind))
    return options


def _parse_setting(name: str, value: str) -> Any:
    """A flag's text as a TOML value, so that 0.2, true and {layers = 34} mean what they mean in a file."""
    from hilum.config import RunConfig

    if value == "none" and name != "epoch_args":  # which has a "none" of its own
        return None
    if RunConfig.model_fields[name].annotation in (str, Path, str | None, Path | None):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if value[:1] in "{[":
            raise HilumError(
                f"--{name.replace('_', '-')}: {value!r} is no TOML value; a table is written {{layers = 34}}."
            ) from None
        return value


def _given_settings(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The settings of a TOML file, overruled by the flags that were given."""
    from hilum.config import settings_from_toml

    settings = settings_from_toml(file) if file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    return settings | {
        name: value if isinstance(value, bool) else _parse_setting(name, value)
        for name, value in given.items()
    }


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hilum")
def cli() -> None:
    """Repeatable chest X-ray experiments: change one parameter, run again, know whether it helped.

    Research use only: nothing here is a medical device.
    """


@cli.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="where to"
)
def demo(out: Path) -> None:
    """Draw radiographs, clean, train and score: the whole way in a few minutes, without any download."""
    from hilum.demo import run_demo

    run_demo(out)


@cli.command()
@click.option("--source", default="phantom", show_default=True, help="chexpert, nih or phantom")
@click.option("--root", type=click.Path(path_type=Path), help="the data set's folder")
@click.option("--source-kwargs", default="{}", help="the source's own filters, such as '{max_studies = 2}'")
@click.option("--check-images", is_flag=True, help="decode every image")
@click.option("--out", type=click.Path(path_type=Path), help="write the table here (.parquet or .csv)")
def catalog(source: str, root: Path | None, source_kwargs: str, check_images: bool, out: Path | None) -> None:
    """Read, clean and check a data set, and say what it holds."""
    from hilum.config import RunConfig

    filters = RunConfig(source_kwargs=_parse_setting("source_kwargs", source_kwargs)).source_kwargs
    from hilum.report.tables import show_catalog
    from hilum.sources import open_catalog
    from hilum.sources.images import check_images as decode_all

    opened = open_catalog(source, root, **filters)
    if check_images:
        decode_all(opened.image_paths())
    if out:
        opened.write(out)
    show_catalog(opened)


_TRAIN_EXAMPLES = """\b
hilum train --source nih --root DIR --image-width 128 --image-height 128 --num-epochs 3
hilum train settings.toml --learning-rate 1e-3
"""


@cli.command(cls=SettingsCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("file", required=False, type=click.Path(path_type=Path))
def train(file: Path | None, **flags: Any) -> None:
    """Train one model, with the settings of a TOML FILE and of flags; flags win."""
    settings = _given_settings(file, flags)
    from hilum.config import RunConfig

    RunConfig(**settings)  # a misspelt setting is told before torch is waited for
    from hilum.training.standard import StandardTraining

    training = StandardTraining(**settings)
    training.train()
    click.echo(f"See it with: hilum show {training.folder.path}")


@cli.command()
@click.argument("save_path", type=click.Path(path_type=Path), default=Path("runs"))
def runs(save_path: Path) -> None:
    """List the runs in SAVE_PATH (default: runs)."""
    from hilum.report.tables import show_runs
    from hilum.run_folder import find_runs

    found, problems = find_runs(save_path)
    show_runs(found)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show the settings and the scores of a RUN folder."""
    from hilum.report.tables import show_run
    from hilum.run_folder import RunFolder

    show_run(RunFolder(run))


def main() -> None:
    """The command line: a HilumError is told without a traceback and ends with exit code 2."""
    warnings.showwarning = _show_warning
    try:
        cli.main(prog_name="hilum", standalone_mode=False)
    except HilumError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)
