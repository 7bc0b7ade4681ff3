import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hilum.cli.training import find_lr, models, sweep
from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.sweeps import model_loop


@pytest.fixture
def small(nih_tree) -> list[str]:
    """Flags for a find-lr that takes a second."""
    return [
        *("--source", "nih", "--root", str(nih_tree), "--image-width", "32", "--image-height", "32"),
        *("--batch-size", "4", "--num-workers", "0", "--device", "cpu", "--steps", "12"),
    ]


def test_a_rate_is_suggested_with_its_curve(small, tmp_path):
    out = tmp_path / "figures" / "rates.png"
    result = CliRunner().invoke(find_lr, [*small, "--lowest", "1e-6", "--highest", "0.1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "learning rate  smoothed loss" in result.output
    assert "  steepest descent" in result.output
    assert "Suggested: --learning-rate " in result.output
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in out.parent.iterdir()] == ["rates.png"]


def test_without_out_nothing_is_written(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    assert CliRunner().invoke(find_lr, small).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == before


def test_mistakes_are_reported_before_any_work(small, tmp_path):
    result = CliRunner().invoke(find_lr, [*small, "--out", str(tmp_path / "rates.jpg")])
    assert isinstance(result.exception, HilumError)
    assert "rates.jpg does not end in .png" in str(result.exception)
    result = CliRunner().invoke(find_lr, ["--image-width", "3"])
    assert "Setting image_width" in str(result.exception)
    result = CliRunner().invoke(find_lr, ["--imge-width", "3"])
    assert result.exit_code == 2
    assert "--image-width" in result.output


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(models, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_parameters_shapes_and_a_line_on_each_model():
    output = printed("--size", "64x48", "--targets", "5")
    row = next(line for line in output.splitlines() if line.startswith("resnet_grayscale"))
    assert row.split() == ["resnet_grayscale", "11,172,805", "11,172,805", "1", "x", "48", "x", "64", "5"]
    assert "densenet: Dense blocks with transitions between them" in output
    assert "timm:NAME: Any network of timm;" in output


def test_a_missing_timm_is_reported(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "it is not installed: pip install 'hilum[timm]'" in printed("--size", "64")


def test_the_list_as_json():
    found = json.loads(printed("--size", "64", "--json"))
    names = [model["name"] for model in found["models"]]
    assert names == ["custom_pneumonia", "densenet", "resnet_grayscale", "resnet_pretrained"]
    assert found["models"][0]["input_shape"] == [1, 64, 64]
    assert found["models"][0]["output_shape"] == [14]
    assert "layers" not in found["models"][0]
    assert "timm" in found


def test_a_model_is_shown_layer_by_layer_up_to_where_convolution_meets_fully_connected():
    lines = printed("describe", "custom_pneumonia", "--size", "320").splitlines()
    columns = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert " ".join(columns["blocks.4.2"]) == "MaxPool2d 128 x 10 x 10"
    assert " ".join(columns["hidden"]) == "Linear 128 1,638,528 128 × (12,800 + 1)"
    assert any("Here convolution meets fully connected" in line and "12,800" in line for line in lines)
    assert any(line.startswith("1,885,070 parameters, all of them trainable") for line in lines)
    assert max(map(len, lines)) <= 160


def test_settings_are_given_as_in_training():
    output = printed(
        "describe", "resnet_pretrained", "--size", "64", "--targets", "5", "--net-kwargs", "{layers = 34}"
    )
    assert "with layers = 34" in output
    found = json.loads(
        printed("describe", "densenet", "--size", "64", "--net-kwargs", "{block_config = [2, 2]}", "--json")
    )
    assert found["outputs"] == 14
    assert found["layers"][0]["output_shape"] == [64, 32, 32]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["describe", "resnet"], "there is no model 'resnet'"),
        (["describe", "densenet", "--net-kwargs", "{growth = 3}"], "Did you mean 'growth_rate'"),
        (["describe", "custom_pneumonia", "--size", "16"], "32 x 32 or larger"),
        (["describe", "densenet", "--size", "wide"], "--size 'wide': give pixels, 320, or width and height"),
        (
            ["describe", "densenet", "--size", "1"],
            "Setting image_width: 1 must be greater than or equal to 16",
        ),
    ],
)
def test_an_impossible_model_is_refused(arguments, text):
    result = CliRunner().invoke(models, arguments)
    assert isinstance(result.exception, HilumError)
    assert text in str(result.exception)


def test_a_flag_without_effect_is_refused():
    result = CliRunner().invoke(models, ["--size", "64", "describe", "densenet"])
    assert result.exit_code == 2
    assert "--size must follow describe" in result.output


SMALL = """
seeds = [0]
[base]
source = "nih"
image_width = 16
image_height = 16
batch_size = 8
num_epochs = 1
num_workers = 0
aug_fraction = 0
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


@pytest.mark.slow
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


def test_a_wrong_file_is_reported_before_anything_starts(file, tmp_path):
    path = file("lerning_rate = 1")
    result = CliRunner().invoke(sweep, [str(path)])
    assert isinstance(result.exception, HilumError)
    assert str(result.exception).startswith(
        f"{path}: [base] lerning_rate: There is no setting 'lerning_rate'. Did you mean 'learning_rate'?"
    )
    assert not (tmp_path / "lr").exists()


def test_options_reach_the_loop_and_a_failure_is_exit_code_1(file, monkeypatch):
    called = {}

    class Result:
        failures = {}  # noqa: RUF012
        compare_command = None

        def show(self):
            print("the table")

    def run(self, **options):
        called.update(base=self.spec.base, **options)
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
