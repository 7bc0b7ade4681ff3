"""Residual networks (He et al. 2016, arXiv 1512.03385) for one-channel images."""

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18, resnet34, resnet50, resnet101, resnet152

from hilum.errors import HilumError

_BY_LAYERS = {18: resnet18, 34: resnet34, 50: resnet50, 101: resnet101, 152: resnet152}


class ResNetGrayScale(nn.Module):
    """torchvision's ResNet with a first convolution on one channel and one output per target.

    Args:
        out_channels: the number of targets.
        layers: 18, 34, 50, 101 or 152.
        drop_out_percent: share of the channels that Dropout2d sets to zero behind each of the four
            residual stages while training, 0 up to (not including) 1; 0 adds none. It is a forward
            hook, so the network's own code and weights' names stay torchvision's.

    Raises:
        HilumError: there is no ResNet of so many layers, or the share is out of range.
    """

    def __init__(self, out_channels: int, layers: int = 18, drop_out_percent: float = 0.0):
        super().__init__()
        if layers not in list(_BY_LAYERS):
            raise HilumError(
                f"net_kwargs: layers must be one of {', '.join(map(str, _BY_LAYERS))}; it is {layers!r}."
            )
        if not isinstance(drop_out_percent, int | float) or not 0 <= drop_out_percent < 1:
            raise HilumError(
                f"net_kwargs: drop_out_percent must be 0 or more and below 1; it is {drop_out_percent!r}."
            )
        self.resnet = _BY_LAYERS[layers](num_classes=out_channels)
        self.resnet.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        if drop_out_percent:

            def drop_channels(stage: nn.Module, _inputs: tuple, output: torch.Tensor) -> torch.Tensor:
                return functional.dropout2d(output, drop_out_percent, training=stage.training)

            for stage in (self.resnet.layer1, self.resnet.layer2, self.resnet.layer3, self.resnet.layer4):
                stage.register_forward_hook(drop_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1, height, width), to raw logits (B, targets)."""
        return self.resnet(images)
