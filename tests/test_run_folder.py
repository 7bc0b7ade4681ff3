import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.run_folder import FORMAT_VERSION, RunFolder, digest_of, find_runs


def make(folder, name=None, **record) -> RunFolder:
    return RunFolder.create(folder, name, "nih-resnet", {"settings": {}, "targets": ["Edema"]} | record)


def predictions(**changes) -> pd.DataFrame:
    columns = {
        "part": ["train", "train", "val"],
        "ImageID": [3, 5, 9],
        "draw": [0, 0, 0],
        "label_Edema": [1.0, np.nan, 0.0],
        "prob_Edema": np.array([0.25, 0.5, 0.75], dtype=np.float32),
    }
    return pd.DataFrame(columns | changes)


def test_a_new_run_is_running_and_can_be_loaded(tmp_path):
    run = make(tmp_path / "runs", "first", seed=7)
    again = RunFolder(tmp_path / "runs" / "first")
    assert again.record == run.record
    assert [again.record[key] for key in ("format", "name", "status", "seed")] == [
        FORMAT_VERSION,
        "first",
        "running",
        7,
    ]
    assert again.targets == ["Edema"]
    assert again.settings == {}


def test_runs_without_a_name_get_the_next_free_number(tmp_path):
    make(tmp_path, "nih-resnet-002")
    assert [make(tmp_path).path.name for _ in range(3)] == [
        "nih-resnet-001",
        "nih-resnet-003",
        "nih-resnet-004",
    ]


def test_a_name_that_is_taken_is_an_error_and_the_run_stays(tmp_path):
    make(tmp_path, "first", seed=7)
    with pytest.raises(HilumError, match=r"first: the run folder is taken\. Give the run another name, or"):
        make(tmp_path, "first", seed=8)
    assert RunFolder(tmp_path / "first").record["seed"] == 7


def test_a_save_path_that_cannot_be_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for save_path in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(HilumError, match=r"save_path .*file.*: it cannot be written"):
            make(save_path)


