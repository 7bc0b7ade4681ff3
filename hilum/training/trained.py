"""The network of a run as its best epoch left it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.models import Normalized, build_model
from hilum.run_folder import RunFolder
from hilum.training.checkpoints import load_weights
from hilum.training.losses.multiclass import MultiClassLoss


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
