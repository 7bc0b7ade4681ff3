"""A finished model, opened: images in, findings with reasons out. Research use only.

`open_reader` opens a run folder (PyTorch) or a bundle (ONNX Runtime; nothing of the training is imported). Both
prepare pixels as the run did and use the thresholds that it froze.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hilum.errors import HilumError, nearest
from hilum.inference import DEFAULT_METHOD
from hilum.inference.image import Limits, PreparedImage, prepare_image
from hilum.inference.quality_checks import Flag, about

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hilum.inference.heatmaps import Heatmaps

#: A float32 probability is 0 or 1 where the logit left its range; its log odds are taken at this distance.
_SMALLEST_DISTANCE = 2.0**-26

#: Absence cannot be overlooked: it is the last finding whatever its probability.
_NO_FINDING = "No_Finding"


@dataclass(frozen=True)
class Finding:
    """What the model gives one target, the same in the table, the CSV, the JSON and the service's answer."""

    finding: str = field(metadata=about("name of the target"))
    suggested: bool = field(metadata=about("whether the probability reaches the threshold"))
    probability: float = field(metadata=about("0 to 1; the threshold applies to it"))
    threshold: float = field(metadata=about("of the run's frozen operating point"))
    threshold_measured: bool = field(
        metadata=about("whether validation had positives to measure it; else it is 0.5 or manual")
    )
    calibrated: float | None = field(metadata=about("the probability after calibration, if the run has one"))
    priority: float = field(
        metadata=about("log odds above (or below) the threshold's; findings are ordered by it")
    )
    recall: float | None = field(metadata=about("of the operating point, on the validation part"))
    recall_low: float | None = field(metadata=about("lower end of its 95 % interval"))
    recall_high: float | None = field(metadata=about("upper end of its 95 % interval"))


@dataclass(frozen=True)
class ImageResult:
    """What the model gives one image, or why it gives nothing."""

    image: str = field(metadata=about("path or name, as given"))
    status: str = field(metadata=about("read; refused, by a quality check; or the code of the file's error"))
    reason: str | None = field(default=None, metadata=about("why it was not read"))
    view: str | None = field(default=None, metadata=about("PA, AP or lateral, if the file states it"))
    rows: int | None = field(default=None, metadata=about("of the decoded image"))
    columns: int | None = field(default=None, metadata=about("of the decoded image"))
    flags: tuple[Flag, ...] = field(default=(), metadata=about("the quality checks that it failed"))
    findings: tuple[Finding, ...] = field(
        default=(), metadata=about("suggested ones first, then by priority; none if it was not read")
    )
    seconds: float = field(default=0.0, metadata=about("of the model: its batch's time per image"))


@dataclass(frozen=True)
class StudyResult:
    """Several images of one patient as one: the mean of the probabilities of those that were read."""

    images: int = field(metadata=about("read"))
    refused: int = field(metadata=about("not read"))
    findings: tuple[Finding, ...] = field(metadata=about("as of one image"))


@dataclass(frozen=True)
class OcclusionCheck:
    """Whether the model needs what a heatmap shows: a square around its maximum is made gray.

    Each side of the square is a quarter of the image's.
    """

    probability: float = field(metadata=about("of the whole image"))
    hidden: float = field(metadata=about("with the square hidden"))
    lowers: bool = field(metadata=about("whether hiding it lowers the probability"))
    stronger_than: float = field(
        metadata=about("share of such squares all over the image that lower it less")
    )


class Network(Protocol):
    """A network that returns logits, by PyTorch or ONNX Runtime."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, 1, height, width) to float32 (B, targets)."""
        ...


