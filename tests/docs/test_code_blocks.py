"""What readers copy: commands have the options they are given, Python runs or at least means something."""

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

PLACES = [str(page.relative_to(ROOT)) for page in pages()]

#: Keys of a sweep's file that are no settings of a run.
OF_SWEEPS = {"base", "grid", "runs", "seeds", "repeats", "search", "threads"}

#: Blocks that train on drawn radiographs as they stand, made small and run.
RUN = ["docs/tutorials/phantom.md", "docs/reference/catalog.md"]


def commands(place: str) -> list[tuple[int, list[str]]]:
    """(line, words) of each hilum command in the console blocks of a page."""
    found = []
    for line, block in fenced(ROOT / place, "console"):
        for number, text in enumerate(block.replace("\\\n", "  ").splitlines()):
            words = shlex.split(text, comments=True)
            while words and ("=" in words[0] or words[0] == "torchrun" or words[0].startswith("--nproc")):
                words = words[1:]
            if words[:2] == ["-m", "hilum"]:
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "hilum":
                found.append((line + number + 1, words[1:]))
    return found


@pytest.mark.parametrize("place", PLACES)
def test_every_command_takes_what_it_is_given(place):
    for line, words in commands(place):
        command: click.Command = cli
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        assert command is not cli, f"{place}:{line}: there is no command {words[:1]}"
        context = click.Context(command, info_name=command.name)
        try:
            command.parse_args(context, list(words))
        except click.UsageError as error:
            pytest.fail(f"{place}:{line}: {error.format_message()}")
        check_settings(command, context.params, f"{place}:{line}")


def check_settings(command: click.Command, given: dict, where: str) -> None:
    """A setting that is given as a flag must be one that a run takes."""
    from hilum.cli.options import SettingsCommand, given_settings

    if isinstance(command, SettingsCommand):
        flags = {name: value for name, value in given.items() if name in setting_fields()}
        RunConfig(**given_settings(None, flags))


@pytest.mark.parametrize("place", PLACES)
def test_settings_files_are_settings(place):
    for line, block in fenced(ROOT / place, "toml"):
        settings = tomllib.loads(block)
        try:
            # A key that no run has makes it a sweep's file, or a part of one.
            hilum.ModelLoop(**settings) if settings.keys() & OF_SWEEPS else RunConfig(**settings)
        except HilumError as error:
            pytest.fail(f"{place}:{line}: {error}")


@pytest.mark.parametrize("place", PLACES)
def test_what_python_imports_is_there(place):
    for line, block in fenced(ROOT / place, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "hilum":
                module = importlib.import_module(node.module)
                for name in node.names:
                    known = hasattr(module, name.name) or name.name in getattr(hilum, "__all__", [])
                    assert known, f"{place}:{line}: {node.module} has no {name.name}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning")
@pytest.mark.parametrize("place", RUN)
def test_python_on_drawn_radiographs_runs(place, tmp_path, monkeypatch):
    """At a small size: the settings that cost time are put lower, the rest runs as it stands."""
    import hilum.phantom.dataset as phantom

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(phantom.DEFAULTS, "images", 120)
    monkeypatch.setitem(phantom.DEFAULTS, "size", 32)
    for _, block in fenced(ROOT / place, "python"):
        small = block.replace("=64", "=32").replace("num_epochs=3", "num_epochs=1, num_workers=0, quiet=True")
        exec(compile(small, place, "exec"), {})


def test_the_notebooks_page_names_every_folder():
    text = (DOCS / "tutorials" / "notebooks.md").read_text(encoding="utf-8")
    for folder in (ROOT / "notebooks").iterdir():
        if folder.is_dir() and not folder.name.startswith("__"):
            assert f"`{folder.name}/`" in text
