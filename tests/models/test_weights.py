"""Files of weights: read if they are what they should be; else one clear sentence."""

import socket

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hilum.errors import HilumError
from hilum.models._weights import (
    first_line,
    imagenet_file,
    imagenet_normalization,
    load_named,
    read_weights,
    short_timeout,
)

WEIGHTS = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


def test_both_forms_are_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "a.pth")
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    torch.save({"epoch": 3, "state_dict": WEIGHTS}, tmp_path / "nested.pth")
    for name in ("a.pth", "a.safetensors", "nested.pth"):
        read = read_weights(tmp_path / name)
        assert read.keys() == WEIGHTS.keys()
        assert torch.equal(read["weight"], WEIGHTS["weight"])


def test_a_missing_damaged_or_strange_file_is_named(tmp_path):
    with pytest.raises(HilumError, match=r"none.pth: this file of weights does not exist"):
        read_weights(tmp_path / "none.pth")
    torch.save(WEIGHTS, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:300])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    for name in ("cut.pth", "cut.safetensors"):
        with pytest.raises(
            HilumError, match=f"{name}: this is not a file of weights, or it is damaged"
        ) as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    torch.save({"lr": 0.1}, tmp_path / "settings.pth")
    with pytest.raises(HilumError, match="not a state dict"):
        read_weights(tmp_path / "settings.pth")


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    torch.save(nn.Linear(3, 2), tmp_path / "net.pth")  # pickles the class
    with pytest.raises(HilumError, match="this is not a file of weights"):
        read_weights(tmp_path / "net.pth")


def test_weights_of_another_network_are_refused_with_the_first_difference(tmp_path):
    with pytest.raises(
        HilumError,
        match=r"not the weights of small: 1 tensors differ, for example weight: \(2, 3\).*\(2, 4\)",
    ):
        load_named(nn.Linear(4, 2), WEIGHTS, tmp_path / "f.pth", "small")
    with pytest.raises(HilumError, match="for example bias: absent in the file"):
        load_named(nn.Linear(3, 2), {"weight": WEIGHTS["weight"]}, tmp_path / "f.pth", "small")


def test_what_is_left_out_stays_as_it_was(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    before = net[1].weight.clone()
    given = {f"0.{name}": value for name, value in WEIGHTS.items()} | {"1.weight": torch.ones(7, 7)}
    load_named(net, given, tmp_path / "f.pth", "two", ("1.",))
    assert torch.equal(net[0].weight, WEIGHTS["weight"])
    assert torch.equal(net[1].weight, before)


def test_files_of_old_versions_do_not_count_batches(tmp_path):
    net = nn.BatchNorm2d(2)
    weights = {name: value + 1 for name, value in net.state_dict().items() if "num_batches" not in name}
    load_named(net, weights, tmp_path / "f.pth", "norm")
    assert net.running_mean.tolist() == [1, 1]


def test_the_cache_is_used_and_without_it_and_a_network_the_file_to_copy_is_named(offline):
    with pytest.raises(HilumError) as caught:
        imagenet_file("resnet34")
    message = str(caught.value)
    assert "The ImageNet weights of resnet34 are not on this machine" in message
    assert "Name or service not known" in message
    assert "Copy the file resnet34-b627a593.pth" in message
    assert str(offline) in message
    assert "net_kwargs {weights = 'PATH'}" in message
    offline.mkdir(parents=True, exist_ok=True)
    (offline / "resnet34-b627a593.pth").write_bytes(b"")
    assert imagenet_file("resnet34") == offline / "resnet34-b627a593.pth"


def test_a_connection_is_not_waited_for_forever():
    assert socket.getdefaulttimeout() is None
    with short_timeout():
        assert socket.getdefaulttimeout() == 10
    assert socket.getdefaulttimeout() is None


def test_the_normalization_is_imagenets():
    mean, sd = imagenet_normalization("resnet50")
    assert mean == pytest.approx((0.485, 0.456, 0.406))
    assert sd == pytest.approx((0.229, 0.224, 0.225))


def test_an_error_is_one_line():
    assert first_line(ValueError("first.\nsecond")) == "first"
    assert first_line(ValueError()) == "ValueError"
