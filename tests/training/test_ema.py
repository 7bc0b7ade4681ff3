"""The average follows the weights as its formula says, buffers included."""

import pytest
import torch
from torch import nn

from hilum.training.ema import AveragedWeights


def net_of(value: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


def test_the_average_begins_with_the_weights_and_its_decay_rises_to_the_one_asked_for():
    average = AveragedWeights(net_of(1.0), decay=0.25)
    expected = 1.0
    for step, value in enumerate([3.0, -2.0, 7.0], 1):
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        average.update(net_of(value))
        for name, tensor in average.net.state_dict().items():
            if tensor.is_floating_point():
                assert tensor.flatten().tolist() == pytest.approx([expected] * tensor.numel(), rel=1e-6), name
    assert average.steps == 3
    assert average.net[1].num_batches_tracked == 7  # a count is not averaged


def test_the_average_is_a_copy_that_does_not_learn():
    net = net_of(1.0)
    average = AveragedWeights(net, 0.9)
    with torch.no_grad():
        net[0].weight.fill_(5)
    assert average.net[0].weight.tolist() == [[1, 1]]
    assert not any(parameter.requires_grad for parameter in average.net.parameters())
    assert not average.net.training
