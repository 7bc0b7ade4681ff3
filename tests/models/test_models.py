"""A name and its settings give one network, the same for the same seed; a mistake is named."""

import warnings

import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.models import (
    MODELS,
    Normalized,
    build_model,
    check_choice,
    check_fraction,
    check_whole_number,
    check_whole_numbers,
    model_class,
)


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
    names = [model_class(name).__name__ for name in MODELS]
    assert names == ["CustomPneumonia", "DenseNet", "ResNetGrayScale", "ResNetPretrained"]
    assert model_class("timm:anything").__name__ == "TimmBackbone"


@pytest.mark.parametrize(
    ("name", "net_kwargs", "message"),
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
        (
            "resnet_grayscale",
            {"out_channels": 3},
            "has no setting 'out_channels'. The number of outputs is the",
        ),
        (
            "densenet",
            {"nr_classes": 3},
            "has no setting 'nr_classes'. The number of outputs is the number of targets",
        ),
        ("custom_pneumonia", {"image_width": 3}, "image_width is a setting of the run"),
        ("resnet_pretrained", {"load_weights": False}, "has no setting 'load_weights'"),
        ("resnet_pretrained", {"weights": 3}, "weights must be the path of a file; it is 3"),
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
def test_a_wrong_name_or_setting_is_refused_with_what_is_near(name, net_kwargs, message):
    with pytest.raises(HilumError, match=message):
        build_model(name, 3, net_kwargs, mean=0.5, sd=0.2, seed=0)


#: Every model in a small form, by name and settings.
SMALL = {
    "custom_pneumonia": ("custom_pneumonia", {"channels": [4, 8, 8]}),
    "densenet": ("densenet", {"growth_rate": 4, "block_config": [2, 2], "initial_features": 8}),
    "resnet_grayscale": ("resnet_grayscale", {"drop_out_percent": 0.1}),
    "resnet_pretrained": ("resnet_pretrained", {}),
    "resnet_pretrained, stacked": ("resnet_pretrained", {"head": "stacked"}),
    "timm": ("timm:mobilenetv3_small_050", {}),
}


def small(form: str, outputs: int, size: tuple[int, int], seed: int = 0) -> Normalized:
    name, net_kwargs = SMALL[form]
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    stats = {"mean": 0.5, "sd": 0.25}
    return build_model(name, outputs, net_kwargs, seed=seed, image_size=size, pretrained=False, **stats)


def test_every_model_has_a_small_form():
    assert {name for name, _ in SMALL.values()} - {"timm:mobilenetv3_small_050"} == set(MODELS)


@pytest.mark.parametrize("form", SMALL)
def test_a_step_of_training_changes_every_weight(form):
    net = small(form, 2, (64, 48)).train()
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 48, 64), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 2, (6, 2), generator=draw).float()
    before = {name: value.clone() for name, value in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=10.0)
    loss_of = torch.nn.BCEWithLogitsLoss()
    loss = loss_of(net(images), labels)
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert all(value.grad is not None for value in net.parameters())
    unchanged = [name for name, value in net.named_parameters() if torch.equal(value, before[name])]
    # A ReLU that no image passes gives single biases no gradient; weights all have one.
    assert [name for name in unchanged if not name.endswith("bias")] == []


@pytest.mark.parametrize("form", SMALL)
def test_weights_are_a_function_of_the_seed(form):
    torch.rand(5)
    first = small(form, 2, (48, 48), seed=3).state_dict()
    before = torch.get_rng_state()
    again, other = (small(form, 2, (48, 48), seed=seed).state_dict() for seed in (3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("form", SMALL)
def test_real_radiographs_pass_through(form, nih_sample):
    import cv2

    paths = sorted(nih_sample.rglob("*.png"))[:4]
    images = [cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (96, 80)) for path in paths]
    batch = torch.stack([torch.from_numpy(image) for image in images]).unsqueeze(1)
    net = small(form, 14, (96, 80)).to(memory_format=torch.channels_last).eval()
    with torch.no_grad():
        logits = net(batch)
    assert logits.shape == (4, 14)
    assert logits.isfinite().all()
    assert logits.std(dim=0).max() > 0  # they are not all the same to it


def test_a_model_with_a_normalization_of_its_own_becomes_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = small("resnet_pretrained", 3, (64, 64)).eval()
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (images,), str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
    (logits,) = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), net(images).detach(), rtol=1e-3, atol=1e-4)


def test_pixels_are_scaled_to_one_centered_and_divided():
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


def test_settings_with_allowed_values_pass():
    assert check_whole_number("growth_rate", 3) == 3
    assert check_whole_numbers("channels", [4, 8]) == (4, 8)
    assert check_fraction("drop_rate", 0) == 0
    assert check_choice("layers", 34, (18, 34)) == 34


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((lambda value: check_whole_number("x", value), value) for value in (0, 2.0, "2", True, None)),
        *(
            (lambda value: check_whole_numbers("x", value), value)
            for value in ([], [0], [1.5], [True], 3, "12")
        ),
        *(
            (lambda value: check_fraction("x", value), value)
            for value in (-0.1, 1, "0.5", False, float("nan"))
        ),
        *((lambda value: check_choice("x", value, (1, 3)), value) for value in (2, "1", True, [1], {})),
    ],
)
def test_settings_with_other_values_are_refused_with_name_and_value(check, value):
    with pytest.raises(HilumError) as caught:
        check(value)
    assert str(caught.value).startswith("net_kwargs: x must be ")
    assert str(caught.value).endswith(f"it is {value!r}.")
