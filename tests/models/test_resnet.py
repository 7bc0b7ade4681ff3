"""The grayscale ResNet is torchvision's, but for its first convolution and its head."""

import pytest
import torch
from torch.nn import functional
from torchvision.models import resnet18, resnet34, resnet50

from hilum.errors import HilumError
from hilum.models import build_model
from hilum.models.resnet import ResNetGrayScale, ResNetPretrained

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


def built(file, pretrained=True, seed=0, **net_kwargs):
    kwargs = {"weights": str(file)} if file else {}
    return build_model(
        "resnet_pretrained", 3, kwargs | net_kwargs, mean=0.1, sd=0.9, seed=seed, pretrained=pretrained
    ).eval()


def reference(path, images):
    """Torchvision's own network on gray bytes, normalized for ImageNet: features and 1000 outputs."""
    net = resnet18(weights=None).eval()
    net.load_state_dict(torch.load(path, weights_only=True))
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    three = images.repeat_interleave(3, dim=1).float() / 255
    outputs = net((three - mean.view(1, 3, 1, 1)) / sd.view(1, 3, 1, 1))
    return net, outputs


@pytest.fixture
def images():
    return torch.randint(
        0, 256, (2, 1, 48, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@torch.no_grad()
def test_a_stacked_head_stands_behind_torchvisions_1000_outputs(imagenet_resnet18, images):
    model = built(imagenet_resnet18, head="stacked")
    _, outputs = reference(imagenet_resnet18, images)
    wanted = functional.linear(outputs, model.net.head.weight, model.net.head.bias)
    torch.testing.assert_close(model(images), wanted)


@torch.no_grad()
def test_a_replaced_head_stands_in_the_place_of_the_last_layer(imagenet_resnet18, images):
    model = built(imagenet_resnet18)
    net, _ = reference(imagenet_resnet18, images)
    fc = model.net.resnet.fc
    assert fc.weight.shape == (3, 512)
    net.fc = fc
    mean, sd = model.mean.view(1, 3, 1, 1), model.sd.view(1, 3, 1, 1)
    torch.testing.assert_close(model(images), net((images.repeat(1, 3, 1, 1) / 255 - mean) / sd))


def test_its_normalization_is_its_own(imagenet_resnet18):
    model = built(imagenet_resnet18)
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model.sd.shape == (3, 1, 1)


def test_rebuilt_for_a_checkpoint_it_needs_no_file(imagenet_resnet18, offline, images):
    trained = built(imagenet_resnet18)
    again = built("gone.pth", pretrained=False)
    again.load_state_dict(trained.state_dict())
    torch.testing.assert_close(again(images), trained(images), rtol=0, atol=0)


def test_the_cache_is_read_where_no_file_is_given(imagenet_resnet18, offline):
    offline.mkdir(parents=True, exist_ok=True)
    cached = offline / "resnet18-f37072fd.pth"
    cached.write_bytes(imagenet_resnet18.read_bytes())
    weights = torch.load(imagenet_resnet18, weights_only=True)
    assert torch.equal(built(None).net.resnet.conv1.weight, weights["conv1.weight"])
    cached.write_bytes(b"cut short")
    with pytest.raises(
        HilumError, match=r"resnet18-f37072fd.pth: this is not a file of weights, or it is damaged"
    ):
        built(None)


def test_without_a_network_the_file_to_copy_is_named(offline):
    with pytest.raises(HilumError, match=r"Copy the file resnet18-f37072fd.pth"):
        built(None)


def test_the_file_of_another_resnet_is_refused(imagenet_resnet18):
    with pytest.raises(
        HilumError,
        match=r"not the weights of resnet34: \d+ tensors differ, for example layer1.2.conv1.weight",
    ):
        built(imagenet_resnet18, layers=34)


def test_the_files_last_layer_matters_only_where_it_is_kept(imagenet_resnet18, tmp_path):
    weights = torch.load(imagenet_resnet18, weights_only=True)
    torch.save(
        {name: value for name, value in weights.items() if not name.startswith("fc.")}, tmp_path / "w.pth"
    )
    built(tmp_path / "w.pth")
    with pytest.raises(HilumError, match=r"for example fc.weight: absent in the file"):
        built(tmp_path / "w.pth", head="stacked")


def test_dropout_stands_behind_its_stages():
    net = ResNetPretrained(3, drop_out_percent=0.5, load_weights=False).train()
    image = torch.randn(2, 1, 32, 32)
    assert not torch.equal(net(image), net(image))


def test_an_unknown_head_is_refused():
    with pytest.raises(HilumError, match="head must be one of replaced, stacked; it is 'added'"):
        ResNetPretrained(3, head="added", load_weights=False)
