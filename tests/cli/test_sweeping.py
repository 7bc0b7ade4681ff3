"""The command, with real trainings where it must be them."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hilum.cli.sweeping import sweep
from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.sweeps import model_loop

SMALL = """
seeds = [0]
[base]
source = "nih"
image_width = 16
image_height = 16
batch_size = 8
num_epochs = 1
num_workers = 0
aug_percent = 0
device = "cpu"
net_kwargs = {layers = 18}
"""


@pytest.fixture
def file(tmp_path):
    """Writes a sweep file of small trainings and these lines; gives its path."""

    def write(lines: str):
        path = tmp_path / "lr.toml"
        path.write_text(f"save_path = {str(tmp_path)!r}\n{SMALL}{lines}")
        return path

    return write


def test_real_trainings_end_in_a_table_although_one_fails(file, nih_tree, tmp_path):
    """A run whose settings are in order and whose network is not ends in an error of its own."""
    path = file('[grid]\n"net_kwargs.layers" = [18, 19]')
    command = [sys.executable, "-m", "hilum", "sweep", str(path), "--root", str(nih_tree), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    record = json.loads(ended.stdout)
    (row,) = record["table"]
    assert (row["seeds"], row["runs"]) == (1, ["lr-net_kwargs.layers-18-seed-0"])
    folder = RunFolder(tmp_path / "lr" / row["runs"][0])
    assert folder.record["status"] == "finished"
    assert (folder.settings["net_kwargs"], folder.settings["root"]) == ({"layers": 18}, str(nih_tree))
    ((name, why),) = record["failures"].items()
    assert name == "lr-net_kwargs.layers-19-seed-0"
    assert "19" in why
    assert why.endswith("(exit code 2)")
    assert "Traceback" not in ended.stderr
    assert f"[2/2] {name} failed" in ended.stderr


def test_a_wrong_file_is_told_before_anything_starts(file, tmp_path):
    path = file("lerning_rate = 1")
    result = CliRunner().invoke(sweep, [str(path)])
    assert isinstance(result.exception, HilumError)
    assert str(result.exception) == (
        f"{path}: 2 mistakes:\n  [base]: there is no setting 'lerning_rate'. Did you mean 'learning_rate'?"
    ).replace("2 mistakes:\n  ", "")
    assert not (tmp_path / "lr").exists()


def test_what_is_given_reaches_the_loop_and_the_exit_code_tells(file, monkeypatch):
    called = {}

    class Result:
        failures = {}  # noqa: RUF012
        compare_command = None

        def show(self):
            print("the table")

    def run(self, parallel, executor, **options):
        called.update(parallel=parallel, executor=executor, base=self.plan.base, **options)
        return Result()

    monkeypatch.setattr(model_loop.ModelLoop, "run", run)
    flags = [
        "--parallel",
        "3",
        "--executor",
        "ray",
        "--address",
        "auto",
        "--retry-failed",
        "--num-epochs",
        "7",
    ]
    result = CliRunner().invoke(sweep, [str(file("")), *flags])
    assert (result.exit_code, result.output) == (0, "the table\n")
    assert (called["parallel"], called["executor"], called["address"]) == (3, "ray", "auto")
    assert called["retry_failed"]
    assert called["base"]["num_epochs"] == 7
    Result.failures = {"a": "no"}
    assert CliRunner().invoke(sweep, [str(file(""))]).exit_code == 1
