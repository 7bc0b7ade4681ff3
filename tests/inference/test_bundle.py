"""Tests of hilum.inference.bundle."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.inference.bundle import open_bundle

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


def test_a_bundle_is_read_without_the_packages_of_training(bundle, frontal, as_dicom, gray, tmp_path):
    (tmp_path / "image.dcm").write_bytes(as_dicom(gray))
    for image in (frontal, tmp_path / "image.dcm"):
        script = _ALONE.format(blocked=_BLOCKED, bundle=str(bundle), image=str(image))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["images"][0]["status"] == "read"
        assert len(found["images"][0]["findings"]) == 12
    assert "Research use only" in found["model"]["research_use"]


def test_heatmaps_without_torch_are_an_error_before_reading(bundle, frontal, tmp_path):
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
        expected, found = reader.probabilities(images[:count]), bundle_reader.probabilities(images[:count])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_run_and_bundle_agree_on_real_radiographs(reader, bundle_reader, nih_sample):
    paths = sorted((nih_sample / "images").iterdir())
    images = [reader.prepare(path.read_bytes(), path.name) for path in paths]
    np.testing.assert_allclose(bundle_reader.probabilities(images), reader.probabilities(images), atol=1e-4)


def test_a_damaged_bundle_is_an_error(bundle, tmp_path):
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
