"""The page of every command, generated from the commands."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from hilum.cli import cli
from hilum.cli.options import SettingsCommand

_INTRODUCTION = """# Commands

This page is generated from the commands; `hilum COMMAND --help` prints the same. Settings of a run are flags of
`hilum train`, `hilum resume`, `hilum sweep` and `hilum find-lr`; [Settings](settings.md) lists them. Errors go to
standard error, with exit code 2.
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """(`hilum train`, its command), for every command and its subcommands."""
    yield from _below("hilum", cli)


def own_parameters(command: click.Command) -> list[click.Parameter]:
    """Options of the command, without the settings of a run and `--help`."""
    context = click.Context(command)
    parameters = (
        click.Command.get_params(command, context)
        if _takes_all_settings(command)
        else command.get_params(context)
    )
    return [parameter for parameter in parameters if "--help" not in parameter.opts]


def _takes_all_settings(command: click.Command) -> bool:
    return isinstance(command, SettingsCommand) and command.settings is None


def commands_page() -> str:
    """Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(path, command) for path, command in commands())])


def _below(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        whole = f"{path} {name}"
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield whole, command
        if isinstance(command, click.Group):
            yield from _below(whole, command)


def _section(path: str, command: click.Command) -> str:
    parameters = own_parameters(command)
    arguments = [p for p in parameters if isinstance(p, click.Argument)]
    options = [p for p in parameters if isinstance(p, click.Option)]
    takes_settings = _takes_all_settings(command)
    usage = " ".join(
        [
            path,
            *(_in_usage(argument) for argument in arguments),
            *(["[OPTIONS]"] if options or takes_settings else []),
        ]
    )
    lines = [f"## {path}", "", f"```text\n{usage}\n```", "", _paragraphs(command.help or "")]
    if options:
        lines += ["", "| option | meaning | default |", "| --- | --- | --- |"]
        lines += [_row(option) for option in options]
    if takes_settings:
        lines += ["", "And every [setting of a run](settings.md) as a flag."]
    if command.epilog:
        examples = command.epilog.replace("\b", "").strip()
        lines += ["", f"```console\n{examples}\n```"]
    return "\n".join(lines) + "\n"


def _in_usage(argument: click.Argument) -> str:
    name = (argument.metavar or argument.name.upper()).removesuffix("...")
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def _row(option: click.Option) -> str:
    flags = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if isinstance(option.type, click.Choice):
        flags += " " + ", ".join(option.type.choices)
    default = option.default
    given = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    shown = f"`{default}`" if given and default != "{}" else "required" if option.required else ""
    # Braces are Markdown's attributes unless they are code.
    words = re.sub(r"'?\{[^}]*\}'?", r"`\g<0>`", option.help or "").replace("|", r"\|")
    return f"| {flags} | {words} | {shown} |"
