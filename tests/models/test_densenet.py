"""The DenseNet is torchvision's, tensor for tensor, where it is set as torchvision's is."""

import re

import pytest
import torch
from torchvision.models import densenet121

from hilum.errors import HilumError
from hilum.models.densenet import DenseNet


def torchvision_name(name: str) -> str:
    """The name in torchvision's DenseNet of the tensor `name` of a `DenseNet` of four blocks.

    >>> torchvision_name("blocks.0.5.conv1.weight")
    'features.denseblock1.denselayer6.conv1.weight'
    >>> torchvision_name("transitions.2.0.bias")
    'features.transition3.norm.bias'
    """
    if name.startswith("classifier."):
        return name
    if name.startswith("norm."):
        return f"features.norm5.{name.removeprefix('norm.')}"
    if found := re.fullmatch(r"stem\.(\d)\.(\w+)", name):
        return f"features.{('conv0', 'norm0')[int(found[1])]}.{found[2]}"
    if found := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", name):
        return f"features.denseblock{int(found[1]) + 1}.denselayer{int(found[2]) + 1}.{found[3]}"
    if found := re.fullmatch(r"transitions\.(\d+)\.(\d)\.(\w+)", name):
        return f"features.transition{int(found[1]) + 1}.{('norm', 'relu', 'conv')[int(found[2])]}.{found[3]}"
    raise KeyError(name)


def parameters_of(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def by_hand(growth, config, initial, bottleneck, compression, given, outputs):
    total, channels = given * 7 * 7 * initial + 2 * initial, initial
    for number, layers in enumerate(config):
        for _ in range(layers):
            between = bottleneck * growth
            total += 2 * channels + channels * between + 2 * between + between * 3 * 3 * growth
            channels += growth
        if number < len(config) - 1:
            kept = int(channels * compression)
            total += 2 * channels + channels * kept
            channels = kept
    return total + 2 * channels + (channels + 1) * outputs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"growth_rate": 12, "block_config": [2, 3], "initial_features": 10, "compression": 0.7},
        {"block_config": (1,), "bottleneck_size": 2, "in_channels": 3},
    ],
)
def test_its_parameters_are_those_counted_by_hand(settings):
    net = DenseNet(5, **settings)
    assert parameters_of(net) == by_hand(
        settings.get("growth_rate", 32),
        settings.get("block_config", (6, 12, 24, 16)),
        settings.get("initial_features", 64),
        settings.get("bottleneck_size", 4),
        settings.get("compression", 0.5),
        settings.get("in_channels", 1),
        5,
    )


def test_with_torchvisions_weights_it_gives_torchvisions_outputs():
    torch.manual_seed(0)
    theirs, ours = densenet121(weights=None).eval(), DenseNet(1000, in_channels=3).eval()
    assert parameters_of(ours) == parameters_of(theirs)
    for module in theirs.modules():  # statistics and factors that are not all alike
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights.pop(torchvision_name(name)) for name in ours.state_dict()})
    assert not weights  # none was left over
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_dropout_is_drawn_in_training_only():
    net = DenseNet(3, growth_rate=4, block_config=[2, 2], drop_rate=0.5)
    images = torch.randn(2, 1, 32, 32)
    net.train()
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize(("size", "config"), [(29, (1, 1, 1, 1)), (13, (1, 1, 1)), (1, (1,))])
def test_the_smallest_size_is_taken_and_one_pixel_less_refused(size, config):
    net = DenseNet(3, size, size, growth_rate=4, block_config=config).eval()
    assert net(torch.randn(1, 1, size, size)).isfinite().all()
    with pytest.raises(HilumError, match=f"It takes images of {size} x {size} or larger"):
        DenseNet(3, size, size - 1, block_config=config)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"growth_rate": 0}, "growth_rate must be a whole number, 1 or more; it is 0"),
        ({"block_config": "6,12"}, "block_config must be a list of whole numbers"),
        ({"compression": 0}, "compression must be above 0, up to 1; it is 0"),
        ({"compression": 1.1}, "compression must be above 0"),
        ({"drop_rate": 1}, "drop_rate must be 0 or more and below 1"),
        ({"in_channels": 2}, "in_channels must be one of 1, 3; it is 2"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(HilumError, match=message):
        DenseNet(3, **wrong)