def test_an_update_keeps_the_other_entries(tmp_path):
    run = make(tmp_path, seed=7)
    run.update(status="finished", digest="abc")
    record = RunFolder(run.path).record
    assert (record["seed"], record["status"], record["digest"]) == (7, "finished", "abc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "run.json: the file is damaged"),
        ('{"format": 1, "na', "run.json: the file is damaged"),
        ("[]", "run.json: this is not the record of a Hilum run"),
        ('{"model": "x"}', "run.json: this is not the record of a Hilum run"),
        (json.dumps({"format": FORMAT_VERSION + 1, "versions": {"hilum": "9.9"}}), r"newer Hilum \(9\.9\)"),
    ],
)
def test_an_invalid_record_is_an_error(tmp_path, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(HilumError, match=message):
        RunFolder(tmp_path)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(HilumError, match=r"this is not a run folder: run\.json is missing"):
            RunFolder(path)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(HilumError, match=r"run\.json: it cannot be read"):
        RunFolder(tmp_path)


def test_tables_are_read_as_written(tmp_path):
    run = make(tmp_path)
    split = pd.DataFrame({"ImageID": [3, 5], "PatientID": [1, 2], "part": ["train", "val"]})
    scores = pd.DataFrame({"epoch": [1], "roc_auc": [np.nan]})
    run.write_split(split)
    run.write_epoch(2, predictions(draw=[1, 1, 1]), scores, scores)
    run.write_epoch(1, predictions(), scores, scores)
    run = RunFolder(run.path)
    assert run.epochs() == [1, 2]
    for read, written in [
        (run.split(), split),
        (run.predictions(1), predictions()),
        (run.scores(), scores),
        (run.combined(), scores),
    ]:
        pd.testing.assert_frame_equal(read, written)


def test_a_run_without_scores_is_an_error(tmp_path):
    run = make(tmp_path)
    assert run.epochs() == []
    with pytest.raises(
        HilumError, match=r"scores\.parquet: the file is missing; the run is running\. A run has"
    ):
        run.scores()


def test_a_damaged_table_is_an_error(tmp_path):
    run = make(tmp_path)
    (run.path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(HilumError, match=r"scores\.parquet: the file is damaged"):
        run.scores()


def test_a_kill_while_a_table_is_written_leaves_the_previous_table(tmp_path):
    run = make(tmp_path, "killed")
    run.write_split(predictions())
    code = (
        "import os, sys, pandas as pd; from hilum.run_folder import RunFolder; "
        "write = pd.DataFrame.to_parquet; "
        "pd.DataFrame.to_parquet = lambda *a, **k: (write(*a, **k), os._exit(9)); "
        "RunFolder(sys.argv[1]).write_split(pd.DataFrame({'ImageID': [1]}))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run.path)], check=False).returncode == 9
    pd.testing.assert_frame_equal(RunFolder(run.path).split(), predictions())
    assert [found.path.name for found in find_runs(tmp_path)[0]] == ["killed"]


def test_the_log_has_its_lines_with_their_time(tmp_path):
    run = make(tmp_path)
    run.log("epoch 1")
    run.log("epoch 2")
    lines = (run.path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(line.split()[0].endswith("+00:00") for line in lines)


def test_a_removed_run_leaves_nothing(tmp_path):
    run = make(tmp_path / "runs")
    run.log("x")
    run.remove()
    assert os.listdir(tmp_path / "runs") == []  # noqa: PTH208


def test_the_digest_covers_the_values(tmp_path):
    run = make(tmp_path)
    run.write_epoch(1, predictions(), pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}))
    digest = digest_of(predictions())
    assert len(digest) == 64
    assert digest_of(run.predictions(1)) == digest
    next_value = np.nextafter(np.float32(0.75), np.float32(1))
    others = [
        predictions(prob_Edema=np.array([0.25, 0.5, next_value], dtype=np.float32)),
        predictions(part=["train", "val", "val"]),
        predictions(ImageID=[3, 5, 10]),
        predictions(draw=[0, 1, 0]),
        predictions(label_Edema=[1.0, 0.0, 0.0]),
        predictions().iloc[::-1],
        predictions().rename(columns={"prob_Edema": "prob_Mass"}),
    ]
    assert len({digest, *map(digest_of, others)}) == len(others) + 1


def test_runs_are_found_oldest_first_and_other_folders_are_ignored(tmp_path):
    make(tmp_path, "b", started="2026-01-02T00:00:00+00:00")
    make(tmp_path, "c", started="2026-01-01T00:00:00+00:00")
    make(tmp_path, "a", started="2026-01-02T00:00:00+00:00")
    (tmp_path / "notes").mkdir()
    assert [run.path.name for run in find_runs(tmp_path)[0]] == ["c", "a", "b"]


def test_an_empty_folder_has_no_runs_and_a_missing_folder_is_an_error(tmp_path):
    assert find_runs(tmp_path) == ([], [])
    with pytest.raises(HilumError, match=r"none: there is no such folder\. Give the save_path"):
        find_runs(tmp_path / "none")


def test_one_damaged_run_does_not_hide_the_others(tmp_path):
    RunFolder.create(tmp_path, "good", "run", {"settings": {}, "targets": []})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    runs, problems = find_runs(tmp_path)
    assert [run.path.name for run in runs] == ["good"]
    assert len(problems) == 1
    assert "bad" in problems[0]


@pytest.mark.parametrize("missing", ["settings", "targets", "status"])
def test_a_record_without_a_required_entry_is_an_error(tmp_path, missing):
    run = RunFolder.create(tmp_path, "run", "run", {"settings": {}, "targets": []})
    record = {name: value for name, value in run.record.items() if name != missing}
    (run.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(HilumError, match=missing):
        RunFolder(run.path)


def test_images_are_read_as_written_and_a_run_without_them_is_an_error(tmp_path):
    run = make(tmp_path, "first")
    with pytest.raises(
        HilumError, match=r"images\.parquet is missing: the run was made by an earlier version"
    ):
        run.images()
    table = pd.DataFrame(
        {"ImageID": [3, 5], "PatientID": [1, 1], "part": ["train", "val"], "Age": [50.0, np.nan]}
    )
    run.write_images(table)
    pd.testing.assert_frame_equal(run.images(), table)


def test_the_best_epoch_is_in_the_record_and_a_run_without_one_is_an_error(tmp_path):
    run = make(tmp_path, "first")
    with pytest.raises(HilumError, match=r"no epoch has ended yet \(running\)"):
        _ = run.best_epoch
    run.update(best_epoch=3)
    assert RunFolder(run.path).best_epoch == 3


def test_frozen_thresholds_replace_those_of_the_settings(tmp_path):
    run = make(tmp_path, "first", thresholds={"Edema": 0.5, "Mass": 0.4})
    assert run.operating_thresholds() == {"Edema": 0.5, "Mass": 0.4}
    run.update(operating_points={"Edema": {"threshold": 0.125}})
    assert run.operating_thresholds() == {"Edema": 0.125, "Mass": 0.4}


def test_evaluations_are_listed_by_name_and_other_folders_are_ignored(tmp_path):
    run = make(tmp_path, "first")
    assert run.evaluations() == []
    for name in ("nih-test", "chexpert-all", ".nih-test.partial"):
        (run.path / "evaluations" / name).mkdir(parents=True)
        (run.path / "evaluations" / name / "evaluation.json").write_text("{}")
    (run.path / "evaluations" / "notes").mkdir()
    assert run.evaluations() == ["chexpert-all", "nih-test"]
