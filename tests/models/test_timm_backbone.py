"""Any network of timm: its name, its settings, its weights, or one sentence that says what is wrong."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from hilum.errors import HilumError
from hilum.models import build_model

timm = pytest.importorskip("timm")


def built(name, size=(64, 64), pretrained=True, **net_kwargs):
    return build_model(
        f"timm:{name}", 3, net_kwargs, mean=0.5, sd=0.2, seed=0, image_size=size, pretrained=pretrained
    ).eval()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A file of drawn weights of mobilenetv3_small_050 with 1000 classes."""
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", pretrained=False)
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_network_takes_gray_bytes_and_gives_a_logit_per_target(name, in_channels):
    model = built(name, in_channels=in_channels)
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    assert first.in_channels == in_channels
    assert model.mean.shape == ()  # drawn weights: the data set's own normalization
    assert model(torch.randint(0, 256, (2, 1, 64, 48), dtype=torch.uint8)).shape == (2, 3)


def test_the_same_seed_gives_the_same_weights():
    first, again = (built("mobilenetv3_small_050").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@torch.no_grad()
def test_weights_of_a_file_give_the_features_that_timm_gives(weights_file):
    model = built("mobilenetv3_small_050", in_channels=3, weights=str(weights_file))
    theirs = timm.create_model("mobilenetv3_small_050", checkpoint_path=str(weights_file)).eval()
    cfg = theirs.pretrained_cfg
    assert model.mean.flatten().tolist() == pytest.approx(cfg["mean"])
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    three = (images.repeat(1, 3, 1, 1) / 255 - model.mean) / model.sd
    torch.testing.assert_close(
        model.net.net.forward_features(three), theirs.forward_features(three), rtol=0, atol=0
    )
    assert "state_dict" not in model.net.net.pretrained_cfg


def test_one_channel_takes_the_sum_of_three(weights_file):
    model = built("mobilenetv3_small_050", weights=str(weights_file))
    theirs = timm.create_model("mobilenetv3_small_050", checkpoint_path=str(weights_file))
    torch.testing.assert_close(model.net.net.conv_stem.weight, theirs.conv_stem.weight.sum(1, keepdim=True))
    assert model.mean.item() == pytest.approx(sum(theirs.pretrained_cfg["mean"]) / 3)


def test_rebuilt_for_a_checkpoint_it_needs_no_file_and_is_the_same(weights_file, offline):
    trained = built("mobilenetv3_small_050", in_channels=3, weights=str(weights_file))
    again = built("mobilenetv3_small_050", in_channels=3, weights="gone.safetensors", pretrained=False)
    again.load_state_dict(trained.state_dict())
    images = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(again(images), trained(images), rtol=0, atol=0)


def test_a_network_for_one_size_is_made_for_the_runs():
    model = built("vit_tiny_patch16_224", size=(96, 64))
    assert model(torch.zeros((1, 1, 64, 96), dtype=torch.uint8)).shape == (1, 3)


def test_a_size_that_it_cannot_take_is_refused():
    with pytest.raises(HilumError, match=r"timm:\w+ cannot .*: "):
        built("vit_tiny_patch16_224", size=(96, 64), img_size=224)


def test_its_own_settings_are_passed_on():
    assert built("resnet18", drop_rate=0.25).net.net.drop_rate == 0.25


@pytest.mark.parametrize(
    ("name", "net_kwargs", "message"),
    [
        ("resnet81", {}, r"net_name: timm [\d.]+ has no model 'resnet81'. Did you mean 'resnet18'\?"),
        ("resnet18.a1_in2k", {}, r"has no weights 'resnet18.a1_in2k'. Did you mean 'resnet18.a1_in1k'\?"),
        ("hf-hub:somebody/something", {}, "has no model 'hf-hub:somebody/something'"),
        ("resnet18", {"drop_rat": 0.1}, r"has no setting 'drop_rat'. Did you mean 'drop_rate'\?"),
        ("resnet18", {"img_size": 64}, "has no setting 'img_size': it takes images of any size"),
        ("resnet18", {"global_pool": "median"}, r"cannot be made with \{'global_pool': 'median'\}"),
        ("resnet18", {"in_channels": 2}, "in_channels must be one of 1, 3; it is 2"),
        ("resnet18", {"backbone": "resnet34"}, "has no setting 'backbone'"),
        ("resnet18", {"weights": "gone.pth"}, "gone.pth: this file of weights does not exist"),
    ],
)
def test_an_impossible_network_is_one_sentence(name, net_kwargs, message):
    with pytest.raises(HilumError, match=message):
        built(name, **net_kwargs)


def test_pretrained_is_a_switch():
    with pytest.raises(HilumError, match="pretrained must be true or false; it is 'yes'"):
        build_model("timm:resnet18", 3, {"pretrained": "yes"}, mean=0.5, sd=0.2, seed=0)


def test_the_weights_of_another_network_are_refused(weights_file):
    with pytest.raises(
        HilumError, match=r"model.safetensors: these are not the weights of timm:resnet18: "
    ) as caught:
        built("resnet18", weights=str(weights_file))
    assert "\n" not in str(caught.value)


def test_without_a_network_the_file_to_copy_is_named(offline):
    with pytest.raises(HilumError) as caught:
        build_model("timm:resnet18", 3, {"pretrained": True}, mean=0.5, sd=0.2, seed=0)
    message = str(caught.value)
    assert "The pretrained weights of timm:resnet18 are not on this machine" in message
    assert "Copy the file model.safetensors of timm/resnet18.a1_in1k" in message
    assert "net_kwargs {weights = 'PATH'}" in message


def test_a_network_without_pretrained_weights_is_named(offline):
    bare = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(HilumError, match=f"timm has no pretrained weights of {bare}. Leave pretrained out"):
        build_model(f"timm:{bare}", 3, {"pretrained": True}, mean=0.5, sd=0.2, seed=0)


def test_a_missing_timm_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(HilumError, match=r"need timm: pip install 'hilum\[timm\]'"):
        built("resnet18")
