"""Checks of the notebooks' files. `make notebooks` runs each notebook in a kernel, with its assertions."""

import ast
import re
import subprocess
import sys
import types
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.py"))

#: Number of notebooks per folder, from the founding document.
EXPECTED = {
    "educational": 7,
    "kaggle_pneumonia": 1,
    "model_loop": 2,
    "model_runs": 2,
    "support": 9,
}


def cells(name: str) -> list[tuple[str, str]]:
    """(kind, source) of each cell."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)[1:]
    return [
        ("markdown" if "[markdown]" in head else "code", source)
        for head, source in zip(parts[::2], parts[1::2], strict=True)
    ]


def bootstrap_cell(name: str) -> str:
    return next(source for kind, source in cells(name) if kind == "code")


def test_all_notebooks_are_there():
    folders = [name.partition("/")[0] for name in NOTEBOOKS]
    assert {folder: folders.count(folder) for folder in set(folders)} == EXPECTED


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_explains_and_asserts(name):
    kinds = [kind for kind, _ in cells(name)]
    assert kinds[0] == "markdown"
    title = cells(name)[0][1]
    assert title.startswith("# # "), "a notebook starts with its title"
    code = [ast.parse(source) for kind, source in cells(name) if kind == "code"]
    asserts = sum(isinstance(node, ast.Assert) for tree in code for node in ast.walk(tree))
    assert asserts >= 3, "a notebook needs at least 3 assertions"
    assert kinds.count("markdown") >= 3


def test_the_bootstrap_cell_is_the_same_in_all():
    assert len({bootstrap_cell(name) for name in NOTEBOOKS}) == 1


def test_the_bootstrap_cell_installs_from_the_drive_if_hilum_is_missing(monkeypatch, tmp_path):
    """Simulates Colab: no hilum, a google.colab that mounts, a pip that makes hilum importable."""
    drive, commands = tmp_path / "drive", []
    clone = drive / "MyDrive" / "hilum"
    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=lambda folder: clone.mkdir(parents=True))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    from hilum import notebook

    def install(command: list[str], check: bool) -> None:
        commands.append(command)
        monkeypatch.setitem(sys.modules, "hilum.notebook", notebook)

    monkeypatch.setattr(subprocess, "run", install)
    monkeypatch.setattr(notebook.bootstrap, "__defaults__", (drive,))
    monkeypatch.setitem(sys.modules, "hilum.notebook", None)  # importing it raises ModuleNotFoundError
    source = bootstrap_cell(NOTEBOOKS[0]).replace("/content/drive", str(drive))
    namespace: dict = {}
    with mpl.rc_context():
        exec(compile(source, "bootstrap", "exec"), namespace)
    place = namespace["place"]
    assert place.colab
    assert place.home == clone
    assert commands == [[sys.executable, "-m", "pip", "install", "--quiet", "--editable", str(clone)]]
    assert sys.path[0] == str(clone)


@pytest.mark.slow
def test_the_written_file_has_outputs_and_figures(tmp_path, monkeypatch):
    for name in ("HILUM_DATA", "HILUM_RUNS", "HILUM_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    nbformat = pytest.importorskip("nbformat")
    done = subprocess.run(
        [
            sys.executable,
            FOLDER / "execute.py",
            "--small",
            "--out",
            tmp_path,
            "educational/convolution_shapes",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / "educational" / "convolution_shapes.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("180 combinations agree" in output.get("text", "") for output in outputs)


def test_an_unknown_notebook_is_an_error():
    done = subprocess.run(
        [sys.executable, FOLDER / "execute.py", "support/metrix"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "There is no notebook 'support/metrix'" in done.stderr