class Reader:
    """A model with everything needed to read images. Made by `open_reader`; threads may share it.

    Args:
        metadata: about the model, JSON values; see `hilum.inference._metadata`.
        network: returns the logits.
        make_explainer: called before the first heatmap: it needs PyTorch and Captum.
    """

    def __init__(self, metadata: dict[str, Any], network: Network, make_explainer: Callable[[], "Heatmaps"]):
        self.metadata = metadata
        self.targets: tuple[str, ...] = tuple(metadata["targets"])
        self._network = network
        self._make_explainer = make_explainer
        self._explainer: Heatmaps | None = None
        self._lock = threading.Lock()  # Captum adds hooks to the network

    def prepare(self, data: bytes, name: str, limits: Limits | None = None) -> PreparedImage:
        """Decodes, checks and resizes one image in memory; see `hilum.inference.image.prepare_image`.

        Raises:
            ImageError: it cannot be decoded or exceeds a limit.
        """
        return prepare_image(data, name, self.metadata["preprocessing"], limits or Limits())

    def read(self, images: Sequence[PreparedImage]) -> list[ImageResult]:
        """The results of images, in their order; the model runs once, on all that are not refused."""
        accepted = [image for image in images if not image.refused]
        start = time.perf_counter()
        probabilities = iter(self.probabilities(accepted) if accepted else ())
        seconds = (time.perf_counter() - start) / max(len(accepted), 1)
        results = []
        for image in images:
            findings = () if image.refused else findings_of(self.metadata, next(probabilities))
            results.append(_result_of(image, findings, 0.0 if image.refused else seconds))
        return results

    def probabilities(self, images: Sequence[PreparedImage]) -> np.ndarray:
        """What the model gives images, refused or not: float32 (images, targets)."""
        logits = self._network.logits(np.stack([image.model_input for image in images])[:, None])
        with np.errstate(over="ignore"):
            return _expit(logits.astype(np.float64)).astype(np.float32)

    def heatmap(self, image: PreparedImage, target: str, method: str = DEFAULT_METHOD) -> np.ndarray:
        """Where in an image, refused or not, the model saw a finding; see `hilum.inference.heatmaps`.

        Returns:
            float32 (height, width) at the model's size, 0 to 1.

        Raises:
            HilumError: no such target or method, or torch or Captum is not installed.
        """
        if target not in self.targets:
            problem = f"There is no target {target!r}.{nearest(target, self.targets)}"
            raise HilumError(f"{problem} The model has {', '.join(self.targets)}.")
        explainer = self.explainer()
        with self._lock:
            return explainer(image.model_input, self.targets.index(target), method)

    def occlusion_check(self, image: PreparedImage, target: str, heatmap: np.ndarray) -> OcclusionCheck:
        """Whether hiding the maximum of a heatmap, of this image and target, lowers the probability."""
        explainer = self.explainer()
        with self._lock:
            return explainer.occlusion_check(image.model_input, self.targets.index(target), heatmap)

    def explainer(self) -> "Heatmaps":
        """What makes the heatmaps; HilumError if torch or Captum is not installed."""
        with self._lock:
            if self._explainer is None:
                self._explainer = self._make_explainer()
            return self._explainer


def _result_of(image: PreparedImage, findings: tuple[Finding, ...], seconds: float) -> ImageResult:
    reason = " ".join(flag.message for flag in image.flags if flag.refused) or None
    status, (rows, columns) = "refused" if image.refused else "read", image.pixels.shape
    return ImageResult(image.name, status, reason, image.view, rows, columns, image.flags, findings, seconds)


def findings_of(metadata: dict[str, Any], probabilities: np.ndarray) -> tuple[Finding, ...]:
    """The findings of one image, ordered; `probabilities` is float32 (targets,)."""
    calibration = metadata.get("calibration")
    findings = []
    for target, probability in zip(metadata["targets"], probabilities, strict=True):
        point, calibrated = metadata["thresholds"][target], None
        if calibration:
            fit = calibration["targets"][target]
            calibrated = float(_expit(fit["slope"] * _log_odds(probability) + fit["intercept"]))
        findings.append(
            Finding(
                finding=target,
                **_against_threshold(probability, point["threshold"]),
                threshold=point["threshold"],
                threshold_measured=point.get("recall") is not None,
                calibrated=calibrated,
                **{name: point.get(name) for name in ("recall", "recall_low", "recall_high")},
            )
        )
    return order_findings(findings)


