import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hilum.cli.results import audit, compare, report
from hilum.config import RunConfig
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


def test_runs_are_compared_in_words(two_runs):
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


def test_a_page_that_cannot_be_written_is_told(runs, tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(report, [runs[0], "--out", str(tmp_path / "file" / "page.html")])
    assert isinstance(result.exception, HilumError)
    assert "it cannot be written" in str(result.exception)


def test_the_audit_is_told_and_a_column_that_is_not_there_is_refused(runs):
    result = CliRunner().invoke(audit, [runs[0], "--columns", "sex"])
    assert result.exit_code == 0, result.output
    assert "first, validation, epoch 1: 40 images of 20 patients" in result.output
    refused = CliRunner().invoke(audit, [runs[0], "--columns", "sexx"])
    assert isinstance(refused.exception, HilumError)
    assert "Did you mean 'sex'" in str(refused.exception)
