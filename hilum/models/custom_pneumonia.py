"""A small CNN for teaching: its shapes and parameters can be computed on paper. It is not made to score well."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from hilum.errors import HilumError
from hilum.models import check_fraction, check_whole_number, check_whole_numbers


class CustomPneumonia(nn.Module):
    """Blocks of convolution, ReLU and pooling, then two fully connected layers.

    A convolution (3 x 3, with a border of one zero) keeps width and height, a pooling (2 x 2) halves them.
    So n blocks turn (B, 1, height, width) into (B, C, height / 2^n, width / 2^n), each half rounded down; the
    first fully connected layer has C · (height / 2^n) · (width / 2^n) inputs, so the network is made for one
    image size. The parameters, biases included:

    * a convolution from c to C channels: C · (c · 3 · 3 + 1);
    * a fully connected layer from n to m numbers: m · (n + 1).

    At 320 x 320 with 14 targets there are 1,885,070; 1,638,528 of them are in the first fully connected layer.

    Args:
        out_channels: the number of targets.
        image_width: of the images it is made for, pixels; at least 2 to the number of blocks.
        image_height: the same.
        channels: output channels of each block's convolution; one number per block.
        hidden: outputs of the first fully connected layer.
        drop_out_percent: fraction of these that dropout sets to zero in training, 0 up to (not including) 1.

    Raises:
        HilumError: the images are too small for the blocks, or a value cannot be used.
    """

    def __init__(
        self,
        out_channels: int,
        image_width: int = 320,
        image_height: int = 320,
        channels: Sequence[int] = (16, 32, 64, 128, 128),
        hidden: int = 128,
        drop_out_percent: float = 0.0,
    ):
        super().__init__()
        channels = check_whole_numbers("channels", channels)
        hidden = check_whole_number("hidden", hidden)
        smallest = 2 ** len(channels)
        if min(image_width, image_height) < smallest:
            raise HilumError(
                f"custom_pneumonia cannot take images of {image_width} x {image_height}: each of its {len(channels)} "
                f"blocks halves width and height, so that nothing would be left. It takes images of {smallest} x "
                f"{smallest} or larger; or give it fewer blocks, net_kwargs channels."
            )
        self.image_width, self.image_height = image_width, image_height

        self.blocks = nn.Sequential()
        for inputs, outputs in zip((1, *channels), channels, strict=False):
            # (B, inputs, h, w) → (B, outputs, h, w) → (B, outputs, h / 2, w / 2)
            convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
            self.blocks.append(nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2)))

        left_width, left_height = image_width // smallest, image_height // smallest
        self.flatten = nn.Flatten()  # (B, C, h, w) → (B, C · h · w)
        self.hidden = nn.Linear(channels[-1] * left_height * left_width, hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(check_fraction("drop_out_percent", drop_out_percent))
        self.logits = nn.Linear(hidden, out_channels)
        self._draw_weights()

    def _draw_weights(self) -> None:
        """Keeps the signal's variance through ReLU (He et al. 2015, arXiv 1502.01852)."""
        for module in (*self.blocks.modules(), self.hidden):
            if isinstance(module, nn.Conv2d | nn.Linear):
                assert module.bias is not None
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.logits.weight, std=1 / math.sqrt(self.logits.in_features))
        nn.init.zeros_(self.logits.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images, float32 (B, 1, image_height, image_width), to raw logits (B, targets).

        Raises:
            HilumError: the images have another size than the network was made for.
        """
        height, width = images.shape[-2:]
        if (width, height) != (self.image_width, self.image_height):
            raise HilumError(
                f"custom_pneumonia was made for images of {self.image_width} x {self.image_height} (width x height) "
                f"and got {width} x {height}: its first fully connected layer takes {self.hidden.in_features:,} "
                "numbers, no more and no fewer. Give it images of its own size, or train one for the other size."
            )
        features = self.blocks(images)  # (B, C, height / 2^n, width / 2^n)
        numbers = self.flatten(features)  # (B, C · height / 2^n · width / 2^n)
        return self.logits(self.dropout(self.relu(self.hidden(numbers))))

    def parameter_stages(self) -> list[tuple[str, list[nn.Parameter]]]:
        """From input to head, see `hilum.models.layer_groups`."""
        modules = {f"block {number}": block for number, block in enumerate(self.blocks, 1)}
        modules |= {"hidden": self.hidden, "logits": self.logits}
        return [(name, list(module.parameters())) for name, module in modules.items()]
