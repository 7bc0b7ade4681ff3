"""Tracing an image through a network gives the shapes and does not change the network."""

import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.models import Normalized, build_model
from hilum.models._shape_trace import calls_of


class DependsOnPixels(nn.Module):
    """A network that meta tensors cannot pass: it branches on pixel values."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(2, 1)

    def forward(self, images):
        if images.sum() > 1:
            raise ValueError("too bright")
        return self.head(self.conv(images).mean(dim=(2, 3)))


def test_calls_are_in_the_order_in_which_they_end_with_their_shapes():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(4 * 6 * 14, 2)))
    calls = calls_of(net, (16, 8))
    assert [call.name for call in calls] == ["0", "1.0", "1.1", "1", ""]
    assert calls[0].input_shape == (1, 1, 8, 16)
    assert calls[0].output_shape == (1, 4, 6, 14)
    assert calls[-1].output_shape == (1, 2)


def test_a_network_that_depends_on_pixel_values_is_traced_with_pixels():
    assert [call.name for call in calls_of(DependsOnPixels(), (8, 8))] == ["conv", "head", ""]
    with pytest.raises(HilumError, match=r"DependsOnPixels cannot take images of 2 x 8 \(width x height\)"):
        calls_of(DependsOnPixels(), (2, 8))


def test_the_network_and_the_generators_do_not_change():
    net = build_model("resnet_grayscale", 3, {"drop_out_percent": 0.5}, mean=0.5, sd=0.2, seed=0)
    net.train()
    net.net.resnet.bn1.eval()
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in net.state_dict().items()}
    calls_of(net, (64, 64))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.training
    assert not net.net.resnet.bn1.training
    assert net.net.resnet.layer1.training
    assert all(not module._forward_hooks for module in net.modules() if isinstance(module, nn.Conv2d))


def test_a_normalized_network_gets_uint8_images():
    assert calls_of(Normalized(DependsOnPixels(), 0.0, 1.0), (8, 8))[-1].output_shape == (1, 1)
