import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hilum.cli.results import audit, compare, report
from hilum.config import RunConfig, setting_fields
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.run_folder import RunFolder


@pytest.fixture
def two_runs(tmp_path) -> list[str]:
    """Paths of two finished runs on the same 60 images, the second with another learning rate."""
    draw = np.random.default_rng(1)
    labels = (np.arange(60) % 3 == 0).astype(np.float32)
    paths = []
    for name, learning_rate in (("first", 0.001), ("second", 0.01)):
        predictions = pd.DataFrame(
            {"part": "val", "ImageID": np.arange(60), "draw": 0, "label_Edema": labels}
        )
        predictions["prob_Edema"] = ((labels + draw.random(60)) / 2).astype(np.float32)
        folder = RunFolder.create(
            tmp_path,
            name,
            "run",
            {
                "settings": RunConfig(learning_rate=learning_rate).as_record(),
                "targets": ["Edema"],
                "thresholds": {"Edema": 0.5},
            },
        )
        folder.write_split(
            pd.DataFrame({"ImageID": np.arange(60), "PatientID": np.arange(60), "part": "val"})
        )
        folder.write_epoch(1, predictions, pd.DataFrame(), pd.DataFrame())
        folder.update(best_epoch=1, status="finished")
        paths.append(str(folder.path))
    return paths


def test_runs_are_compared(two_runs):
    result = CliRunner().invoke(compare, [*two_runs, "--replicates", "100"])
    assert result.exit_code == 0, result.output
    assert "One thing differs: learning_rate, 0.001 → 0.01." in result.output
    assert "60 validation images of 60 patients" in result.output


def test_json_is_one_object_and_nothing_else(two_runs):
    result = CliRunner().invoke(compare, [*two_runs, "--replicates", "100", "--seed", "3", "--json"])
    record = json.loads(result.output)
    assert (record["replicates"], record["seed"]) == (100, 3)
    assert record["comparisons"][0]["targets"] == ["Edema"]


def test_a_folder_that_is_no_run_is_named(two_runs, tmp_path):
    result = CliRunner().invoke(compare, [two_runs[0], str(tmp_path)])
    assert isinstance(result.exception, HilumError)
    assert f"{tmp_path}: this is not a run folder" in str(result.exception)


