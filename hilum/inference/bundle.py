"""A bundle: a model with everything needed to read images, run by ONNX Runtime without the training's code.

bundle.json        the metadata (see `hilum.inference._metadata`), `network`, `agreement`, and each file's SHA-256
model.onnx         uint8 images (batch, 1, height, width) → float32 logits (batch, targets)
model.safetensors  the same weights for PyTorch, which heatmaps need
README.md          the model card
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import HilumError
from hilum.files import sha256_of_file
from hilum.inference.reader import Reader

if TYPE_CHECKING:
    from hilum.inference.heatmaps import Heatmaps
    from hilum.training.checkpoints import TargetLogits

#: Of the layout above; a newer bundle is not opened.
BUNDLE_FORMAT = 1

RECORD, ONNX, WEIGHTS, MODEL_CARD = "bundle.json", "model.onnx", "model.safetensors", "README.md"

_REQUIRED = ("bundle_format", "targets", "thresholds", "preprocessing", "files", "network")


class OnnxNetwork:
    """The `Network` of a bundle, from its ONNX file; the device is auto, cpu, cuda or cuda:N.

    Raises:
        HilumError: ONNX Runtime is not installed or not for that device, or the file is not a model.
    """

    def __init__(self, path: Path, device: str = "auto"):
        try:
            import onnxruntime
        except ImportError:
            raise HilumError("Reading a bundle needs ONNX Runtime: pip install 'hilum[export]'.") from None
        providers = _providers(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its exceptions have no public base
            raise HilumError(f"{path}: ONNX Runtime cannot load it: {error}.") from None

    def logits(self, images: np.ndarray) -> np.ndarray:
        """See `hilum.inference.reader.Network.logits`."""
        return self._session.run(None, {"images": images})[0]


def _providers(device: str, available: list[str]) -> list[Any]:
    name, _, number = device.partition(":")
    if name not in ("auto", "cpu", "cuda") or (number and (name != "cuda" or not number.isdigit())):
        raise HilumError(f"device: {device!r} is not a device. Use auto, cpu, cuda or cuda:N.")
    cuda = "CUDAExecutionProvider"
    if name == "cuda" and cuda not in available:
        raise HilumError("device: this ONNX Runtime has no CUDA. Use cpu, or install onnxruntime-gpu.")
    if name == "cpu" or cuda not in available:
        return ["CPUExecutionProvider"]
    return [(cuda, {"device_id": int(number or 0)}), "CPUExecutionProvider"]


def read_record(path: Path) -> dict[str, Any]:
    """The content of `bundle.json`.

    Raises:
        HilumError: it is missing, damaged, or newer than this version.
    """
    file = path / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HilumError(f"{path}: this is not a bundle: {RECORD} is missing.") from None
    except (OSError, ValueError) as error:
        raise HilumError(f"{file}: the file is damaged: {error}.") from None
    missing = [name for name in _REQUIRED if not isinstance(record, dict) or name not in record]
    if missing:
        raise HilumError(f"{file}: this is not the record of a bundle: it lacks {', '.join(missing)}.")
    if record["bundle_format"] > BUNDLE_FORMAT:
        raise HilumError(f"{file}: the bundle was written by a newer Hilum. Update hilum to read it.")
    return record


def open_bundle(path: str | Path, device: str = "auto") -> Reader:
    """As `hilum.inference.reader.open_reader`, for a bundle."""
    path = Path(path)
    record = read_record(path)
    _check_file(path, ONNX, record)

    def make_explainer() -> "Heatmaps":
        try:
            import torch  # noqa: F401
        except ImportError:
            packages = "PyTorch and Captum: pip install torch torchvision captum"
            raise HilumError(f"Heatmaps from a bundle need {packages}.") from None
        from hilum.inference.heatmaps import Heatmaps

        _check_file(path, WEIGHTS, record)
        network = torch_network(path / WEIGHTS, record)
        return Heatmaps(network, record["targets"], record["preprocessing"].get("reference"))

    return Reader(record, OnnxNetwork(path / ONNX, device), make_explainer)


def _check_file(path: Path, name: str, record: dict[str, Any]) -> None:
    try:
        found = sha256_of_file(path / name)
    except OSError as error:
        raise HilumError(f"{path / name}: it cannot be read: {error.strerror}.") from None
    if found != record["files"].get(name):
        raise HilumError(f"{path / name}: the file is not the one that was exported. Export the run again.")


def torch_network(weights_file: Path, record: dict[str, Any]) -> "TargetLogits":
    """The network of a bundle in PyTorch, on the CPU, in evaluation mode.

    Raises:
        HilumError: the network was one of the user's own, or is unknown here.
    """
    from safetensors.torch import load_file

    from hilum.models import build_model
    from hilum.training.checkpoints import TargetLogits

    network, preprocessing = record["network"], record["preprocessing"]
    if network["net_name"] is None:
        raise HilumError(
            f"{weights_file.parent}: the run was trained with a network of your own; heatmaps need its code. "
            "Open the run from Python, with net=."
        )
    weights = load_file(weights_file)
    model = build_model(
        network["net_name"],
        network["outputs"],
        network["net_kwargs"],
        mean=preprocessing["pixel_mean"],
        sd=preprocessing["pixel_sd"],
        seed=0,
        image_size=(preprocessing["width"], preprocessing["height"]),
        pretrained=False,
    )
    logits = TargetLogits(model, weights.get("mixing"))
    logits.load_state_dict(weights)
    return logits.eval()
