"""Checkpoints: saving, loading, and the trained model of a run."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hilum.errors import HilumError
from hilum.files import replacing_folder, whole_folder
from hilum.models import Normalized, build_model
from hilum.run_folder import RunFolder
from hilum.training.losses.multiclass import MultiClassLoss


class DamagedCheckpointError(HilumError):
    """A file of a checkpoint is missing, truncated or not a checkpoint."""


def save_checkpoint(folder: Path, net: nn.Module, state: dict[str, Any]) -> None:
    """Writes `model.safetensors` (the network's weights) and `state.pt` (everything else), both or neither.

    `net` has the weights that the epoch was validated with; `state` is `epoch` and `TrainingLoop.state_dict`. The
    old checkpoint becomes the folder `previous` next to it, in case the disk loses the new one.
    """
    # Copies: safetensors refuses tensors that share memory, such as tied weights.
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in net.state_dict().items()
    }
    with replacing_folder(folder, keep_previous=folder.with_name("previous")) as new:
        save_file(weights, new / "model.safetensors")
        torch.save(state, new / "state.pt")


def load_newest_checkpoint(
    checkpoints: Path, net: nn.Module
) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Loads the newest undamaged checkpoint of a run into a network: `last`, else `previous`.

    Returns:
        The checkpoint's folder, its state, and the messages about damaged checkpoints. If there is none, None,
        epoch 0 alone and no message.

    Raises:
        HilumError: the weights are of another network, or all checkpoints are damaged.
    """
    damaged: list[str] = []
    for name in ("last", "previous"):
        folder = checkpoints / name
        if not folder.is_dir():
            continue
        try:
            state = load_state(folder)
            load_weights(folder, net)
            return folder, state, damaged
        except DamagedCheckpointError as error:
            damaged.append(str(error))
    if damaged:
        raise HilumError(f"No checkpoint of the run can be used. {' '.join(damaged)} Train the run again.")
    return None, {"epoch": 0}, []


def copy_checkpoint(source: Path, target: Path) -> None:
    """Replaces the checkpoint `target` by a copy of `source`."""
    with replacing_folder(target) as new:
        shutil.copytree(source, new, dirs_exist_ok=True)


def load_weights(folder: Path, net: nn.Module) -> None:
    """Loads a checkpoint's weights into a network of the same architecture and targets.

    Raises:
        HilumError: the checkpoint is missing or damaged, or of another network.
    """
    path = whole_folder(folder) / "model.safetensors"
    weights = _read(path, load_file)
    in_file = {name: tuple(value.shape) for name, value in weights.items()}
    in_net = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    differing = [name for name in {**in_net, **in_file} if in_file.get(name) != in_net.get(name)]
    if differing:
        name = differing[0]
        raise HilumError(
            f"{path}: these weights are of another network or other targets: {len(differing)} of its tensors "
            f"differ, for example {name}: {in_file.get(name, 'absent')} in the file, {in_net.get(name, 'absent')} in "
            "the network."
        )
    net.load_state_dict(weights)


def load_state(folder: Path) -> dict[str, Any]:
    """A checkpoint's epoch, and the state of the loop that trained it.

    Raises:
        HilumError: the file is missing or damaged.
    """
    path = whole_folder(folder) / "state.pt"
    return _read(path, partial(torch.load, map_location="cpu", weights_only=True))


def _read(path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read(path)
    except FileNotFoundError:
        message = f"{path}: the checkpoint is missing. A run has one after its first epoch."
        raise DamagedCheckpointError(message) from None
    except Exception as error:  # safetensors and torch raise several types for a truncated file
        raise DamagedCheckpointError(f"{path}: the checkpoint is damaged: {error}.") from None


def trained_model(folder: RunFolder, net: nn.Module | None = None) -> nn.Module:
    """The network with the weights of the best epoch, in evaluation mode, on the CPU.

    It maps uint8 images (B, 1, height, width) to raw outputs; `target_logits` makes them one per target. `net` is the
    network before training, for a run that was trained with one of your own.

    Raises:
        HilumError: no checkpoint, a missing or superfluous network, or one that does not fit.
    """
    record, settings = folder.record, folder.settings
    own = record.get("own_net")
    if (net is None) != (own is None):
        model_text = f"a network of your own, {own}" if own else settings["net_name"]
        remedy = "evaluate it from Python, with net=" if own else "leave net= out"
        raise HilumError(f"The run {record['name']} was trained with {model_text}: {remedy}.")
    stats = {"mean": record["pixel_mean"], "sd": record["pixel_sd"]}
    if net is not None:
        model = Normalized(net, **stats)
    else:
        model = build_model(
            settings["net_name"],
            len(folder.targets) + 2 * len(record.get("multiclass_targets", [])),
            settings["net_kwargs"],
            **stats,
            seed=record["seed"],
            image_size=(settings["image_width"], settings["image_height"]),
            pretrained=False,
        )
    load_weights(folder.path / "checkpoints" / "best", model)
    return model.to(memory_format=torch.channels_last).eval()


def target_logits(folder: RunFolder) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from the network's outputs (B, outputs) to one logit per target (B, targets)."""
    classed = np.isin(folder.targets, folder.record.get("multiclass_targets", []))
    if not classed.any():
        return lambda outputs: outputs
    return MultiClassLoss(torch.from_numpy(classed)).target_logits


class TargetLogits(nn.Module):
    """A trained model from pixels to one logit per target: `trained_model`, then `mixing`.

    `mixing`, float32 (outputs, targets), is multiplied with the raw outputs; None if these are the logits.
    """

    def __init__(self, model: nn.Module, mixing: torch.Tensor | None = None):
        super().__init__()
        self.model = model
        self.mixing: torch.Tensor | None
        self.register_buffer("mixing", mixing)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 1, height, width) to float32 (B, targets)."""
        outputs = self.model(images).float()
        return outputs if self.mixing is None else outputs @ self.mixing


def trained_logits(folder: RunFolder, net: nn.Module | None = None) -> TargetLogits:
    """The trained model of a run with one logit per target, on the CPU; arguments as of `trained_model`."""
    mixing = None
    classed = len(folder.record.get("multiclass_targets", []))
    if classed:
        # Logits are differences of outputs, which are linear: the logits of the unit vectors are the matrix.
        mixing = target_logits(folder)(torch.eye(len(folder.targets) + 2 * classed))
    return TargetLogits(trained_model(folder, net), mixing).eval()
