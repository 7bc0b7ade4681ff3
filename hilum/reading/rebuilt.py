"""A bundle's network in PyTorch again, for heatmaps."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hilum.errors import HilumError
from hilum.models import build_model
from hilum.reading.run import TargetLogits


def rebuilt_network(weights_file: Path, record: dict[str, Any]) -> TargetLogits:
    """The network of a bundle, on the CPU, in evaluation mode.

    Args:
        weights_file: of the bundle, safetensors.
        record: its `bundle.json`.

    Raises:
        HilumError: the network was one of the user's own, or is not known here.
    """
    about = record["network"]
    if about["net_name"] is None:
        raise HilumError(
            f"{weights_file.parent}: the bundle's network was one of the run's own making; heatmaps need its code. "
            "Open the run from Python, with net=."
        )
    weights = load_file(weights_file)
    mixing = weights.pop("mixing", None)
    model = build_model(
        about["net_name"],
        about["outputs"],
        about["net_kwargs"],
        mean=record["preprocessing"]["pixel_mean"],
        sd=record["preprocessing"]["pixel_sd"],
        seed=0,
        image_size=(record["preprocessing"]["width"], record["preprocessing"]["height"]),
        pretrained=False,
    )
    network = TargetLogits(model, None if mixing is None else torch.empty_like(mixing))
    network.load_state_dict(weights | ({} if mixing is None else {"mixing": mixing}))
    return network.eval()
