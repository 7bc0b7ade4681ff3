import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from hilum.cli.comparing import compare
from hilum.config import RunConfig
from hilum.errors import HilumError
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
    assert f"{tmp_path}: this is no run folder" in str(result.exception)


def test_too_few_samples_are_refused(two_runs):
    result = CliRunner().invoke(compare, [*two_runs, "--replicates", "5"])
    assert result.exit_code == 2
    assert "--replicates" in result.output
