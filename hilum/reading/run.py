"""A run folder, opened for reading with PyTorch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hilum.reading.card import card_of
from hilum.reading.reader import Reader
from hilum.run_folder import RunFolder
from hilum.training.devices import choose_device
from hilum.training.trained import target_logits, trained_model


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
        """See `hilum.reading.reader.Network.logits`."""
        return self.model(torch.from_numpy(images).to(self.device)).cpu().numpy()


def network_of(folder: RunFolder, net: nn.Module | None = None) -> TargetLogits:
    """A run's model of its best epoch, on the CPU.

    Raises:
        HilumError: as `hilum.training.trained.trained_model`.
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
        from hilum.reading.heatmaps import Heatmaps

        return Heatmaps(network.model, card["targets"], card["preprocessing"].get("reference"))

    return Reader(card, network, explain)
