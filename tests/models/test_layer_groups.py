"""Stages hold every parameter once and end with the head."""

import pytest
import torch
import torchvision
from torch import nn

from hilum.errors import HilumError
from hilum.models import Normalized, build_model
from hilum.models.layer_groups import backbone_modules, split_head, stages


def built(name, size=(64, 64), **net_kwargs):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    return build_model(name, 3, net_kwargs, mean=0.5, sd=0.2, seed=0, image_size=size, pretrained=False)


def name_of(net: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in net.named_modules() if module is wanted)


class Own(nn.Module):
    """Its head is made first, and it has a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.scale = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.1)

    def forward(self, images):
        features = self.body(self.norm(self.first(images * self.scale)))
        return self.head(self.dropout(features.mean(dim=(2, 3))))


NETS = {
    "custom": lambda: built("custom_pneumonia"),
    "densenet": lambda: built("densenet", block_config=[2, 2, 2]),
    "grayscale": lambda: built("resnet_grayscale"),
    "pretrained": lambda: built("resnet_pretrained"),
    "stacked": lambda: built("resnet_pretrained", head="stacked"),
    "timm resnet": lambda: built("timm:resnet18"),
    "timm mobilenet": lambda: built("timm:mobilenetv3_small_050"),
    "timm vit": lambda: built("timm:vit_tiny_patch16_224", depth=2),
    "torchvision resnet": lambda: torchvision.models.resnet18(),
    "torchvision densenet": lambda: torchvision.models.DenseNet(8, (2, 2), 8),
    "torchvision mobilenet": lambda: torchvision.models.mobilenet_v3_small(),
    "own": lambda: Normalized(Own(), 0.5, 0.2),
}

STAGES_AND_HEAD = {
    "custom": ("block 1, block 2, block 3, block 4, block 5, hidden, logits", "logits"),
    "densenet": ("stem, block 1, block 2, block 3, classifier", "classifier"),
    "grayscale": ("stem, layer1, layer2, layer3, layer4, fc", "resnet.fc"),
    "pretrained": ("stem, layer1, layer2, layer3, layer4, fc", "resnet.fc"),
    "stacked": ("stem, layer1, layer2, layer3, layer4, fc, head", "head"),
    "timm resnet": ("conv1, layer1, layer2, layer3, layer4, head", "net.fc"),
    "timm mobilenet": (
        "conv_stem, blocks.0.0, blocks.1, blocks.2, blocks.3, blocks.4, blocks.5.0, conv_head, head",
        "net.classifier",
    ),
    "timm vit": ("cls_token, blocks.0, blocks.1, head", "net.head"),
    "torchvision resnet": ("stem, layer1, layer2, layer3, layer4, fc", "fc"),
    "torchvision densenet": ("stem, denseblock1, denseblock2, classifier", "classifier"),
    "torchvision mobilenet": ("features, classifier, classifier.3", "classifier.3"),
    "own": ("stem, first, body, head", "head"),
}


@pytest.mark.parametrize("kind", NETS)
def test_stages_hold_every_parameter_once_and_end_with_the_head(kind):
    net = NETS[kind]()
    found = stages(net, (64, 64))
    names, head = STAGES_AND_HEAD[kind]
    assert ", ".join(name for name, _ in found) == names
    given = [id(parameter) for _, parameters in found for parameter in parameters]
    assert len(given) == len(set(given))
    assert set(given) == {id(parameter) for parameter in net.parameters()}
    inner = net.net if isinstance(net, Normalized) else net
    assert {id(p) for p in found[-1][1]} == {id(p) for p in inner.get_submodule(head).parameters()}


@pytest.mark.parametrize("kind", NETS)
def test_the_backbone_and_the_head_are_the_whole_network(kind):
    net = NETS[kind]()
    backbone, head = split_head(net, (64, 64))
    assert len(backbone) + len(head) == sum(1 for _ in net.parameters())
    modules = backbone_modules(net, (64, 64))
    inside = {id(parameter) for module in modules for parameter in module.parameters()}
    assert not inside & {id(parameter) for parameter in head}
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    below = {id(module) for part in modules for module in part.modules()}
    assert all(id(norm) in below for norm in norms)


def test_dropout_next_to_the_head_is_not_part_of_the_backbone():
    net = Own()
    assert [name_of(net, module) for module in backbone_modules(net, (32, 32))] == ["first", "norm", "body"]


def test_a_network_may_name_its_stages_and_a_mistake_is_an_error():
    class Slip(Own):
        def parameter_stages(self):
            return [("first", list(self.first.parameters())), ("head", list(self.head.parameters()))]

    with pytest.raises(HilumError, match=r"stages of Slip must hold each.*once: scale is in none"):
        stages(Slip(), (32, 32))

    class Twice(nn.Linear):
        def parameter_stages(self):
            return [("all", list(self.parameters())), ("again", list(self.parameters()))]

    with pytest.raises(HilumError, match="one is in two of them"):
        stages(Twice(2, 2))


def test_a_network_that_cannot_take_the_size_is_grouped_in_the_order_in_which_it_was_made():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 5))
    assert [name for name, _ in stages(net, (999, 999))] == ["0", "2"]


def test_wrappers_are_opened_and_a_single_layer_is_the_head():
    wrapped = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 5)))
    assert [len(parameters) for _, parameters in stages(wrapped, (32, 32))] == [2, 2]
    assert [name for name, _ in stages(nn.Linear(2, 2))] == ["head"]
    assert backbone_modules(nn.Linear(2, 2)) == []


def test_a_network_without_parameters_is_refused():
    with pytest.raises(HilumError, match="Identity has no parameters"):
        stages(nn.Identity())
