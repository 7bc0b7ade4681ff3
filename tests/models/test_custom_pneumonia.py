"""The educational CNN: shapes that fit, parameters that can be counted by hand, sizes that are refused."""

import pytest
import torch

from hilum.errors import HilumError
from hilum.models.custom_pneumonia import CustomPneumonia


def by_hand(width, height, channels, hidden, targets):
    total, given = 0, 1
    for made in channels:
        total += made * (given * 3 * 3 + 1)
        given, width, height = made, width // 2, height // 2
    return total + hidden * (given * width * height + 1) + targets * (hidden + 1)


@pytest.mark.parametrize(
    ("width", "height", "channels", "hidden"),
    [(320, 320, (16, 32, 64, 128, 128), 128), (65, 47, (4, 8), 10), (32, 32, (16, 32, 64, 128, 128), 7)],
)
def test_its_parameters_are_those_counted_by_hand_and_its_shapes_meet(width, height, channels, hidden):
    net = CustomPneumonia(14, width, height, channels, hidden)
    counted = sum(parameter.numel() for parameter in net.parameters())
    assert counted == by_hand(width, height, channels, hidden, 14)
    assert net(torch.randn(2, 1, height, width)).shape == (2, 14)


def test_the_number_in_its_documentation_is_right():
    counted = sum(parameter.numel() for parameter in CustomPneumonia(14).parameters())
    assert f"{counted:,}" == "1,885,070"
    assert f"{counted:,}" in CustomPneumonia.__doc__
    assert "1,638,528" in CustomPneumonia.__doc__
    assert 128 * (128 * 10 * 10 + 1) == 1_638_528


def test_a_size_too_small_is_refused_with_the_reason_and_the_sizes_it_takes():
    with pytest.raises(
        HilumError, match=r"images of 31 x 64: each of its 5 blocks halves.*32 x 32 or larger"
    ):
        CustomPneumonia(3, 31, 64)
    assert CustomPneumonia(3, 31, 64, channels=[4, 4, 4, 4]).hidden.in_features == 4 * 1 * 4


def test_images_of_another_size_than_it_was_made_for_are_refused():
    net = CustomPneumonia(3, 64, 32)
    with pytest.raises(
        HilumError, match=r"made for images of 64 x 32 .*got 32 x 64.*takes 256 numbers, no more"
    ):
        net(torch.zeros(1, 1, 64, 32))


def test_the_signal_keeps_its_size_on_its_way():
    torch.manual_seed(0)
    net = CustomPneumonia(3, 64, 64).eval()
    features = net.blocks(torch.randn(8, 1, 64, 64))
    assert 0.1 < features.std() < 10
    assert 0.1 < net(torch.randn(8, 1, 64, 64)).std() < 10


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": []}, r"channels must be a list of whole numbers.*it is \[\]"),
        ({"channels": [16, 0]}, r"channels must be a list.*\[16, 0\]"),
        ({"channels": 16}, r"channels must be a list.*it is 16"),
        ({"hidden": 0}, "hidden must be a whole number, 1 or more; it is 0"),
        ({"hidden": True}, "hidden must be a whole number"),
        ({"drop_out_percent": 1}, "drop_out_percent must be 0 or more and below 1; it is 1"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(HilumError, match=message):
        CustomPneumonia(3, 64, 64, **wrong)