def order_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Suggested findings first, then the others; within both, the highest priority first.

    Priority is the factor (as a log) by which a finding's odds exceed its own threshold's odds, so that rare and
    common findings, whose thresholds differ, can be compared. `No_Finding` is always last.
    """

    def key(finding: Finding) -> tuple[bool, bool, float]:
        return finding.finding == _NO_FINDING, not finding.suggested, -finding.priority

    return tuple(sorted(findings, key=key))


def study_result(results: Sequence[ImageResult]) -> StudyResult:
    """The images of one study as one: the mean of their probabilities, as in `Predictions.aggregate`.

    Calibrated probabilities are averaged as well. Images that were not read do not count.
    """
    read = [result for result in results if result.findings]
    means = []
    for first in read[0].findings if read else ():
        findings = [each for result in read for each in result.findings if each.finding == first.finding]
        probability = np.float32(np.mean([finding.probability for finding in findings]))
        calibrated = [finding.calibrated for finding in findings if finding.calibrated is not None]
        mean = float(np.mean(calibrated)) if calibrated else None
        means.append(replace(first, **_against_threshold(probability, first.threshold), calibrated=mean))
    return StudyResult(len(read), len(results) - len(read), order_findings(means))


def _against_threshold(probability: np.float32, threshold: float) -> dict[str, Any]:
    """The fields of a Finding that follow from its probability and its threshold."""
    return {
        "probability": float(probability),
        # In float32, as the run's own scores are counted.
        "suggested": bool(np.float32(probability) >= np.float32(threshold)),
        "priority": float(_log_odds(probability) - _log_odds(threshold)),
    }


def _log_odds(probability: float | np.floating) -> np.float64:
    clipped = np.clip(np.float64(probability), _SMALLEST_DISTANCE, 1 - _SMALLEST_DISTANCE)
    return np.log(clipped) - np.log1p(-clipped)


def _expit(values: Any) -> Any:
    # A bundle is read without SciPy.
    return 1 / (1 + np.exp(-values))


def open_reader(path: str | Path, device: str = "auto") -> Reader:
    """Opens a run folder or a bundle.

    Args:
        path: what `hilum train` or `hilum export` wrote.
        device: auto, cpu, cuda or cuda:N; a bundle's ONNX Runtime must support it.

    Raises:
        HilumError: it is neither, or damaged, or without a finished epoch, or a package or device is missing.
    """
    path = Path(path)
    if (path / "bundle.json").is_file():
        from hilum.inference.bundle import open_bundle

        return open_bundle(path, device)
    if not (path / "run.json").is_file():
        kinds = "neither a run folder (run.json is missing) nor a bundle (bundle.json is missing)"
        raise HilumError(f"{path}: this is {kinds}.")
    return open_run(path, device)


def open_run(path: str | Path, device: str = "auto", net: "nn.Module | None" = None) -> Reader:
    """As `open_reader`, for a run folder; `net` is the network of a run that was trained with one of your own."""
    from hilum.inference._metadata import model_metadata
    from hilum.run_folder import RunFolder
    from hilum.training.checkpoints import trained_logits
    from hilum.training.distributed import choose_device

    folder = RunFolder(path)
    chosen_device = choose_device(device)
    network = _TorchNetwork(trained_logits(folder, net), chosen_device)
    metadata = model_metadata(folder)

    def make_explainer() -> "Heatmaps":
        from hilum.inference.heatmaps import Heatmaps

        return Heatmaps(network.model, metadata["targets"], metadata["preprocessing"].get("reference"))

    return Reader(metadata, network, make_explainer)


class _TorchNetwork:
    """The `Network` of a run."""

    def __init__(self, model: "nn.Module", device: "torch.device"):
        self.model = model.to(device).eval()
        self._device = device

    def logits(self, images: np.ndarray) -> np.ndarray:
        """See `Network.logits`."""
        import torch

        with torch.inference_mode():
            return self.model(torch.from_numpy(images).to(self._device)).cpu().numpy()
