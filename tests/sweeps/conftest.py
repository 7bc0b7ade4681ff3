"""Sweeps whose runs take a tenth of a second: `fake_run.py` replaces `hilum train`."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

import hilum
from hilum.sweeps.model_loop import ModelLoop

FAKE = Path(__file__).with_name("fake_run.py")


def fake_command(settings: Path, resume: Path | None) -> list[str]:
    """Replaces `hilum train` and `hilum resume`."""
    return [sys.executable, str(FAKE), str(settings), *([str(resume)] if resume else [])]


def healed_command(settings: Path, resume: Path | None) -> list[str]:
    """As `fake_command`, with settings changed so that the run neither sleeps nor is killed."""
    text = settings.read_text().replace("sleep = 60", "sleep = 0")
    settings.write_text(text.replace("kill = 9", "kill = 0"))
    return fake_command(settings, resume)


@pytest.fixture(scope="session", autouse=True)
def fake_tables(tmp_path_factory):
    """A folder where fake runs keep the tables that they wrote, for the next ones."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FAKE_TABLES", str(tmp_path_factory.mktemp("tables")))
        yield


class Loop(ModelLoop):
    """A ModelLoop of fake runs; `printed` is its output."""

    printed = ""
    healed_command = staticmethod(healed_command)

    def run(self, parallel=None, executor="local", **options):
        shown = io.StringIO()
        console = Console(file=shown, width=200)
        try:
            return super().run(parallel, executor, console=console, **{"command": fake_command} | options)
        finally:
            self.printed = shown.getvalue()

    def run_log(self, number: int) -> str:
        """The output of a run."""
        return (self.spec.folder / "logs" / f"{self.spec.plan_runs()[number].name}.log").read_text()


@pytest.fixture
def loop(tmp_path):
    """Makes a Loop in `tmp_path`; takes the arguments of ModelLoop."""

    def make(base=None, **parts) -> Loop:
        return Loop(base or {}, **{"name": "lr", "save_path": tmp_path} | parts)

    return make


@pytest.fixture
def sweep_script(tmp_path):
    """Writes a program that runs a sweep of fake runs; takes the arguments of ModelLoop, gives the command line."""

    def make(base=None, parallel=1, **parts) -> list[str]:
        parts = {"name": "lr", "save_path": str(tmp_path)} | parts
        script = tmp_path / "sweep_script.py"
        script.write_text(
            "import importlib.util, sys\n"
            f"sys.path.insert(0, {str(Path(hilum.__file__).parents[1])!r})\n"
            f"spec = importlib.util.spec_from_file_location('conftest', {__file__!r})\n"
            "conftest = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(conftest)\n"
            "from hilum.sweeps.model_loop import ModelLoop\n"
            f"loop = ModelLoop({base or {}!r}, **{parts!r})\n"
            "try:\n"
            f"    result = loop.run({parallel}, command=conftest.fake_command)\n"
            "except KeyboardInterrupt:\n"
            "    sys.exit(130)\n"
            "result.show()\n"
        )
        return [sys.executable, str(script)]

    return make
