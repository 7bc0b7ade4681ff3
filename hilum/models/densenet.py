"""DenseNet-BC (Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv 1608.06993)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from hilum.errors import HilumError
from hilum.models import (
    check,
    check_choice,
    check_fraction,
    check_whole_number,
    check_whole_numbers,
    is_number,
)


class DenseLayer(nn.Module):
    """Computes `growth_rate` new channels from all earlier channels of its block.

    Normalization and ReLU come before each convolution. The 1 x 1 convolution (the paper's bottleneck, its
    "B") reduces the channels before the 3 x 3 convolution.
    """

    def __init__(self, in_channels: int, growth_rate: int, bottleneck_size: int, drop_rate: float):
        super().__init__()
        between = bottleneck_size * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, between, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(between)
        self.conv2 = nn.Conv2d(between, growth_rate, kernel_size=3, padding=1, bias=False)
        self.drop_rate = drop_rate

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) to (B, growth_rate, h, w)."""
        between = self.conv1(functional.relu(self.norm1(features)))
        new = self.conv2(functional.relu(self.norm2(between)))
        return functional.dropout(new, self.drop_rate, self.training)


class DenseBlock(nn.Sequential):
    """Dense layers; the input of each is the block's input and the output of all layers before it."""

    def __init__(
        self, layers: int, in_channels: int, growth_rate: int, bottleneck_size: int, drop_rate: float
    ):
        inputs = [in_channels + number * growth_rate for number in range(layers)]
        super().__init__(*(DenseLayer(count, growth_rate, bottleneck_size, drop_rate) for count in inputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, h, w) to (B, in_channels + layers · growth_rate, h, w)."""
        for layer in self:
            features = torch.cat([features, layer(features)], dim=1)
        return features


class Transition(nn.Sequential):
    """Between two blocks: fewer channels (the paper's compression, its "C"), half the width and height."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            nn.AvgPool2d(2),
        )


class DenseNet(nn.Module):
    """Dense blocks with transitions between them, average pooling, one fully connected layer.

    The defaults are DenseNet-121's: with `in_channels=3` and 1000 outputs it is torchvision's, tensor for tensor.

    Args:
        out_channels: the number of targets.
        image_width: of the images, pixels; only to refuse images that are too small.
        image_height: the same.
        growth_rate: channels that each dense layer adds, the paper's k.
        block_config: the number of dense layers in each block; (6, 12, 32, 32) is DenseNet-169's.
        initial_features: channels of the first convolution.
        bottleneck_size: channels between a dense layer's two convolutions, in growth rates.
        compression: fraction of the channels that a transition keeps, above 0 up to 1.
        drop_rate: fraction of each dense layer's output that dropout sets to zero in training, 0 to below 1.
        in_channels: of the images, 1 or 3; with 3 the gray channel is repeated.

    Raises:
        HilumError: the images are too small, or a value cannot be used.
    """

    def __init__(
        self,
        out_channels: int,
        image_width: int = 320,
        image_height: int = 320,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        initial_features: int = 64,
        bottleneck_size: int = 4,
        compression: float = 0.5,
        drop_rate: float = 0.0,
        in_channels: int = 1,
    ):
        super().__init__()
        block_config = check_whole_numbers("block_config", block_config)
        growth_rate = check_whole_number("growth_rate", growth_rate)
        bottleneck_size = check_whole_number("bottleneck_size", bottleneck_size)
        drop_rate = check_fraction("drop_rate", drop_rate)
        check("compression", compression, is_number(compression) and 0 < compression <= 1, "above 0, up to 1")
        # The stem halves twice, rounding up; each transition halves once more, rounding down.
        smallest = 4 * (2 ** (len(block_config) - 1) - 1) + 1
        if image_width < smallest or image_height < smallest:
            raise HilumError(
                f"densenet cannot take images of {image_width} x {image_height}: its {len(block_config) + 1} halvings "
                f"would leave nothing. It takes images of {smallest} x {smallest} or larger; or give it fewer blocks, "
                "net_kwargs block_config."
            )
        self.in_channels = check_choice("in_channels", in_channels, (1, 3))

        channels = check_whole_number("initial_features", initial_features)
        self.stem = nn.Sequential(  # (B, in_channels, H, W) → (B, initial_features, H / 4, W / 4)
            nn.Conv2d(in_channels, channels, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for number, layers in enumerate(block_config, 1):
            self.blocks.append(DenseBlock(layers, channels, growth_rate, bottleneck_size, drop_rate))
            channels += layers * growth_rate
            if number < len(block_config):
                kept = max(1, int(channels * compression))
                self.transitions.append(Transition(channels, kept))
                channels = kept
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(channels, out_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1, height, width), to raw logits (B, targets)."""
        features = self.stem(images.expand(-1, self.in_channels, -1, -1))
        for block, transition in zip(self.blocks, [*self.transitions, nn.Identity()], strict=True):
            features = transition(block(features))
        features = self.relu(self.norm(features))  # (B, C, H / 32, W / 32) with four blocks
        return self.classifier(features.mean(dim=(2, 3)))

    def parameter_stages(self) -> list[tuple[str, list[nn.Parameter]]]:
        """From input to head, see `hilum.models.layer_groups`; a transition belongs to the block before it."""
        stages = [("stem", list(self.stem.parameters()))]
        after = [*self.transitions, self.norm]
        for number, (block, following) in enumerate(zip(self.blocks, after, strict=True), 1):
            stages.append((f"block {number}", [*block.parameters(), *following.parameters()]))
        return [*stages, ("classifier", list(self.classifier.parameters()))]
