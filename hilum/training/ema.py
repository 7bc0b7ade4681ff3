"""An average of the weights over the steps of a training, which is often better than the last of them."""

from copy import deepcopy

import torch
from torch import nn


class AveragedWeights:
    """An exponential moving average of a network's weights and buffers.

    After step n the average is d * average + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)): the
    first weights, which are noise, are soon forgotten. Averaging goes back to Polyak & Juditsky 1992
    (doi 10.1137/0330046); the rising decay is that of TensorFlow's ExponentialMovingAverage.

    Args:
        net: whose weights; the average begins with them.
        decay: above 0 and below 1; 0.999 averages over some thousand steps.

    Attributes:
        net: a copy of the network with the averaged weights.
        steps: how many have been averaged.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    def to(self, device: torch.device) -> "AveragedWeights":
        """Moves the average to a device."""
        self.net.to(device)
        return self

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Takes a step's weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        own, new = self.net.state_dict().values(), net.state_dict().values()
        pairs = [(mine, theirs) for mine, theirs in zip(own, new, strict=True)]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():  # the counter of batch normalization
                mine.copy_(theirs)
