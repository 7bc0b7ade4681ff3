"""The step between the pixels of a batch and a network."""

from collections.abc import Sequence

import torch
from torch import nn


class Normalized(nn.Module):
    """Scales 8-bit pixels to 0..1, subtracts the mean, divides by the deviation, applies a network.

    It is part of the model, so that it runs on the model's device and is saved with the weights.

    Args:
        net: takes float32 (B, C, height, width): C is 1, or 3 where mean and deviation are three.
        mean: of the pixels, 0..1; or one for each channel of the images that pretrained weights were made
            with, and the gray channel is repeated for each.
        sd: of the pixels, 0..1; as many as means.
    """

    def __init__(self, net: nn.Module, mean: float | Sequence[float], sd: float | Sequence[float]):
        super().__init__()
        self.net = net
        self.register_buffer("mean", _per_channel(mean))
        self.register_buffer("sd", _per_channel(sd))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (B, 1, height, width) to raw logits (B, targets)."""
        # Means of shape (3, 1, 1) spread the one gray channel over three.
        return self.net((images.float() / 255 - self.mean) / self.sd)


def _per_channel(value: float | Sequence[float]) -> torch.Tensor:
    """() for one number, (C, 1, 1) for several."""
    values = torch.tensor(value)
    return values if values.ndim == 0 else values.view(-1, 1, 1)
