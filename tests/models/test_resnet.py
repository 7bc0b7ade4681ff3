"""The grayscale ResNet is torchvision's, but for its first convolution and its head."""

import pytest
import torch
from torchvision.models import resnet18, resnet34, resnet50

from hilum.models.resnet import ResNetGrayScale

TORCHVISION = {18: (resnet18, 512), 34: (resnet34, 512), 50: (resnet50, 2048)}


def parameters_of(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("layers", TORCHVISION)
def test_it_has_torchvisions_parameters_but_for_two_channels_and_the_head(layers):
    constructor, features = TORCHVISION[layers]
    conv1 = 64 * 2 * 7 * 7  # two of the three channels of 64 kernels, 7 x 7
    head = (features + 1) * 1000 - (features + 1) * 12
    assert parameters_of(ResNetGrayScale(12, layers)) == parameters_of(constructor()) - conv1 - head


@pytest.mark.parametrize("layers", TORCHVISION)
def test_one_channel_goes_in_and_one_logit_per_target_comes_out(layers):
    net = ResNetGrayScale(7, layers).eval()
    logits = net(torch.randn(2, 1, 32, 32))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert (logits < 0).any()  # raw: no sigmoid has been applied


def test_the_names_of_the_weights_stay_torchvisions():
    ours = {name.removeprefix("resnet.") for name in ResNetGrayScale(3, 18, 0.2).state_dict()}
    assert ours == set(resnet18().state_dict())


def test_dropout_is_drawn_in_training_and_not_in_evaluation():
    images = torch.randn(2, 1, 32, 32)
    net = ResNetGrayScale(3, 18, drop_out_percent=0.5)
    net.eval()
    torch.testing.assert_close(net(images), net(images), rtol=0, atol=0)
    net.train()
    assert not torch.equal(net(images), net(images))
    without = ResNetGrayScale(3, 18, drop_out_percent=0.0).train()
    torch.testing.assert_close(without(images), without(images), rtol=0, atol=0)


def test_dropout_sets_whole_channels_to_zero_behind_each_stage():
    net = ResNetGrayScale(3, 18, drop_out_percent=0.5).train()
    seen = {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        stage = getattr(net.resnet, name)
        stage.register_forward_hook(lambda _stage, _inputs, output, name=name: seen.update({name: output}))
    torch.manual_seed(0)
    net(torch.randn(4, 1, 64, 64))
    for output in seen.values():
        dropped = (output == 0).all(dim=(2, 3)).float().mean()
        assert 0.35 < dropped < 0.65
