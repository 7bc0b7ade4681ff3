"""A finished run → a bundle that reads without the training's code."""

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
from safetensors.torch import save_file
from torch import nn

from hilum.data.resize import resize
from hilum.errors import HilumError
from hilum.files import replacing_folder, sha256_of_file, write_json
from hilum.inference.bundle import BUNDLE_FORMAT, MODEL_CARD, ONNX, RECORD, WEIGHTS, OnnxNetwork
from hilum.inference.metadata import image_paths, model_metadata
from hilum.randomness import generator
from hilum.run_folder import RunFolder
from hilum.sources.images import read_gray
from hilum.training.checkpoints import TargetLogits, trained_logits

#: The largest difference between PyTorch's and ONNX Runtime's probabilities that is let through.
TOLERANCE = 1e-4

#: So many images are given to both, in batches of two sizes.
_COMPARED = 16


def export_bundle(run: RunFolder | str | Path, out: str | Path, net: nn.Module | None = None) -> Path:
    """Writes a run's best epoch as a bundle, whole or not at all.

    PyTorch and ONNX Runtime are given the same images of the run (drawn noise if the images are out of reach),
    and the bundle is written only if they agree.

    Args:
        run: with a finished epoch.
        out: the bundle's folder; a former bundle there is replaced, anything else is not.
        net: the network, for a run that was trained with one of your own.

    Returns:
        `out`.

    Raises:
        HilumError: a package is missing, `out` holds something else, the network cannot be exported, or the
            two disagree.
    """
    lacking = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if lacking:
        raise HilumError(f"An export needs {', '.join(lacking)}: pip install 'hilum[export]'.")
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    out = Path(out)
    if out.exists() and not (out / RECORD).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise HilumError(f"{out}: this is not a bundle; nothing was changed. Choose another folder.")
    network = trained_logits(folder, net)
    metadata = model_metadata(folder)
    images, kind = _images_to_compare(folder, metadata["preprocessing"])
    with replacing_folder(out) as partial:
        save_file(
            {
                name: value.detach().clone(memory_format=torch.contiguous_format)
                for name, value in network.state_dict().items()
            },
            partial / WEIGHTS,
        )
        _write_onnx(network, partial / ONNX, images.shape[-2:])
        _describe_onnx(partial / ONNX, metadata)
        (partial / WEIGHTS).chmod((partial / ONNX).stat().st_mode)  # safetensors' own are for the owner alone
        agreement = compare(network, OnnxNetwork(partial / ONNX, "cpu"), images) | {"images_of": kind}
        if not agreement["largest_probability_difference"] <= TOLERANCE:
            raise HilumError(
                f"PyTorch and ONNX Runtime disagree by {agreement['largest_probability_difference']:.2g} in a "
                f"probability; at most {TOLERANCE:g} is let through. No bundle was written."
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
        (partial / MODEL_CARD).write_text(model_card(record, audit_warnings(folder)), encoding="utf-8")
        record["files"] = {name: sha256_of_file(partial / name) for name in (ONNX, WEIGHTS, MODEL_CARD)}
        write_json(partial / RECORD, record)
    return out


def _write_onnx(network: TargetLogits, path: Path, size: tuple[int, int]) -> None:
    """The network with its normalization; the batch may be of any size."""
    example = torch.zeros(2, 1, *size, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the exporter's own making
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
    except Exception as error:  # whatever the exporter meets in a network that it does not know
        reason = str(error).strip().partition("\n")[0]
        raise HilumError(f"The network cannot be written as ONNX: {type(error).__name__}: {reason}") from None


def _describe_onnx(path: Path, metadata: dict[str, Any]) -> None:
    """Writes into the model what must be known of it where it is copied out of its bundle."""
    import onnx

    model = onnx.load(path)
    model.doc_string = metadata["research_use"]
    known = {
        "research_use": metadata["research_use"],
        "name": str(metadata["name"]),
        "targets": json.dumps(metadata["targets"]),
        "digest": str(metadata["digest"]),
    }
    onnx.helper.set_model_props(model, {each.key: each.value for each in model.metadata_props} | known)
    onnx.save(model, path)


def compare(network: nn.Module, onnx: OnnxNetwork, images: np.ndarray) -> dict[str, Any]:
    """How far apart PyTorch and ONNX Runtime are.

    Args:
        network: as exported, on the CPU.
        onnx: the export.
        images: uint8 (N, 1, height, width); given in batches of 1 and of more.

    Returns:
        `images`, `largest_logit_difference` and `largest_probability_difference`.
    """
    logits, probabilities = 0.0, 0.0
    for batch in [images[:1], *np.split(images[1:], range(32, len(images) - 1, 32))]:
        if not len(batch):
            continue
        with torch.inference_mode():
            wanted = network(torch.from_numpy(batch)).double()
        found = torch.from_numpy(onnx.logits(batch)).double()
        logits = max(logits, float((wanted - found).abs().max()))
        probabilities = max(probabilities, float((wanted.sigmoid() - found.sigmoid()).abs().max()))
    return {
        "images": len(images),
        "largest_logit_difference": logits,
        "largest_probability_difference": probabilities,
    }


def _images_to_compare(folder: RunFolder, preprocessing: dict[str, Any]) -> tuple[np.ndarray, str]:
    """uint8 (N, 1, height, width), and whether they are the run's own or noise."""
    size = preprocessing["width"], preprocessing["height"]
    root = folder.record["catalog"].get("image_root")
    try:
        table = folder.images()
        chosen = table.loc[table["part"] != "train", "Image_Path"].iloc[:_COMPARED]
        if root is None or not len(chosen):
            raise HilumError("no images")
        pictures = [
            resize(read_gray(path), *size, preprocessing["fit"], preprocessing["interpolation"])
            for path in image_paths(chosen, root)
        ]
        return np.stack(pictures)[:, None], "the run"
    except HilumError:
        draw = generator(folder.record["seed"], "export")
        return draw.integers(0, 256, (_COMPARED, 1, *size[::-1]), dtype=np.uint8), "noise"


def audit_warnings(folder: RunFolder) -> list[str]:
    """What the audit says the model may lean on; nothing for a run that kept nothing about its images."""
    from hilum.report.audit import audit_run

    try:
        return list(audit_run(folder).conclusions)
    except HilumError:
        return []


def model_card(record: dict[str, Any], warnings: Sequence[str] = ()) -> str:
    """The text of a bundle's README.md.

    Args:
        record: of the bundle, without its files.
        warnings: what the audit concluded.
    """
    about, pixels = record["provenance"], record["preprocessing"]
    parts = about["split"]["parts"]
    sections = [
        f"# {record['name']}",
        f"**{record['research_use']}**",
        f"{about['net_name']} for {len(record['targets'])} findings in frontal chest radiographs, epoch "
        f"{about['epoch']} of the run `{about['run']}` (digest `{(record['digest'] or 'none')[:16]}`).",
        "## Intended use\n\nResearch on chest radiograph models: comparing, explaining and testing them. Not for "
        "clinical use: not for diagnosis, triage, treatment or any decision about a patient. It has not been "
        "tested for that, and what it does not suggest may be there all the same.",
        "## Input\n\n"
        f"- gray, 8 bits, {pixels['width']} x {pixels['height']} pixels (fit: {pixels['fit']}, interpolation: "
        f"{pixels['interpolation']}); normalization is part of the model (mean {pixels['pixel_mean']:.4f}, "
        f"deviation {pixels['pixel_sd']:.4f})\n"
        f"- views it was trained on: {_views(pixels['views'])}",
        "## Data\n\n"
        f"{about['data']['name']}, {about['data']['images']:,} images (fingerprint "
        f"`{about['data']['fingerprint'][:16]}`), split by {about['split']['unit']}:\n\n"
        + "\n".join(
            f"- {part}: {count['images']:,} images of {count['patients']:,} patients"
            for part, count in parts.items()
        ),
        "## Scores\n\nOn the validation part, at the frozen thresholds, which were chosen on the same images; 95 % "
        "intervals over patients.\n\n" + _scores(record),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(record)),
    ]
    if warnings:
        sections.append(
            "## Audit\n\nWhat the model may lean on:\n\n" + "\n".join(f"- {words}" for words in warnings)
        )
    agreement = record["agreement"]
    sections.append(
        "## Export\n\nPyTorch and ONNX Runtime differ by at most "
        f"{agreement['largest_probability_difference']:.1e} in a probability over {agreement['images']} images "
        f"({'of the run' if agreement['images_of'] == 'the run' else 'drawn noise'}). "
        f"Versions: {', '.join(f'{name} {value}' for name, value in (about['versions'] or {}).items() if value)}; "
        f"commit {about['git_commit'] or 'unknown'}."
    )
    return "\n\n".join(sections) + "\n"


def _views(views: dict[str, int] | None) -> str:
    if views is None:
        return "not recorded"
    return ", ".join(f"{name} {count:,}" for name, count in views.items())


def _scores(record: dict[str, Any]) -> str:
    rows = [
        "| finding | positives | threshold | recall | precision | specificity | ROC AUC |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for score in record["scores"]:
        cells = [
            score["target"].replace("_", " "),
            f"{score['positives']:,} of {score['positives'] + score['negatives']:,}",
            f"{record['thresholds'][score['target']]['threshold']:.3f}",
            *(_interval(score, name) for name in ("recall", "precision", "specificity", "roc_auc")),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _interval(score: dict[str, Any], name: str) -> str:
    value, low, high = (score.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "n/a"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"


def _limits(record: dict[str, Any]) -> list[str]:
    limits = [
        "Scores are of patients of the same data set; elsewhere they are likely to be lower.",
        "It knows the findings listed and no other. A film without a suggestion is not a normal film.",
    ]
    if not record["calibration"]:
        limits.append("Its probabilities are not calibrated: compare them with thresholds only.")
    if record["preprocessing"]["reference"] is None:
        limits.append(
            "Images unlike the training's cannot be told by their gray levels: "
            f"{record['preprocessing']['reference_lack']}."
        )
    for target, point in record["thresholds"].items():
        limits += [f"{target.replace('_', ' ')}: {note}." for note in point.get("notes", [])]
    return limits
