"""Residual networks (He et al. 2016, arXiv 1512.03385) for one-channel images."""

import torch
from torch import nn
from torch.nn import functional

from hilum.models.values import one_of, share

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
        """From input to head, see `hilum.models.parts`."""
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
