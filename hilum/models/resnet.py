"""Residual networks (He et al. 2016, arXiv 1512.03385) for one-channel images."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

from hilum.models.argument_checks import one_of, share
from hilum.models.weights import imagenet_file, imagenet_normalization, load_named, read_weights

#: How many layers a ResNet may have.
LAYERS = (18, 34, 50, 101, 152)


class ResNetGrayScale(nn.Module):
    """torchvision's ResNet with a first convolution on one channel and one output per target.

    Args:
        out_channels: the number of targets.
        layers: 18, 34, 50, 101 or 152.
        drop_out_percent: share of the channels that Dropout2d sets to zero behind each of the four
            residual stages while training, 0 up to (not including) 1; 0 adds none.

    Raises:
        HilumError: there is no ResNet of so many layers, or the share is out of range.
    """

    def __init__(self, out_channels: int, layers: int = 18, drop_out_percent: float = 0.0):
        super().__init__()
        layers = one_of("layers", layers, LAYERS)
        drop_out_percent = share("drop_out_percent", drop_out_percent)
        from torchvision.models import get_model  # seconds, which no other model needs

        self.resnet = get_model(f"resnet{layers}", weights=None, num_classes=out_channels)
        self.resnet.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        drop_channels_behind_stages(self.resnet, drop_out_percent)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1, height, width), to raw logits (B, targets)."""
        return self.resnet(images)

    def parameter_stages(self) -> list[tuple[str, list[nn.Parameter]]]:
        """From input to head, see `hilum.models.layer_groups`."""
        return resnet_stages(self.resnet)


def drop_channels_behind_stages(resnet: nn.Module, drop_out_percent: float) -> None:
    """Adds Dropout2d behind each of the four residual stages; nothing if the share is 0.

    It is a forward hook, so the network's own code and weights' names stay torchvision's.
    """
    if not drop_out_percent:
        return

    def drop_channels(stage: nn.Module, _inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return functional.dropout2d(output, drop_out_percent, training=stage.training)

    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        stage.register_forward_hook(drop_channels)


def resnet_stages(resnet: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """The parameters of torchvision's ResNet from input to head: stem, four residual stages, fc."""
    stages = {"stem": [resnet.conv1, resnet.bn1]}
    stages |= {name: [getattr(resnet, name)] for name in ("layer1", "layer2", "layer3", "layer4", "fc")}
    return [
        (name, [parameter for module in modules for parameter in module.parameters()])
        for name, modules in stages.items()
    ]


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
        """From input to head, see `hilum.models.layer_groups`."""
        stages = resnet_stages(self.resnet)
        return [*stages, ("head", list(self.head.parameters()))] if self.stacked else stages
