"""Tests of the point-by-point table: each place and each test in it exists, and its numbers are right."""

import ast
import importlib
import re
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from hilum import CleanMetaData, RunConfig
from hilum.config import setting_fields

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "founding-document.md"


def rows() -> list[tuple[str, list[str], list[str], str]]:
    """(point, places, tests, difference) of each row."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith(("| the document", "| ---")):
            continue
        point, here, tests, difference = re.split(r"(?<!\\) \| ", line.strip("| "))
        found.append((point, re.findall("`([^`]+)`", here), re.findall("`([^`]+)`", tests), difference))
    return found


@cache
def functions_of(path: str) -> set[str]:
    file = ROOT / "tests" / path
    if not file.is_file():
        return set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def exists(place: str) -> bool:
    """Whether a file, a module or a `module:name` exists."""
    if not place.startswith("hilum"):
        return (ROOT / place).exists()
    module, _, names = place.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError:
        return False
    for name in filter(None, names.split(".")):
        if found is RunConfig and name in setting_fields():
            continue
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def test_every_row_is_complete():
    assert len(rows()) > 200
    for point, places, tests, difference in rows():
        assert places, f"no place: {point}"
        assert tests, f"no test: {point}"
        assert difference, f"no difference: {point}"


def test_every_place_exists():
    missing = sorted({place for _, places, _, _ in rows() for place in places if not exists(place)})
    assert not missing


def test_every_test_exists():
    named = {test for _, _, tests, _ in rows() for test in tests}
    missing = sorted(
        test for test in named if test.partition("::")[2] not in functions_of(test.partition("::")[0])
    )
    assert not missing


def test_no_row_is_open():
    text = PAGE.read_text(encoding="utf-8").lower()
    for phrase in ("not done", "todo:", "not yet", "to be done", "planned", "not implemented"):
        assert phrase not in text


@pytest.mark.parametrize(
    "name",
    [
        "CleanMetaData", "getCleanDF", "target_columns", "displayImage", "Hierarchical_Path", "observation_min_count",
        "augPercent", "pixel_mean", "pixel_sd", "processBatch", "parseLoaderData", "backProp", "epoch_loss",
        "appendEpochBatchData", "closeEpoch", "getPredictionsFromOutput", "getPredictionDataFrame",
        "getProbilityDataFrame", "val_prediction_hx", "df_val_probability", "target_thresholds", "displayMetrics",
        "showCombinedMetrics", "showMetricDataFrame", "showROCCurves", "showPrecisionRecallCurves", "include_targets",
        "combinedAverageMethod", "gridSpecColumnCount", "gridSpecHeight", "gridSpecWidth", "displayEpochProgression",
        "showResultDataFrames", "use_positivity_weights", "affineDegrees", "translatePrecent", "shearDegrees",
        "brightnessJitter", "contrastJitter", "l2_reg", "loss_reduction", "save_path", "net_name", "net_kwargs",
        "number_images", "epoch_args", "ModelLoop", "CustomPneumonia", "DenseNet", "ResNet_GrayScale",
        "drop_out_precent", "repeat_interleave", "Hamming", "802", "25,805", "SMOTE", "displayRunParameters",
        "loadMetrics", "pos_weight", "Persistence", "Combinations tried", "Educational", "Kaggle", "Colab",
    ],
)  # fmt: skip
def test_every_name_of_the_document_has_a_row(name):
    assert any(name in point for point, *_ in rows())


def test_defaults_equal_those_of_the_document():
    """The document gives defaults for these settings only."""
    expected = {
        "epoch_args": "standard",
        "use_positivity_weights": False,
        "image_width": 320,
        "image_height": 320,
        "affine_degrees": 5,
        "translate_fraction": 0.05,
        "shear_degrees": 5,
        "brightness_jitter": 0.2,
        "contrast_jitter": 0.1,
        "aug_fraction": 0.2,
        "observation_min_count": None,
        "l2_reg": 0,
        "loss_reduction": "mean",
        "target_columns": None,
        "target_thresholds": None,
        "number_images": 0,
        "loss": "bce",
        "optimizer": "adam",
    }
    config = RunConfig()
    assert {name: getattr(config, name) for name in expected} == expected
    assert {
        "batch_size",
        "learning_rate",
        "num_epochs",
        "device",
        "save_path",
        "net_name",
        "net_kwargs",
    } <= set(setting_fields())


def test_counts_of_the_index_that_differ_from_the_document(chexpert_index):
    raw = pd.read_csv(chexpert_index, usecols=["Path"])["Path"].str.extract(r"(patient\d+)/study(\d+)/")
    assert len(raw) == 223_414
    assert raw[0].nunique() == 64_540
    assert raw.groupby(0)[1].nunique().max() == 91

    table = CleanMetaData(csv_path=chexpert_index, cache=False).get_clean_df()
    targets = table.iloc[:, -12:]
    assert table.iloc[:, -12:-1].columns[-1] == "Pleural_Other", (
        "the document's histogram leaves Fracture out"
    )
    assert not table.iloc[:, -12:-1].sum(axis=1).equals(targets.sum(axis=1))
    assert round(targets["Lung_Opacity"].mean(), 2) == 0.45
    assert (targets.mean() < 0.16).sum() == 9
    assert (targets.sum(axis=1) == 0).sum() == 25_805


def test_no_image_of_a_data_set_is_in_the_repository():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is not a git checkout")
    images = [
        name for name in done.stdout.split() if name.endswith((".jpg", ".jpeg", ".png", ".dcm", ".npy"))
    ]
    assert all(name.startswith("docs/images/") for name in images)
    weights = (".pt", ".pth", ".safetensors", ".onnx", ".ipynb", ".pkl")
    # The weights of the fixtures are those of tiny networks trained on phantom radiographs.
    assert not [
        name
        for name in done.stdout.split()
        if name.endswith(weights) and not name.startswith("tests/fixtures/")
    ]
