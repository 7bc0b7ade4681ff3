"""A finished model, opened: it takes files and gives findings with reasons. Research use only.

A Reader is made from a run folder (PyTorch) or from a bundle (ONNX Runtime; nothing of the training is
imported). Both read alike: pixels are prepared as the run prepared them, thresholds are those it froze.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from hilum.errors import HilumError, nearest
from hilum.inference import DEFAULT_METHOD
from hilum.inference.image import Film, Limits, make_film
from hilum.inference.metadata import card_of
from hilum.inference.quality_checks import Flag
from hilum.run_folder import RunFolder
from hilum.training.checkpoints import target_logits, trained_model
from hilum.training.distributed import choose_device

__all__ = [
    "Film",
    "Finding",
    "Flag",
    "Limits",
    "Reader",
    "Reading",
    "Study",
    "study_readings",
]

if TYPE_CHECKING:
    from hilum.inference.heatmaps import OcclusionCheck

#: A float32 probability is 0 or 1 where the logit left its range; this is the distance it is taken to have.
_LEAST = 2.0**-26

#: It says that nothing is there, so it cannot be missed: it stands last whatever its probability.
_NO_FINDING = "No_Finding"


@dataclass(frozen=True)
class Finding:
    """What the model gives one target.

    Attributes:
        target: its name.
        probability: 0..1, as the model gives it; the threshold is for this one.
        threshold: of the run's frozen operating point.
        recall: of that operating point on the run's validation part, with `recall_low` and `recall_high`, its
            95 % interval; None where unknown.
        recall_low: see there.
        recall_high: see there.
        suggested: whether the probability reaches the threshold.
        calibrated: the probability after the run's calibration; None for a run without.
        priority: log odds of the probability minus those of the threshold: above 0 is suggested, and 0.69 more
            doubles the odds. Findings are ordered by it; see `order_findings`.
    """

    target: str
    probability: float
    threshold: float
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    suggested: bool
    calibrated: float | None
    priority: float

    @property
    def threshold_measured(self) -> bool:
        """Whether validation had positives to measure the threshold by; else it is the one given by hand, or 0.5."""
        return self.recall is not None


@dataclass(frozen=True)
class Reading:
    """One film, read.

    Attributes:
        film: the image, with its flags.
        findings: one per target in `order_findings`' order; none if the film is refused.
        seconds: of the model for this film: its batch's time divided among its films; 0 if refused.
    """

    film: Film
    findings: tuple[Finding, ...]
    seconds: float


@dataclass(frozen=True)
class Study:
    """Several images of one patient as one.

    Attributes:
        films: how many were read.
        refused: how many were not.
        findings: as of a Reading, of the mean probability of the films that were read.
    """

    films: int
    refused: int
    findings: tuple[Finding, ...]


class Network(Protocol):
    """What gives logits: PyTorch or ONNX Runtime."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, 1, height, width) to float32 (B, targets)."""
        ...


