import runpy
import subprocess
import warnings
from pathlib import Path
from types import SimpleNamespace

from click.testing import CliRunner

from hilum.cli import cli

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kills.py"


def in_this_process(arguments, **_):
    """Runs a command of Hilum in this process, where torch is already imported, instead of `subprocess.run`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images lack some findings
        result = CliRunner().invoke(cli, arguments[arguments.index("hilum") + 1 :])
    assert result.exit_code == 0, result.output
    return subprocess.CompletedProcess(arguments, 0, result.stdout, result.stderr)


def test_a_killed_and_resumed_run_has_the_digest_of_an_uninterrupted_run(monkeypatch, capsys):
    benchmark = runpy.run_path(str(BENCHMARK), run_name="kills")
    settings = benchmark["measure"].__globals__
    # Two epochs of two batches; only the killed run needs a separate process.
    monkeypatch.setitem(settings, "EPOCHS", 2)
    spawning = SimpleNamespace(**{**vars(subprocess), "run": in_this_process})
    monkeypatch.setitem(settings, "subprocess", spawning)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = benchmark["measure"](kills=1, images=24)
    assert result["same"] == len(result["kills"]) == 1
    assert result["kills"][0]["same_digest"]
    assert 0 <= result["kills"][0]["epochs_done"] <= 2
    assert 0 < result["kills"][0]["after_seconds"] <= result["seconds_without_a_kill"]
    assert "the same digest" in capsys.readouterr().out
