"""Folders, a bundle and a sweep that Hilum 0.1.0 wrote (format 1): the current version reads and continues them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hilum import RunFolder, StandardTraining
from hilum.cli import cli
from hilum.phantom import write_phantom
from hilum.run_folder import FORMAT_VERSION

# Cardiomegaly has no positive image in the small validation part.
pytestmark = pytest.mark.filterwarnings("ignore::hilum.metrics.UndefinedScoreWarning")

FIXTURES = Path(__file__).parent / "fixtures" / "format-1"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """The 120 training images of the fixtures, drawn again from their seed."""
    root = tmp_path_factory.mktemp("phantom") / "phantom"
    write_phantom(root, images=120, seed=7)
    return root


@pytest.fixture
def old(phantom, tmp_path, monkeypatch) -> Path:
    """A copy of the fixtures, as the working directory: their paths are relative."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "phantom").symlink_to(phantom, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hilum(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_settings_have_their_current_names(old):
    folder = RunFolder("runs/finished")
    assert json.loads((old / "runs/finished/run.json").read_text())["format"] == 1
    assert folder.record["format"] == FORMAT_VERSION
    assert folder.settings["aug_fraction"] == 0.5
    assert folder.settings["translate_fraction"] == 0.1
    assert "aug_percent" not in folder.settings


def test_a_finished_run_is_shown_and_reported(old):
    assert "finished" in hilum("runs", "runs")
    assert "Cardiomegaly" in hilum("show", "runs/finished")
    hilum("report", "runs/finished")
    assert (old / "runs/finished/report.html").stat().st_size > 10_000
    metrics = StandardTraining.load_metrics("runs/finished")
    saved = RunFolder("runs/finished").scores()
    assert np.allclose(metrics.scores["roc_auc"], saved["roc_auc"], equal_nan=True)


def test_a_finished_run_predicts_and_is_evaluated(old):
    image = next((old / "phantom").rglob("*.jpg"))
    assert "Effusion" in hilum("predict", "runs/finished", str(image))
    hilum("evaluate", "runs/finished", "--split", "val", "--replicates", "100")
    assert RunFolder("runs/finished").evaluations()


def test_the_bundle_gives_the_probabilities_of_its_run(old):
    pytest.importorskip("onnxruntime")
    image = str(next((old / "phantom").rglob("*.jpg")))
    answers = []
    for path in ("runs/finished", "bundle"):
        hilum("predict", path, image, "--json", f"{path.replace('/', '-')}.json")
        answer = json.loads((old / f"{path.replace('/', '-')}.json").read_text())
        answers.append([finding["probability"] for finding in answer["images"][0]["findings"]])
    assert len(answers[0]) == 2
    assert np.allclose(*answers, atol=1e-5)


def test_a_stopped_run_continues_with_the_predictions_of_an_uninterrupted_run(old):
    before = RunFolder("runs/stopped").predictions(1)
    hilum("resume", "runs/stopped")
    folder = RunFolder("runs/stopped")
    assert folder.record["status"] == "finished"
    assert folder.epochs() == [1, 2, 3]
    assert folder.predictions(1).equals(before)
    alone = StandardTraining(**{**folder.settings, "name": "alone"})
    alone.train()
    # The fixture's first epoch may come from another CPU, which rounds differently.
    scores = folder.predictions(3).filter(like="prob_")
    assert np.allclose(scores, alone.folder.predictions(3).filter(like="prob_"), atol=1e-3)


def test_a_finished_run_is_verified(old):
    result = CliRunner().invoke(cli, ["verify", "runs/finished"])
    # Exit code 1 means that predictions differ in the last bits, as they may on another CPU.
    assert result.exit_code in (0, 1), result.output
    rerun = StandardTraining(**{**RunFolder("runs/finished").settings, "name": "again"})
    rerun.train()
    tables = [RunFolder(f"runs/{name}").predictions(2).filter(like="prob_") for name in ("finished", "again")]
    assert np.allclose(*tables, atol=1e-3)


@pytest.mark.slow
def test_a_stopped_sweep_continues(old):
    finished = old / "sweeps/rates/rates-learning_rate-0.001/run.json"
    before = finished.read_bytes()
    hilum("sweep", "sweeps/sweep.toml")
    runs = {path.parent.name: RunFolder(path.parent) for path in (old / "sweeps/rates").glob("*/run.json")}
    assert [run.record["status"] for run in runs.values()] == ["finished"] * 2
    assert json.loads(finished.read_bytes())["digest"] == json.loads(before)["digest"]
    assert json.loads(finished.read_bytes())["started"] == json.loads(before)["started"]