def test_too_few_samples_are_refused(two_runs):
    result = CliRunner().invoke(compare, [*two_runs, "--replicates", "5"])
    assert result.exit_code == 2
    assert "--replicates" in result.output


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """Paths of two finished runs on the same 80 images, the second with another learning rate."""
    draw = np.random.default_rng(1)
    ids = np.arange(80)
    labels = pd.DataFrame({"Edema": (ids % 3 == 0).astype(float)}, index=pd.Index(ids, name="ImageID"))
    split = pd.DataFrame({"ImageID": ids, "PatientID": ids // 2, "part": np.where(ids < 40, "train", "val")})
    about = {"StudyID": 1, "Age": 40.0, "Sex_Male": ids % 2.0, "Sex_Unknown": 0.0, "Orientation_PA": 1.0}
    paths = []
    for name, learning_rate in (("first", 0.001), ("second", 0.01)):
        metrics = Metrics(("Edema",), labels[:40], labels[40:])
        for part in (slice(0, 40), slice(40, 80)):
            logits = labels[part].to_numpy() + draw.normal(size=(40, 1))
            metrics.append_epoch_batch_data(ids[part], logits, is_validation=part.start == 40)
            metrics.close_epoch(1, is_validation=part.start == 40)
        folder = RunFolder.create(
            tmp_path,
            name,
            "run",
            {
                "settings": RunConfig(learning_rate=learning_rate).as_record(),
                "targets": ["Edema"],
                "thresholds": {"Edema": 0.5},
                "seed": 0,
                "pixel_mean": 0.5,
                "pixel_sd": 0.2,
                "catalog": {"name": "hand", "fingerprint": "ab", "images": 80},
                "split": {
                    "fingerprint": "cd",
                    "unit": "patient",
                    "parts": {"train": {"images": 40, "patients": 20}, "val": {"images": 40, "patients": 20}},
                    "train_images_after_oversampling": 40,
                    "imbalance": [],
                },
                "versions": dict.fromkeys(
                    ("hilum", "python", "torch", "torchvision", "numpy", "pandas"), "1"
                ),
                "device": {"type": "cpu", "name": "abacus"},
            },
        )
        folder.write_split(split)
        folder.write_images(
            split.assign(
                **about, **{"Support Devices": np.nan}, Image_Path=[f"{number}.png" for number in ids]
            )
        )
        folder.write_epoch(1, metrics.predictions(1), metrics.scores, metrics.combined)
        folder.update(best_epoch=1, epochs_done=1, seconds=3.0, status="finished")
        paths.append(str(folder.path))
    return paths


def test_one_run_gets_its_page_in_its_folder_or_where_asked(runs, tmp_path):
    result = CliRunner().invoke(report, [runs[0]])
    assert result.exit_code == 0, result.output
    assert result.output == f"The page is {runs[0]}/report.html\n"
    assert "<h1>first</h1>" in (tmp_path / "first" / "report.html").read_text(encoding="utf-8")
    CliRunner().invoke(report, [runs[0], "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").is_file()


def test_two_runs_get_the_page_of_their_comparison_by_either_command(runs, tmp_path):
    for command, option, name in ((report, "--out", "a.html"), (compare, "--html", "b.html")):
        result = CliRunner().invoke(command, [*runs, option, str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        assert f"The page is {tmp_path / name}" in result.output
    pages = [(tmp_path / name).read_text(encoding="utf-8") for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]
    assert "second compared with first" in pages[0]


def test_a_page_that_cannot_be_written_is_an_error(runs, tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(report, [runs[0], "--out", str(tmp_path / "file" / "page.html")])
    assert isinstance(result.exception, HilumError)
    assert "it cannot be written" in str(result.exception)


def test_the_audit_is_printed_and_an_unknown_column_is_refused(runs):
    result = CliRunner().invoke(audit, [runs[0], "--columns", "sex"])
    assert result.exit_code == 0, result.output
    assert "first, validation, epoch 1: 40 images of 20 patients" in result.output
    refused = CliRunner().invoke(audit, [runs[0], "--columns", "sexx"])
    assert isinstance(refused.exception, HilumError)
    assert "Did you mean 'sex'" in str(refused.exception)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A finished run of one epoch with two targets, of which one has no positive in val."""
    record = {
        "settings": RunConfig(num_epochs=1, source="nih", root="x").as_record(),
        "targets": ["Edema", "Hernia"],
        "split": {
            "parts": {"train": {"images": 8, "patients": 4}, "val": {"images": 2, "patients": 1}},
            "imbalance": [{"feature": "Age_60_80", "part": "val", "train_share": 0.25, "part_share": 0.5}],
        },
        "epochs_done": 1,
        "best_epoch": 1,
        "digest": "0123456789abcdef" * 4,
        "status": "finished",
    }
    folder = RunFolder.create(tmp_path / "runs", "first", "", record)
    counts = {"positives": 1, "negatives": 1, "predicted_positives": 2, "true_positives": 1, "threshold": 0.5}
    good = {"recall": 1.0, "precision": 0.5, "f1": 0.667, "roc_auc": 0.875, "avg_precision": 0.75}
    none = dict.fromkeys(good, float("nan"))
    rows = [
        {"epoch": 1, "part": part, "target": target} | counts | (none if target == "Hernia" else good)
        for part in ("train", "val")
        for target in ("Edema", "Hernia")
    ]
    combined = {
        "loss": 0.6,
        "accuracy": 0.5,
        "hamming_loss": 0.25,
        "recall": 1.0,
        "precision": 0.5,
        "f1": 0.6,
    }
    folder.write_epoch(
        1,
        pd.DataFrame({"part": ["val"], "ImageID": [1]}),
        pd.DataFrame(rows),
        pd.DataFrame([{"epoch": 1, "part": part} | combined for part in ("train", "val")]),
    )
    return folder


def test_runs_are_listed_with_the_means_over_the_targets_that_have_scores(hilum, run):
    result = hilum("runs", run.path.parent)
    assert result.code == 0
    heading, line = result.out.splitlines()
    assert heading.split()[:2] == ["run", "status"]
    assert line.split() == ["first", "finished", "1/1", "1", "1.000", "0.875", "0.500", "0123456789ab"]


def test_a_run_without_an_epoch_is_listed(hilum, tmp_path):
    RunFolder.create(tmp_path, "new", "", {"settings": RunConfig().as_record(), "targets": ["Edema"]})
    (line,) = hilum("runs", tmp_path).out.splitlines()[1:]
    assert line.split() == ["new", "running", "0/4", "–", "n/a", "n/a", "n/a", "–"]


def test_a_run_is_shown_with_settings_parts_and_scores(hilum, run):
    result = hilum("show", run.path)
    assert (result.code, result.err) == (0, "")
    text = " ".join(result.out.split())
    assert "train: 8 images of 4 patients val: 2 images of 1 patients" in text
    assert "not balanced: Age_60_80 is 25.0% of train, 50.0% of val" in text
    for name in setting_fields():
        assert f"\n{name} " in result.out
    hernia = [line.split() for line in result.out.splitlines() if line.startswith("Hernia ")]
    assert hernia == [["Hernia", "1", "2", "1", *["n/a"] * 5, "0.500"]] * 2
    assert str(run.path) in result.out


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("show", "none: this is not a run folder: run.json is missing."),
        ("runs", "none: there is no such folder."),
    ],
)
def test_a_missing_run_is_an_error(hilum, command, text):
    result = hilum(command, "none")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {text}")
