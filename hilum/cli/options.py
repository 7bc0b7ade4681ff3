"""Options that several commands share, and the settings of a run as options."""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hilum.errors import HilumError

if TYPE_CHECKING:
    from hilum.config import RunConfig
    from hilum.sources.catalog import Catalog

#: An argument or option that is a path.
PATH = click.Path(path_type=Path)

#: The settings that choose a data set.
DATA_SETTINGS = ("source", "root", "source_kwargs")

device_option = click.option("--device", default="auto", help="device: auto, cpu, cuda or cuda:N")
json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON object")


def replicates_option(least: int, default: int) -> Callable[[Callable], Callable]:
    """--replicates."""
    kind = click.IntRange(min=least)
    return click.option("--replicates", type=kind, default=default, help="bootstrap samples of the patients")


class SettingsCommand(click.Command):
    """A command with an option for each of `settings`, made from `RunConfig` when it is needed.

    None: an option for every setting; the help shows them in their groups.
    """

    def __init__(self, *arguments: Any, settings: Sequence[str] | None = None, **options: Any):
        super().__init__(*arguments, **options)
        self.settings = settings

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then the settings, then --help."""
        *own, help_option = super().get_params(ctx)
        return [*own, *_setting_options(self.settings), help_option]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command's own options, then the settings in their groups."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for option in (each for each in self.get_params(ctx) if isinstance(each, click.Option)):
            if (record := option.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(option, "group", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class _SettingOption(click.Option):
    group = "Options"


def _setting_options(names: Sequence[str] | None) -> list[_SettingOption]:
    from hilum.config import ALIASES, setting_groups

    options = []
    for kind in setting_groups().values():
        for name, field in kind.model_fields.items():
            if names is not None and name not in names:
                continue
            flag = _flag(name)
            if field.annotation is bool:
                option = _SettingOption([f"{flag}/--no-{flag[2:]}"], default=None)
            else:
                aliases = [_flag(alias) for alias, current in ALIASES.items() if current == name]
                option = _SettingOption([name, flag, *aliases], metavar="VALUE")
            default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
            shown = default is not None and default is not False and default not in ({}, "")
            option.help = f"{field.description}  [{default}]" if shown else field.description
            option.group = "Options" if names is not None else (kind.__doc__ or "Options")
            options.append(option)
    return options


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def parse_setting(name: str, value: str) -> Any:
    """The text of a flag as a TOML value, so that 0.2, true and {layers = 34} mean the same as in a file.

    Raises:
        HilumError: a table or list that is not TOML.
    """
    from hilum.config import setting_fields

    if value == "none" and name != "epoch_args":  # "none" is a value of epoch_args
        return None
    if setting_fields()[name].annotation in (str, Path, str | None, Path | None):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if value[:1] not in "{[":
            return value
    raise HilumError(f"{_flag(name)}: {value!r} is not a TOML value; a table is written {{layers = 34}}.")


def given_settings(file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The settings of a TOML or JSON file, overruled by the flags that were given."""
    from hilum.config import settings_from_file

    given = {name: value for name, value in flags.items() if value is not None}
    texts = {name: parse_setting(name, value) for name, value in given.items() if not isinstance(value, bool)}
    return (settings_from_file(file) if file else {}) | given | texts


def open_data(flags: dict[str, Any]) -> "tuple[RunConfig, Catalog]":
    """The settings of these flags, and the catalog that `DATA_SETTINGS` choose."""
    from hilum.config import RunConfig

    config = RunConfig(**given_settings(None, flags))
    from hilum.sources import open_catalog

    return config, open_catalog(config.source, config.root, **config.source_kwargs)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable]:
    """A bar on standard error, if that is a terminal; gives a function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = total == 0 or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(label, total=total)

        def advance(count: int = 1, *, absolute: bool = False) -> None:
            bar.update(task, completed=count) if absolute else bar.advance(task, count)

        yield advance
