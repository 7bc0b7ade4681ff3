"""Residual networks that begin with what they learned on ImageNet."""

from pathlib import Path

import torch
from torch import nn
from torchvision.models import get_model

from hilum.models.resnet import LAYERS, drop_channels_behind_stages, resnet_stages
from hilum.models.values import one_of, share
from hilum.models.weights import imagenet_file, imagenet_normalization, load_named, read_weights


class ResNetPretrained(nn.Module):
    """torchvision's ResNet with ImageNet weights; the gray channel is repeated to its three.

    Pixels are normalized as they were for these weights (`normalization`), not by the data set's own mean.

    Args:
        out_channels: the number of targets.
        layers: 18, 34, 50, 101 or 152.
        drop_out_percent: share of the channels that Dropout2d sets to zero behind each of the four
            residual stages while training, 0 up to (not including) 1; 0 adds none.
        head: "replaced" puts a layer from the features to the targets in the place of the layer to ImageNet's
            1000 classes; "stacked" keeps that one and puts a layer from 1000 to the targets behind it.
        weights: a file of torchvision's weights for this ResNet, .pth or .safetensors; if left out, the first
            version (IMAGENET1K_V1) from torchvision's cache, or downloaded into it. With a replaced head the
            file's last layer may have any number of classes, or be missing.
        load_weights: False leaves the weights as drawn, for a network whose weights come from a checkpoint.

    Raises:
        HilumError: a value cannot be used; the file is missing, damaged or of another network; or it is not
            here and there is no network to download it.
    """

    def __init__(
        self,
        out_channels: int,
        layers: int = 18,
        drop_out_percent: float = 0.0,
        head: str = "replaced",
        weights: str | Path | None = None,
        load_weights: bool = True,
    ):
        super().__init__()
        architecture = f"resnet{one_of('layers', layers, LAYERS)}"
        drop_out_percent = share("drop_out_percent", drop_out_percent)
        stacked = one_of("head", head, ("replaced", "stacked")) == "stacked"
        self.normalization = imagenet_normalization(architecture)
        self.resnet = get_model(architecture, weights=None)
        if load_weights:
            path = weights if weights is not None else imagenet_file(architecture)
            load_named(self.resnet, read_weights(path), path, architecture, () if stacked else ("fc.",))
        if stacked:
            self.head = nn.Linear(self.resnet.fc.out_features, out_channels)
        else:
            self.resnet.fc = nn.Linear(self.resnet.fc.in_features, out_channels)
        self.stacked = stacked
        drop_channels_behind_stages(self.resnet, drop_out_percent)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1 or 3, height, width), to raw logits (B, targets)."""
        outputs = self.resnet(images.expand(-1, 3, -1, -1))
        return self.head(outputs) if self.stacked else outputs

    def parameter_stages(self) -> list[tuple[str, list[nn.Parameter]]]:
        """From input to head, see `hilum.models.parts`."""
        stages = resnet_stages(self.resnet)
        return [*stages, ("head", list(self.head.parameters()))] if self.stacked else stages
