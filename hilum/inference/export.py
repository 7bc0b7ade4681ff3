"""Export of a finished run as a bundle, which reads images without the training's code."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader
from safetensors.torch import save_file
from torch import nn

from hilum.errors import HilumError
from hilum.files import replacing_folder, sha256_of_file, write_json
from hilum.inference._metadata import image_paths, model_metadata
from hilum.inference.bundle import BUNDLE_FORMAT, MODEL_CARD, ONNX, RECORD, WEIGHTS, OnnxNetwork
from hilum.inference.quality_checks import resize_to_model
from hilum.randomness import generator
from hilum.report.audit import audit_run
from hilum.report.format import plain_name
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray
from hilum.training.checkpoints import TargetLogits, trained_logits

#: The largest difference allowed between PyTorch's and ONNX Runtime's probabilities.
TOLERANCE = 1e-4

#: Number of images for the comparison, in batches of two sizes.
_COMPARED = 16


def export_bundle(run: RunFolder | str | Path, out: str | Path, net: nn.Module | None = None) -> Path:
    """Writes a run's best epoch as a bundle, whole or not at all.

    PyTorch and ONNX Runtime get the same images of the run (noise if the images cannot be read), and the bundle is
    written only if they agree.

    Args:
        run: with a finished epoch.
        out: the bundle's folder; an older bundle there is replaced, other files are not.
        net: the network, for a run that was trained with one of your own.

    Returns:
        `out`.

    Raises:
        HilumError: a package is missing, `out` holds something else, the network cannot be exported, or the
            two disagree.
    """
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise HilumError(f"An export needs {', '.join(missing)}: pip install 'hilum[export]'.")
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    out = Path(out)
    if out.exists() and not (out / RECORD).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"{out}: this is not a bundle; nothing was changed. Choose another folder.")
    network = trained_logits(folder, net)
    metadata = model_metadata(folder)
    images, images_of = _images_to_compare(folder, metadata["preprocessing"])
    with replacing_folder(out) as partial:
        onnx_file, weights_file, contiguous = partial / ONNX, partial / WEIGHTS, torch.contiguous_format
        state = network.state_dict().items()
        weights = {name: value.detach().clone(memory_format=contiguous) for name, value in state}
        save_file(weights, weights_file)
        _write_onnx(network, onnx_file, images.shape[-2:])
        _describe_onnx(onnx_file, metadata)
        weights_file.chmod(onnx_file.stat().st_mode)  # safetensors gives access to the owner only
        agreement = compare(network, OnnxNetwork(onnx_file, "cpu"), images) | {"images_of": images_of}
        difference = agreement["largest_probability_difference"]
        if not difference <= TOLERANCE:
            raise HilumError(
                f"PyTorch and ONNX Runtime disagree by {difference:.2g} in a probability; "
                f"at most {TOLERANCE:g} is allowed. No bundle was written."
            )
        record: dict[str, Any] = {
            "bundle_format": BUNDLE_FORMAT,
            **metadata,
            "network": {
                "net_name": None if folder.record.get("own_net") else folder.settings["net_name"],
                "net_kwargs": folder.settings["net_kwargs"],
                "outputs": len(folder.targets) + 2 * len(folder.record.get("multiclass_targets", [])),
            },
            "agreement": agreement,
        }
        (partial / MODEL_CARD).write_text(model_card(record, _audit_warnings(folder)), encoding="utf-8")
        record["files"] = {name: sha256_of_file(partial / name) for name in (ONNX, WEIGHTS, MODEL_CARD)}
        write_json(partial / RECORD, record)
    return out


def _write_onnx(network: TargetLogits, path: Path, size: tuple[int, ...]) -> None:
    """The network with its normalization, for batches of any size."""
    example = torch.zeros(2, 1, *size, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter's own
            torch.onnx.export(
                network.to(memory_format=torch.contiguous_format),
                (example,),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
    except Exception as error:  # the exporter may raise anything for a network that it does not know
        reason = str(error).strip().partition("\n")[0]
        raise HilumError(f"The network cannot be written as ONNX: {type(error).__name__}: {reason}") from None


def _describe_onnx(path: Path, metadata: dict[str, Any]) -> None:
    """Adds metadata to the ONNX file, for copies without the rest of the bundle.

    The exporter's notes on each node are removed: they contain the paths of this machine.
    """
    import onnx

    model = onnx.load(path)
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        node.ClearField("metadata_props")
    model.doc_string = metadata["research_use"]
    properties = {each.key: each.value for each in model.metadata_props}
    properties |= {name: str(metadata[name]) for name in ("research_use", "name", "digest")}
    onnx.helper.set_model_props(model, properties | {"targets": json.dumps(metadata["targets"])})
    onnx.save(model, path)


def compare(network: nn.Module, onnx: OnnxNetwork, images: np.ndarray) -> dict[str, Any]:
    """`images`, `largest_logit_difference` and `largest_probability_difference` of PyTorch and ONNX Runtime.

    The images, uint8 (N, 1, height, width), are given in batches of 1 and of up to 32.
    """
    logits = probabilities = 0.0
    for batch in (images[:1], *(images[start : start + 32] for start in range(1, len(images), 32))):
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch)).double()
        found = torch.from_numpy(onnx.logits(batch)).double()
        logits = max(logits, float((expected - found).abs().max()))
        probabilities = max(probabilities, float((expected.sigmoid() - found.sigmoid()).abs().max()))
    return {
        "images": len(images),
        "largest_logit_difference": logits,
        "largest_probability_difference": probabilities,
    }


def _images_to_compare(folder: RunFolder, preprocessing: dict[str, Any]) -> tuple[np.ndarray, str]:
    """uint8 (N, 1, height, width), and "the run" or "noise"."""
    root = folder.record["catalog"].get("image_root")
    try:
        table = folder.images()
        chosen = table.loc[table["part"] != "train", "Image_Path"].iloc[:_COMPARED]
        if root is None or not len(chosen):
            raise HilumError("no images")
        images = [resize_to_model(read_gray(path), preprocessing) for path in image_paths(chosen, root)]
        return np.stack(images)[:, None], "the run"
    except HilumError:
        shape = _COMPARED, 1, preprocessing["height"], preprocessing["width"]
        noise = generator(folder.record["seed"], "export").integers(0, 256, shape, dtype=np.uint8)
        return noise, "noise"


def _audit_warnings(folder: RunFolder) -> list[str]:
    """The shortcuts that the audit found; none for a run without a table of its images."""
    try:
        return list(audit_run(folder).conclusions)
    except HilumError:
        return []


def model_card(record: dict[str, Any], warnings: Sequence[str] = ()) -> str:
    """The text of a bundle's README.md, from its record and the conclusions of the audit."""
    templates = PackageLoader("hilum", "inference")
    environment = Environment(loader=templates, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain_name, "with_interval": _with_interval}
    template = environment.get_template("model_card.md.jinja")
    about, pixels = record["provenance"], record["preprocessing"]
    return template.render(record, about=about, pixels=pixels, warnings=warnings)


def _with_interval(score: dict[str, Any], name: str) -> str:
    value, low, high = (score.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "n/a"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"
