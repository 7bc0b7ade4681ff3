"""A name and its settings give one network, the same for the same seed; a slip is named."""

import pytest
import torch

from hilum.errors import HilumError
from hilum.models import MODELS, Normalized, build_model, model_class


def built(seed=0, out_channels=3, **net_kwargs) -> Normalized:
    return build_model("resnet_grayscale", out_channels, net_kwargs, mean=0.5, sd=0.2, seed=seed)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (built(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.resnet.conv1.weight"], other["net.resnet.conv1.weight"])
    assert not torch.equal(first["net.resnet.fc.weight"], other["net.resnet.fc.weight"])


def test_the_weights_depend_on_no_former_draw_and_the_global_generator_stays_as_it_was():
    first = built().state_dict()
    torch.rand(17)
    before = torch.get_rng_state()
    again = built().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_built_model_takes_bytes_and_gives_one_logit_per_target():
    logits = built(out_channels=5).eval()(torch.randint(0, 256, (2, 1, 32, 48), dtype=torch.uint8))
    assert (logits.shape, logits.dtype) == ((2, 5), torch.float32)


def test_every_named_model_can_be_found():
    assert [model_class(name).__name__ for name in MODELS] == ["ResNetGrayScale"]


@pytest.mark.parametrize(
    ("name", "net_kwargs", "words"),
    [
        (
            "resnet_greyscale",
            {},
            r"net_name: there is no model 'resnet_greyscale'. Did you mean 'resnet_grayscale'\?",
        ),
        (
            "resnet_grayscale",
            {"layer": 18},
            r"has no setting 'layer'. Did you mean 'layers'\?.*drop_out_percent",
        ),
        ("resnet_grayscale", {"out_channels": 3}, "has no setting 'out_channels'"),
        ("resnet_grayscale", {"layers": 19}, "layers must be one of 18, 34, 50, 101, 152; it is 19"),
        ("resnet_grayscale", {"layers": [18]}, r"layers must be one of .*; it is \[18\]"),
        (
            "resnet_grayscale",
            {"drop_out_percent": 1.0},
            "drop_out_percent must be 0 or more and below 1; it is 1.0",
        ),
        (
            "resnet_grayscale",
            {"drop_out_percent": "half"},
            "drop_out_percent must be 0 or more.*; it is 'half'",
        ),
    ],
)
def test_a_wrong_name_or_setting_is_refused_with_what_is_near(name, net_kwargs, words):
    with pytest.raises(HilumError, match=words):
        build_model(name, 3, net_kwargs, mean=0.5, sd=0.2, seed=0)
