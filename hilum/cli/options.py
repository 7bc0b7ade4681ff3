"""Settings as flags, and what several commands share."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hilum.errors import HilumError


class SettingsCommand(click.Command):
    """A command with an option for every setting of a run, made from `RunConfig` when it is needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then the settings."""
        return [*super().get_params(ctx)[:-1], *_setting_options(), *super().get_params(ctx)[-1:]]


def _setting_options() -> list[click.Option]:
    from hilum.config import ALIASES, setting_fields

    options = []
    for name, field in setting_fields().items():
        flag = f"--{name.replace('_', '-')}"
        shown = field.description or ""
        if field.annotation is bool:
            declared, kind = [f"{flag}/--no-{flag[2:]}"], {"default": None}
        else:
            aliases = [
                f"--{alias.replace('_', '-')}" for alias, current in ALIASES.items() if current == name
            ]
            declared, kind = [name, flag, *aliases], {"metavar": "VALUE"}
        if field.default is not None and field.default is not False and field.default not in ({}, ()):
            default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
            shown += f"  [{default}]"
        options.append(click.Option(declared, help=shown, **kind))
    return options


def parse_setting(name: str, value: str) -> Any:
    """A flag's text as a TOML value, so that 0.2, true and {layers = 34} mean what they mean in a file."""
    from hilum.config import setting_fields

    if value == "none" and name != "epoch_args":  # which has a "none" of its own
        return None
    if setting_fields()[name].annotation in (str, Path, str | None, Path | None):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if value[:1] in "{[":
            raise HilumError(
                f"--{name.replace('_', '-')}: {value!r} is no TOML value; a table is written {{layers = 34}}."
            ) from None
        return value


def given_settings(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The settings of a TOML or JSON file, overruled by the flags that were given."""
    from hilum.config import settings_from_file

    settings = settings_from_file(file) if file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    return settings | {
        name: value if isinstance(value, bool) else parse_setting(name, value)
        for name, value in given.items()
    }


#: The keys of `hilum.sources.SOURCES`, written out so that `--help` need not import them.
_SOURCES = "chexpert, nih, mimic, padchest, vindr, kaggle, medmnist, folder, merge or phantom"


def data_options(command: Callable) -> Callable:
    """--source, --root and --source-kwargs."""
    options = [
        click.option("--source", default="phantom", show_default=True, help=_SOURCES),
        click.option("--root", type=click.Path(path_type=Path), help="the data set's folder"),
        click.option(
            "--source-kwargs", default="{}", help="the source's own filters, such as '{max_studies = 2}'"
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def opened_catalog(source: str, root: Path | None, source_kwargs: str) -> Any:
    """The catalog that `data_options` name."""
    from hilum.config import RunConfig

    filters = RunConfig(source_kwargs=parse_setting("source_kwargs", source_kwargs)).source_kwargs
    from hilum.sources import open_catalog

    return open_catalog(source, root, **filters)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable]:
    """A bar, where there is a terminal to show it; gives a function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=total == 0 or not console.is_terminal
    ) as bar:
        task = bar.add_task(label, total=total)

        def advance(images: int = 1, *, absolute: bool = False) -> None:
            bar.update(task, **{"completed" if absolute else "advance": images})

        yield advance
