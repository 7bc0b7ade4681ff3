"""The conclusions of a run are those of its best epoch, and its record has the environment."""

import json
import subprocess

import numpy as np
import pytest
import torch

from hilum.errors import HilumError
from hilum.metrics.calibration import Calibration, fit_calibration
from hilum.metrics.predictions import Predictions
from hilum.metrics.ranking import rank
from hilum.metrics.thresholds import choose_threshold, freeze_operating_points, parse_policy
from hilum.training.run_writer import describe_environment, git_commit

pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")


def test_the_operating_points_are_those_of_the_best_epochs_validation(train):
    training = train(num_epochs=3, threshold_policy="youden", val_fraction=0.4)
    folder = training.folder
    validation = Predictions.from_run(folder)
    for column, target in enumerate(validation.targets):
        ranking = rank(validation.y_true[:, column], validation.y_score[:, column])
        point = folder.record["operating_points"][target]
        assert point["policy"] == "youden"
        assert point["threshold"] == choose_threshold(ranking, parse_policy("youden"))
        assert point["recall"] == ranking.confusion(point["threshold"]).recall
    policies = dict.fromkeys(validation.targets, parse_policy("youden"))
    again = freeze_operating_points(validation.with_thresholds(0.5), policies, seed=0)
    assert folder.record["operating_points"] == again


def test_the_default_reaches_a_recall_and_thresholds_given_by_hand_stay(train):
    reached = train(val_fraction=0.4).folder.record["operating_points"]
    assert {point["policy"] for point in reached.values()} == {"recall>=0.9"}
    assert all(point["recall"] >= 0.9 for point in reached.values())
    by_hand = train(target_thresholds={"Edema": 0.3}).folder.record["operating_points"]
    assert [(point["policy"], point["threshold"]) for point in by_hand.values()] == [
        ("fixed", 0.3),
        ("fixed", 0.5),
        ("fixed", 0.5),
    ]


def test_a_policy_by_target_leaves_the_others_the_default(train):
    points = train(threshold_policy={"Edema": "fbeta:1"}).folder.record["operating_points"]
    assert [point["policy"] for point in points.values()] == ["fbeta:1", "recall>=0.9", "recall>=0.9"]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("recal>=0.9", "recal>=0.9"),
        ("recall>=1.5", "recall>=1.5"),
        ("fbeta:0", "fbeta:0"),
        ({"Edemma": "youden"}, "Edemma"),
    ],
)
def test_a_mistaken_policy_is_refused_before_anything_is_trained(train, tmp_path, policy, words):
    with pytest.raises(HilumError, match="threshold_policy") as told:
        train(threshold_policy=policy)
    assert words in str(told.value)
    assert not (tmp_path / "runs").exists()


def test_the_calibration_is_recorded_and_is_the_fit_on_validation(train):
    folder = train(calibration="platt", val_fraction=0.4).folder
    validation = Predictions.from_run(folder)
    expected = fit_calibration(validation, "platt")
    recorded = Calibration.from_record(folder.record["calibration"])
    np.testing.assert_array_equal(recorded.apply(validation.y_score), expected.apply(validation.y_score))
    assert train().folder.record["calibration"] is None


def test_what_is_concluded_changes_nothing_that_is_learned(train):
    plain = train().folder.record["digest"]
    assert (
        train(calibration="temperature", threshold_policy="precision>=0.5").folder.record["digest"] == plain
    )


def git(folder, *arguments):
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_the_environment_has_versions_and_machine_as_json():
    record = describe_environment(torch.device("cpu"))
    assert json.loads(json.dumps(record)) == record
    assert record["versions"]["torch"] == torch.__version__
    assert {"python", "hilum", "numpy", "pandas", "torchvision"} < set(record["versions"])
    assert record["device"]["type"] == "cpu"
    assert record["device"]["threads"] == torch.get_num_threads()
    assert record["device"]["name"]


def test_the_commit_is_recorded_and_whether_files_differ_from_it(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "untracked.txt").write_text("a note\n")
    assert git_commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("a = 2\n")
    assert git_commit(tmp_path) == f"{clean}+changes"


def test_outside_a_repository_or_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None
