"""A model and its optimizer on disk, and back."""

import shutil
from collections.abc import Callable
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
    """A file of a checkpoint is missing, cut short or no such file."""


def save_checkpoint(folder: Path, net: nn.Module, state: dict[str, Any]) -> None:
    """Writes `model.safetensors` (the network's weights) and `state.pt` (the rest), both or neither.

    The former checkpoint becomes the folder `previous` beside it, in case the disk loses the new one.

    Args:
        folder: where to.
        net: its weights are those that the epoch was validated with.
        state: `epoch`, and what `TrainingLoop.state_dict` gives.
    """
    # Copies: safetensors refuses tensors that share memory, as the tied weights of a net of one's own do.
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in net.state_dict().items()
    }
    with replacing_folder(folder, keep_previous=folder.with_name("previous")) as partial:
        save_file(weights, partial / "model.safetensors")
        torch.save(state, partial / "state.pt")


def take_up_checkpoint(checkpoints: Path, net: nn.Module) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Loads the newest whole checkpoint of a run into a network.

    Args:
        checkpoints: the run's folder of them; `last` is taken, or `previous` if it is missing or damaged.
        net: gets the weights.

    Returns:
        The checkpoint's folder and its state (None and only epoch 0 if there is none, and nothing is
        loaded), and what was wrong with those that were passed over.

    Raises:
        HilumError: the weights are of another network, or every checkpoint is damaged.
    """
    passed_over: list[str] = []
    folders = [checkpoints / name for name in ("last", "previous") if (checkpoints / name).is_dir()]
    for folder in folders:
        try:
            state = load_state(folder)
            load_weights(folder, net)
        except DamagedCheckpointError as error:
            passed_over.append(str(error))
            continue
        return folder, state, passed_over
    if passed_over:
        raise HilumError(f"No checkpoint of the run can be used. {' '.join(passed_over)} Train it anew.")
    return None, {"epoch": 0}, []


def copy_checkpoint(source: Path, target: Path) -> None:
    """Makes `target` the checkpoint that `source` is now."""
    with replacing_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)


def load_weights(folder: Path, net: nn.Module) -> None:
    """Puts a checkpoint's weights into a network of the same architecture and targets.

    Raises:
        HilumError: the checkpoint is missing or damaged, or of another network.
    """
    path = whole_folder(folder) / "model.safetensors"
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise DamagedCheckpointError(
            f"{path}: the checkpoint is missing. A run has one once an epoch has ended."
        ) from None
    except Exception as error:  # safetensors has an exception type of its own, outside its public names
        raise DamagedCheckpointError(f"{path}: the checkpoint is damaged: {error}.") from None
    there = {name: tuple(value.shape) for name, value in weights.items()}
    here = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    differing = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    if differing:
        name = differing[0]
        raise HilumError(
            f"{path}: these weights are of another network or other targets: {len(differing)} of its tensors "
            f"differ, {name} for one: {there.get(name, 'absent')} in the file, {here.get(name, 'absent')} in "
            "the network."
        )
    net.load_state_dict(weights)


def load_state(folder: Path) -> dict[str, Any]:
    """A checkpoint's epoch, and the state of what trained it.

    Raises:
        HilumError: the file is missing or damaged.
    """
    path = whole_folder(folder) / "state.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DamagedCheckpointError(
            f"{path}: the checkpoint is missing. A run has one once an epoch has ended."
        ) from None
    except Exception as error:  # torch raises several kinds for a file that is cut short
        raise DamagedCheckpointError(f"{path}: the checkpoint is damaged: {error}.") from None


def trained_model(folder: RunFolder, net: nn.Module | None = None) -> nn.Module:
    """The network with the weights of the best epoch, in evaluation mode, on the CPU.

    Args:
        folder: of the run.
        net: the network, for a run that was trained with one of your own.

    Returns:
        uint8 images (B, 1, height, width) to raw outputs, which `target_logits` makes one per target.

    Raises:
        HilumError: no checkpoint, a network that is missing or too many, or one that does not fit.
    """
    record, settings = folder.record, folder.settings
    if (net is None) != (record.get("own_net") is None):
        raise HilumError(
            f"The run {record['name']} was trained with "
            + (
                f"a network of your own, {record['own_net']}: evaluate it from Python, with net=."
                if net is None
                else f"{settings['net_name']}: leave net= out."
            )
        )
    mean, sd = record["pixel_mean"], record["pixel_sd"]
    if net is not None:
        model = Normalized(net, mean, sd)
    else:
        outputs = len(folder.targets) + 2 * len(record.get("multiclass_targets", []))
        model = build_model(
            settings["net_name"],
            outputs,
            settings["net_kwargs"],
            mean=mean,
            sd=sd,
            seed=record["seed"],
            image_size=(settings["image_width"], settings["image_height"]),
            pretrained=False,
        )
    load_weights(folder.path / "checkpoints" / "best", model)
    return model.to(memory_format=torch.channels_last).eval()


def target_logits(folder: RunFolder) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes the network's outputs (B, outputs) one logit per target (B, targets)."""
    classed = np.isin(folder.targets, folder.record.get("multiclass_targets", []))
    if not classed.any():
        return lambda outputs: outputs
    return MultiClassLoss(torch.from_numpy(classed)).target_logits


class TargetLogits(nn.Module):
    """A trained model from pixels to one logit per target; multi-class outputs are resolved.

    Args:
        model: uint8 images (B, 1, height, width) to raw outputs (B, outputs).
        mixing: float32 (outputs, targets), multiplied with the outputs; None where they are the logits.
    """

    def __init__(self, model: nn.Module, mixing: torch.Tensor | None = None):
        super().__init__()
        self.model = model
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
        # Logits are differences of outputs, which are linear: the unit vectors' logits are the matrix.
        mixing = target_logits(folder)(torch.eye(len(folder.targets) + 2 * classed))
    return TargetLogits(trained_model(folder, net), mixing).eval()
