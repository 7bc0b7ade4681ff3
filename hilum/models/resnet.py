"""Residual networks (He et al. 2016, arXiv 1512.03385) for one-channel images."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hilum.models import check_choice, check_fraction
from hilum.models._weights import imagenet_file, imagenet_normalization, load_named, read_weights

#: Numbers of layers that a ResNet may have.
LAYERS = (18, 34, 50, 101, 152)


class ResNetGrayScale(nn.Module):
    """torchvision's ResNet with a first convolution on one channel and one output per target.

    Args:
        out_channels: the number of targets.
        layers: 18, 34, 50, 101 or 152.
        drop_out_percent: fraction of the channels that Dropout2d sets to zero after each of the four
            residual stages in training, 0 up to (not including) 1; 0 adds none.

    Raises:
        HilumError: there is no ResNet with this number of layers, or the fraction is out of range.
    """

    def __init__(self, out_channels: int, layers: int = 18, drop_out_percent: float = 0.0):
        super().__init__()
        layers = check_choice("layers", layers, LAYERS)
        drop_out_percent = check_fraction("drop_out_percent", drop_out_percent)
        self.resnet = torchvisions(f"resnet{layers}", num_classes=out_channels)
        self.resnet.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        drop_channels_behind_stages(self.resnet, drop_out_percent)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1, height, width), to raw logits (B, targets)."""
        return self.resnet(images)

    def parameter_stages(self) -> list[tuple[str, list[nn.Parameter]]]:
        """From input to head, see `hilum.models.layer_groups`."""
        return resnet_stages(self.resnet)


def torchvisions(architecture: str, **kwargs: Any) -> Any:
    """Torchvision's network with weights as drawn."""
    from torchvision.models import get_model  # takes seconds, which no other model needs

    return get_model(architecture, weights=None, **kwargs)


def drop_channels_behind_stages(resnet: nn.Module, drop_out_percent: float) -> None:
    """Adds Dropout2d after each of the four residual stages, as a hook: the names of the weights stay torchvision's."""
    if not drop_out_percent:
        return

    def drop_channels(stage: nn.Module, _inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return functional.dropout2d(output, drop_out_percent, training=stage.training)

    for name in ("layer1", "layer2", "layer3", "layer4"):
        resnet.get_submodule(name).register_forward_hook(drop_channels)


def resnet_stages(resnet: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """The parameters of torchvision's ResNet from input to head: stem, four residual stages, fc."""
    parts: dict[str, tuple[str, ...]] = {"stem": ("conv1", "bn1")}
    parts |= {name: (name,) for name in ("layer1", "layer2", "layer3", "layer4", "fc")}
    return [
        (stage, [parameter for name in names for parameter in resnet.get_submodule(name).parameters()])
        for stage, names in parts.items()
    ]


class ResNetPretrained(nn.Module):
    """torchvision's ResNet with ImageNet weights; the gray channel is repeated to its three.

    Pixels are normalized as in the training of these weights (`normalization`), not by the data set's own mean.

    Args:
        out_channels: the number of targets.
        layers: 18, 34, 50, 101 or 152.
        drop_out_percent: as of `ResNetGrayScale`.
        head: "replaced" replaces the layer to ImageNet's 1000 classes by a layer to the targets; "stacked"
            keeps it and adds a layer from 1000 to the targets after it.
        weights: a file of torchvision's weights for this ResNet, .pth or .safetensors; None is the first
            version (IMAGENET1K_V1) from torchvision's cache, or downloaded into it. With a replaced head the
            file's last layer may have any number of classes, or be missing.
        load_weights: False leaves the weights as drawn, for a network whose weights come from a checkpoint.

    Raises:
        HilumError: a value cannot be used; the file is missing, damaged, of another network, or not downloaded.
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
        architecture = f"resnet{check_choice('layers', layers, LAYERS)}"
        drop_out_percent = check_fraction("drop_out_percent", drop_out_percent)
        stacked = check_choice("head", head, ("replaced", "stacked")) == "stacked"
        self.normalization = imagenet_normalization(architecture)
        self.resnet = torchvisions(architecture)
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
        """From input to head, see `hilum.models.layer_groups`."""
        stages = resnet_stages(self.resnet)
        return [*stages, ("head", list(self.head.parameters()))] if self.stacked else stages
