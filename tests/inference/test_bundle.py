"""Tests of hilum.inference.bundle and hilum.inference.export."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hilum.errors import HilumError
from hilum.inference import RESEARCH_USE
from hilum.inference.bundle import open_bundle
from hilum.inference.export import compare, export_bundle
from hilum.training.checkpoints import TargetLogits, trained_logits
from hilum.training.losses.multiclass import MultiClassLoss

_ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
sys.argv = ["hilum", "predict", {bundle!r}, {image!r}, "--json", "-"]
from hilum.cli import main
main()
"""
#: Packages that training needs and a bundle does not: all but those that docs/how-to/serve.md lists.
_BLOCKED = (
    *("torch", "torchvision", "lightning", "lightning_fabric", "pandas", "pyarrow", "sklearn", "scipy"),
    *("matplotlib", "pydantic", "jinja2", "safetensors", "captum", "rich", "filelock", "platformdirs"),
    *("onnx", "onnxscript"),
)


def test_a_bundle_reads_without_anything_of_the_training(bundle, frontal, as_dicom, gray, tmp_path):
    (tmp_path / "image.dcm").write_bytes(as_dicom(gray))
    for image in (frontal, tmp_path / "image.dcm"):
        script = _ALONE.format(blocked=_BLOCKED, bundle=str(bundle), image=str(image))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["images"][0]["status"] == "read"
        assert len(found["images"][0]["findings"]) == 12
    assert "Research use only" in found["model"]["research_use"]


def test_heatmaps_without_torch_are_refused_at_the_beginning(bundle, frontal, tmp_path):
    script = _ALONE.format(blocked=_BLOCKED, bundle=str(bundle), image=str(frontal))
    script = script.replace('"--json", "-"', f'"--heatmaps", {str(tmp_path / "h")!r}')
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Heatmaps from a bundle need PyTorch" in done.stderr
    assert not (tmp_path / "h").exists()


def test_run_and_bundle_agree_in_batches_of_any_size(reader, bundle_reader, phantom):
    images = [
        reader.prepare(path.read_bytes(), path.name) for path in sorted(phantom.rglob("*_frontal.jpg"))[:7]
    ]
    for count in (1, 3, 7):
        wanted, found = reader.probabilities(images[:count]), bundle_reader.probabilities(images[:count])
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_run_and_bundle_agree_on_real_radiographs(reader, bundle_reader, nih_sample):
    paths = sorted((nih_sample / "images").iterdir())
    images = [reader.prepare(path.read_bytes(), path.name) for path in paths]
    np.testing.assert_allclose(bundle_reader.probabilities(images), reader.probabilities(images), atol=1e-4)


def test_a_bundle_is_complete_and_says_what_it_is(bundle, run):
    assert {file.name for file in bundle.iterdir()} == {
        *("bundle.json", "model.onnx", "model.safetensors", "README.md")
    }
    record = json.loads((bundle / "bundle.json").read_text())
    assert record["agreement"]["largest_probability_difference"] <= 1e-4
    assert record["agreement"]["images_of"] == "the run"
    assert record["thresholds"]["Edema"] == run.record["operating_points"]["Edema"]
    text = (bundle / "README.md").read_text()
    for words in (
        "Research use only",
        "Not for clinical use",
        "| Edema |",
        "## Limits",
        "## Audit",
        "phantom",
    ):
        assert words in text


def test_the_model_alone_says_what_it_is(bundle, run):
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta()
    assert about.custom_metadata_map["research_use"] == about.description == RESEARCH_USE
    assert about.custom_metadata_map["name"] == "tiny"
    assert about.custom_metadata_map["digest"] == run.record["digest"]
    assert json.loads(about.custom_metadata_map["targets"]) == list(run.targets)


def test_targets_with_classes_are_resolved():
    classed = torch.tensor([True, False, True])
    criterion = MultiClassLoss(classed)
    outputs = torch.randn(4, criterion.outputs, generator=torch.Generator().manual_seed(1))
    mixing = criterion.target_logits(torch.eye(criterion.outputs))
    found = TargetLogits(torch.nn.Identity(), mixing)(outputs)
    torch.testing.assert_close(found, criterion.target_logits(outputs))


def test_a_disagreement_is_found(run, bundle_reader):
    network = trained_logits(run)
    with torch.no_grad():
        next(iter(network.model.net.resnet.fc.parameters()))[0] += 1
    images = np.random.default_rng(1).integers(0, 256, (40, 1, 32, 32), dtype=np.uint8)
    assert compare(network, bundle_reader._network, images)["largest_logit_difference"] > 0.1


def test_nothing_else_is_replaced_and_nothing_half_written(run, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(HilumError, match="not a bundle; nothing was changed"):
        export_bundle(run, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    monkeypatch.setattr("hilum.inference.export.TOLERANCE", -1.0)
    monkeypatch.setattr(
        "hilum.inference.export._write_onnx",
        lambda network, path, size: shutil.copy(_ONNX[0], path),
    )
    with pytest.raises(HilumError, match=r"disagree by .* No bundle was written"):
        export_bundle(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


_ONNX: list[Path] = []


@pytest.fixture(autouse=True)
def exported_onnx(bundle):
    """The bundle's ONNX file, for an export that need not take its time."""
    _ONNX[:] = [bundle / "model.onnx"]


def test_a_damaged_bundle_is_refused(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    with (copy / "model.onnx").open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(HilumError, match=r"model\.onnx: the file is not the one that was exported"):
        open_bundle(copy)
    (copy / "bundle.json").write_text("{}")
    with pytest.raises(HilumError, match="it lacks bundle_format, targets"):
        open_bundle(copy)
    with pytest.raises(HilumError, match="device: 'gpu' is not a device"):
        open_bundle(bundle, "gpu")
