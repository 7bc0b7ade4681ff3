"""The step between the pixels of a batch and a network."""

import torch
from torch import nn


class Normalized(nn.Module):
    """Scales 8-bit pixels to 0..1, subtracts the mean, divides by the deviation, applies a network.

    It is part of the model, so that it runs on the model's device and is saved with the weights.

    Args:
        net: takes float32 (B, 1, height, width).
        mean: of the training pixels, 0..1.
        sd: of the training pixels, 0..1.
    """

    def __init__(self, net: nn.Module, mean: float, sd: float):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("sd", torch.tensor(sd))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (B, 1, height, width) to raw logits (B, targets)."""
        return self.net((images.float() / 255 - self.mean) / self.sd)