class Reader:
    """A model with all that is needed to read films. Made by `open_reader`; several threads may share it.

    Args:
        card: what is known of the model, JSON values; see `hilum.inference.metadata`.
        network: gives the logits.
        explain: prepared pixels, the target's place and a method to a heatmap; made when first used.
    """

    def __init__(
        self,
        card: dict[str, Any],
        network: Network,
        explain: Callable[[], Callable[[np.ndarray, int, str], np.ndarray]],
    ):
        self.card = card
        self.targets: tuple[str, ...] = tuple(card["targets"])
        self._network = network
        self._make_explain, self._explain = explain, None
        self._one_at_a_time = threading.Lock()  # Captum hangs hooks into the network

    def film(self, data: bytes, name: str, limits: Limits | None = None) -> Film:
        """Decodes, checks and prepares one image in memory.

        Args:
            data: the file's content: PNG (8 or 16 bits), JPEG, or a DICOM with one gray frame.
            name: what the user called it; messages name it.
            limits: what the file may ask for; the defaults if left out.

        Raises:
            ImageError: it cannot be decoded or asks for too much; `code` is "unreadable", "unsupported",
                "multi-frame" or "too-large".
        """
        return make_film(data, name, self.card["preprocessing"], limits or Limits())

    def read(self, films: Sequence[Film]) -> list[Reading]:
        """The findings of films, in their order; the model runs once, over all that are not refused."""
        scored = [film for film in films if not film.refused]
        began = time.perf_counter()
        probabilities = iter(self.probabilities(scored) if scored else ())
        each = (time.perf_counter() - began) / max(len(scored), 1)
        return [
            Reading(film, (), 0.0)
            if film.refused
            else Reading(film, findings_of(self.card, next(probabilities)), each)
            for film in films
        ]

    def probabilities(self, films: Sequence[Film]) -> np.ndarray:
        """What the model gives, refused or not: float32 (films, targets)."""
        logits = self._network.logits(np.stack([film.prepared for film in films])[:, None])
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)

    def heatmap(self, film: Film, target: str, method: str = DEFAULT_METHOD) -> np.ndarray:
        """Where in the film the model saw the finding.

        Args:
            film: refused or not.
            target: by name.
            method: one of `hilum.inference.HEATMAP_METHODS`.

        Returns:
            float32 (height, width) at the model's input size, 0 to 1.

        Raises:
            HilumError: no such target or method, or torch and Captum are not installed.
        """
        if target not in self.targets:
            raise HilumError(
                f"There is no target {target!r}.{nearest(target, self.targets)} "
                f"The model has {', '.join(self.targets)}."
            )
        explain = self.explainer()
        with self._one_at_a_time:
            return explain(film.prepared, self.targets.index(target), method)

    def occlusion_check(self, film: Film, target: str, heat: np.ndarray) -> "OcclusionCheck":
        """Whether hiding the hottest place of a heatmap lowers the finding's probability.

        Args:
            film: read.
            target: the finding.
            heat: what `heatmap` gave for both.

        Raises:
            HilumError: as `heatmap`.
        """
        explain = self.explainer()
        with self._one_at_a_time:
            return explain.occlusion_check(film.prepared, self.targets.index(target), heat)

    def explainer(self) -> Callable[[np.ndarray, int, str], np.ndarray]:
        """What makes the heatmaps: prepared pixels, the target's place and a method to a heatmap.

        Raises:
            HilumError: torch or Captum is not installed.
        """
        with self._one_at_a_time:
            if self._explain is None:
                self._explain = self._make_explain()
            return self._explain


def findings_of(card: dict[str, Any], probabilities: np.ndarray) -> tuple[Finding, ...]:
    """One film's findings, ordered.

    Args:
        card: of the model.
        probabilities: float32 (targets,).
    """
    calibration = card.get("calibration")
    found = []
    for target, probability in zip(card["targets"], probabilities, strict=True):
        point = card["thresholds"][target]
        calibrated = None
        if calibration:
            fit = calibration["targets"][target]
            calibrated = float(_expit(fit["slope"] * _log_odds(probability) + fit["intercept"]))
        found.append(
            Finding(
                target=target,
                probability=float(probability),
                threshold=point["threshold"],
                recall=point.get("recall"),
                recall_low=point.get("recall_low"),
                recall_high=point.get("recall_high"),
                # In float32, as the run's own scores are counted.
                suggested=bool(np.float32(probability) >= np.float32(point["threshold"])),
                calibrated=calibrated,
                priority=float(_log_odds(probability) - _log_odds(point["threshold"])),
            )
        )
    return order_findings(found)


