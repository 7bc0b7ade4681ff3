"""Tests of hilum.inference.export."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import hilum
from hilum.errors import HilumError
from hilum.inference import RESEARCH_USE
from hilum.inference.export import compare, export_bundle
from hilum.training.checkpoints import trained_logits


def test_a_bundle_is_complete_and_has_a_model_card(bundle, run):
    assert {file.name for file in bundle.iterdir()} == {
        *("bundle.json", "model.onnx", "model.safetensors", "README.md")
    }
    record = json.loads((bundle / "bundle.json").read_text())
    assert record["agreement"]["largest_probability_difference"] <= 1e-4
    assert record["agreement"]["images_of"] == "the run"
    assert record["thresholds"]["Edema"] == run.record["operating_points"]["Edema"]
    card = (bundle / "README.md").read_text()
    for text in (
        "Research use only",
        "Not for clinical use",
        "| Edema |",
        "## Limits",
        "## Audit",
        "phantom",
    ):
        assert text in card


def test_the_onnx_file_has_metadata(bundle, run):
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta()
    assert about.custom_metadata_map["research_use"] == about.description == RESEARCH_USE
    assert about.custom_metadata_map["name"] == "tiny"
    assert about.custom_metadata_map["digest"] == run.record["digest"]
    assert json.loads(about.custom_metadata_map["targets"]) == list(run.targets)


def test_the_onnx_file_has_no_path_of_the_machine_that_exported_it(bundle):
    content = (bundle / "model.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(hilum.__file__).parent).encode() not in content


def test_a_difference_is_found(run, bundle_reader):
    network = trained_logits(run)
    with torch.no_grad():
        next(iter(network.model.net.resnet.fc.parameters()))[0] += 1
    images = np.random.default_rng(1).integers(0, 256, (40, 1, 32, 32), dtype=np.uint8)
    assert compare(network, bundle_reader._network, images)["largest_logit_difference"] > 0.1


def test_other_files_are_not_replaced_and_no_partial_bundle_is_written(run, bundle, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("text")
    with pytest.raises(HilumError, match="not a bundle; nothing was changed"):
        export_bundle(run, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    monkeypatch.setattr("hilum.inference.export.TOLERANCE", -1.0)
    monkeypatch.setattr(
        "hilum.inference.export._write_onnx",
        lambda network, path, size: shutil.copy(bundle / "model.onnx", path),
    )
    with pytest.raises(HilumError, match=r"disagree by .* No bundle was written"):
        export_bundle(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()
