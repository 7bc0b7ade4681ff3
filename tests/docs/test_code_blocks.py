"""Tests of the code blocks in the documentation: commands parse, settings are valid, Python imports exist."""

import ast
import importlib
import shlex
import tomllib

import click
import pytest

import hilum
from hilum import HilumError, RunConfig
from hilum.cli import cli
from hilum.config import setting_fields
from tests.docs.conftest import DOCS, ROOT, fenced, pages

PAGES = [str(page.relative_to(ROOT)) for page in pages()]

#: Keys of a sweep file that are not settings of a run.
OF_SWEEPS = {"base", "grid", "runs", "seeds", "repeats", "search", "threads"}

#: Pages whose Python blocks are run, at a small size.
RUN = ["docs/tutorials/phantom.md", "docs/reference/catalog.md"]


def commands(page: str) -> list[tuple[int, list[str]]]:
    """(line, arguments) of each hilum command in the console blocks of a page."""
    found = []
    for line, block in fenced(ROOT / page, "console"):
        for number, text in enumerate(block.replace("\\\n", "  ").splitlines()):
            arguments = shlex.split(text, comments=True)
            while arguments and (
                "=" in arguments[0] or arguments[0] == "torchrun" or arguments[0].startswith("--nproc")
            ):
                arguments = arguments[1:]
            if arguments[:2] == ["-m", "hilum"]:
                arguments = arguments[1:]
            if arguments and arguments[0].rpartition("/")[2] == "hilum":
                found.append((line + number + 1, arguments[1:]))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_command_accepts_its_arguments(page):
    for line, arguments in commands(page):
        command: click.Command = cli
        while isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
            command, arguments = command.commands[arguments[0]], arguments[1:]
        assert command is not cli, f"{page}:{line}: there is no command {arguments[:1]}"
        context = click.Context(command, info_name=command.name)
        try:
            command.parse_args(context, list(arguments))
        except click.UsageError as error:
            pytest.fail(f"{page}:{line}: {error.format_message()}")
        check_settings(command, context.params)


def check_settings(command: click.Command, parameters: dict) -> None:
    """Settings given as flags must be valid for a run."""
    from hilum.cli.options import SettingsCommand, given_settings

    if isinstance(command, SettingsCommand):
        flags = {name: value for name, value in parameters.items() if name in setting_fields()}
        RunConfig(**given_settings(None, flags))


@pytest.mark.parametrize("page", PAGES)
def test_settings_files_are_valid(page):
    for line, block in fenced(ROOT / page, "toml"):
        settings = tomllib.loads(block)
        try:
            # A file with a key of sweeps is a sweep file, or a part of one.
            hilum.ModelLoop(**settings) if settings.keys() & OF_SWEEPS else RunConfig(**settings)
        except HilumError as error:
            pytest.fail(f"{page}:{line}: {error}")


@pytest.mark.parametrize("page", PAGES)
def test_python_imports_exist(page):
    for line, block in fenced(ROOT / page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "hilum":
                module = importlib.import_module(node.module)
                for name in node.names:
                    known = hasattr(module, name.name) or name.name in getattr(hilum, "__all__", [])
                    assert known, f"{page}:{line}: {node.module} has no {name.name}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning")
@pytest.mark.parametrize("page", RUN)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """At a small size: settings that take time are reduced, the rest runs unchanged."""
    import hilum.phantom.dataset as phantom

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(phantom.DEFAULTS, "images", 120)
    monkeypatch.setitem(phantom.DEFAULTS, "size", 32)
    for _, block in fenced(ROOT / page, "python"):
        small = block.replace("=64", "=32").replace("num_epochs=3", "num_epochs=1, num_workers=0, quiet=True")
        exec(compile(small, page, "exec"), {})


def test_the_notebooks_page_lists_every_folder():
    text = (DOCS / "tutorials" / "notebooks.md").read_text(encoding="utf-8")
    for folder in (ROOT / "notebooks").iterdir():
        if folder.is_dir() and not folder.name.startswith("__"):
            assert f"`{folder.name}/`" in text
