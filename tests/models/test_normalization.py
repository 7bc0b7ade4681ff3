"""Normalization is part of the model: 8-bit pixels in, scaled, centered, divided."""

import torch
from torch import nn

from hilum.models.normalization import Normalized


def test_bytes_are_scaled_to_one_centered_and_divided():
    model = Normalized(nn.Identity(), mean=0.5, sd=0.25)
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(model(pixels), torch.tensor([[[[-2.0, -1.2, 2.0]]]]))
    assert model(pixels).dtype == torch.float32


def test_mean_and_deviation_are_saved_with_the_weights_and_not_trained():
    model = Normalized(nn.Linear(2, 1), mean=0.4, sd=0.2)
    assert {"mean", "sd"} < set(model.state_dict())
    assert {name for name, _ in model.named_parameters()} == {"net.weight", "net.bias"}
    other = Normalized(nn.Linear(2, 1), mean=0.0, sd=1.0)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.mean, torch.tensor(0.4))


def test_three_means_spread_gray_over_three_channels():
    model = Normalized(nn.Identity(), mean=(0.0, 0.5, 1.0), sd=(1.0, 0.5, 0.25))
    out = model(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    torch.testing.assert_close(out, torch.tensor([[[[0.0, 1.0]], [[-1.0, 1.0]], [[-4.0, 0.0]]]]))
    assert model.mean.shape == model.sd.shape == (3, 1, 1)