def order_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Recall-first: what is suggested stands first, then what came nearest to it.

    Among both, the finding whose odds exceed its own threshold's odds by the largest factor is first, so that
    rare and common findings, whose thresholds differ, can be compared. `No_Finding` is always last.
    """
    return tuple(
        sorted(
            findings,
            key=lambda finding: (finding.target == _NO_FINDING, not finding.suggested, -finding.priority),
        )
    )


def study_readings(readings: Sequence[Reading]) -> Study:
    """The images of one study as one: the mean of their probabilities, as `hilum.metrics.study_level` takes it.

    Calibrated probabilities are averaged as well. Images that were refused do not count.
    """
    read = [reading for reading in readings if reading.findings]
    by_target: dict[str, list[Finding]] = {}
    for reading in read:
        for finding in reading.findings:
            by_target.setdefault(finding.target, []).append(finding)
    together = []
    for target, findings in by_target.items():
        first = findings[0]
        probability = np.float32(np.mean([finding.probability for finding in findings]))
        calibrated = None
        if first.calibrated is not None:
            calibrated = float(np.mean([finding.calibrated for finding in findings]))
        together.append(
            Finding(
                target=target,
                probability=float(probability),
                threshold=first.threshold,
                recall=first.recall,
                recall_low=first.recall_low,
                recall_high=first.recall_high,
                suggested=bool(probability >= np.float32(first.threshold)),
                calibrated=calibrated,
                priority=float(_log_odds(probability) - _log_odds(first.threshold)),
            )
        )
    return Study(len(read), len(readings) - len(read), order_findings(together))


def _log_odds(probability: float) -> float:
    clipped = np.clip(np.float64(probability), _LEAST, 1 - _LEAST)
    return np.log(clipped) - np.log1p(-clipped)


def _expit(value: float) -> float:
    return 1 / (1 + np.exp(-value))


class TargetLogits(nn.Module):
    """A trained model from pixels to one logit per target, targets with classes resolved.

    Args:
        model: uint8 images (B, 1, height, width) to raw outputs (B, outputs).
        mixing: float32 (outputs, targets) that makes logits of outputs; None where they are the logits.
    """

    def __init__(self, model: nn.Module, mixing: torch.Tensor | None = None):
        super().__init__()
        self.model = model
        self.register_buffer("mixing", mixing)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 1, height, width) to float32 (B, targets)."""
        outputs = self.model(images).float()
        return outputs if self.mixing is None else outputs @ self.mixing


class TorchNetwork:
    """The `Network` of a run.

    Args:
        model: in evaluation mode.
        device: to run on.
    """

    def __init__(self, model: TargetLogits, device: torch.device):
        self.model = model.to(device).eval()
        self.device = device

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """See `hilum.inference.reader.Network.logits`."""
        return self.model(torch.from_numpy(images).to(self.device)).cpu().numpy()


def network_of(folder: RunFolder, net: nn.Module | None = None) -> TargetLogits:
    """A run's model of its best epoch, on the CPU.

    Raises:
        HilumError: as `hilum.training.checkpoints.trained_model`.
    """
    return TargetLogits(trained_model(folder, net), mixing_of(folder)).eval()


def mixing_of(folder: RunFolder) -> torch.Tensor | None:
    """How the logits of the targets come from the network's outputs; see `TargetLogits`."""
    classed = len(folder.record.get("multiclass_targets", []))
    if not classed:
        return None
    # Differences of outputs are linear: what they make of the unit vectors says all of it.
    return target_logits(folder)(torch.eye(len(folder.targets) + 2 * classed))


def open_run(path: str | Path, device: str = "auto", net: nn.Module | None = None) -> Reader:
    """Opens a run folder.

    Args:
        path: of the run.
        device: auto, cpu, cuda or cuda:N.
        net: the network, for a run that was trained with one of your own.

    Raises:
        HilumError: no run, no finished epoch, no such device.
    """
    folder = RunFolder(path)
    chosen = choose_device(device)
    network = TorchNetwork(network_of(folder, net), chosen)

    card = card_of(folder)

    def explain() -> Callable[[np.ndarray, int, str], np.ndarray]:
        from hilum.inference.heatmaps import Heatmaps

        return Heatmaps(network.model, card["targets"], card["preprocessing"].get("reference"))

    return Reader(card, network, explain)
