"""A description is right: layers, shapes, sums, cost."""

import json

import pytest
import torch

from hilum.errors import HilumError
from hilum.models import MODELS, build_model
from hilum.models.describe import describe_model, list_models, timm_version


def test_every_layer_of_the_educational_cnn_has_its_shape_and_its_sum():
    found = describe_model(
        "custom_pneumonia", {"channels": [4, 8], "hidden": 10}, outputs=3, image_size=(20, 12)
    )
    rows = [
        (layer.name, layer.kind, layer.output_shape, layer.parameters, layer.formula)
        for layer in found.layers
    ]
    assert rows == [
        ("blocks.0.0", "Conv2d", (4, 12, 20), 40, "4 × (1 × 3 × 3 + 1)"),
        ("blocks.0.1", "ReLU", (4, 12, 20), 0, ""),
        ("blocks.0.2", "MaxPool2d", (4, 6, 10), 0, ""),
        ("blocks.1.0", "Conv2d", (8, 6, 10), 296, "8 × (4 × 3 × 3 + 1)"),
        ("blocks.1.1", "ReLU", (8, 6, 10), 0, ""),
        ("blocks.1.2", "MaxPool2d", (8, 3, 5), 0, ""),
        ("flatten", "Flatten", (120,), 0, ""),
        ("hidden", "Linear", (10,), 1210, "10 × (120 + 1)"),
        ("relu", "ReLU", (10,), 0, ""),
        ("dropout", "Dropout", (10,), 0, ""),
        ("logits", "Linear", (3,), 33, "3 × (10 + 1)"),
    ]
    flattenings = {layer.name: layer.flattening for layer in found.layers if layer.flattening}
    assert flattenings == {"hidden": "the last feature map flattened: 8 × 3 × 5 = 120 numbers"}
    assert found.model.parameters == found.model.trainable == 40 + 296 + 1210 + 33
    convolutions = 4 * 12 * 20 * 9 + 8 * 6 * 10 * 4 * 9
    assert found.multiply_adds == convolutions + 10 * 120 + 3 * 10
    # Kept: the image, each ReLU's output, each pooling's output and int64 positions, but the last pooling's
    # output only as what flatten hands on; the hidden layer's ReLU (dropout of 0 keeps nothing).
    pixels = 240 + 4 * 240 + 4 * 60 + 8 * 60 + 8 * 15 + 10
    assert found.activation_bytes == 4 * pixels + 8 * (4 * 60 + 8 * 15)


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_parameters_add_up(name):
    found = describe_model(name, outputs=5, image_size=(64, 64))
    net = build_model(name, 5, {}, mean=0.5, sd=0.2, seed=0, image_size=(64, 64), pretrained=False)
    assert found.model.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert sum(layer.parameters for layer in found.layers) == found.model.parameters
    assert sum(1 for layer in found.layers if layer.flattening) == 1
    for layer in found.layers:
        if layer.formula:
            assert eval(layer.formula.replace("×", "*").replace(",", "")) == layer.parameters


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:mobilenetv3_small_050"])
def test_the_layers_parameters_of_timms_networks_add_up(name):
    pytest.importorskip("timm")
    found = describe_model(name, image_size=(64, 64))
    assert sum(layer.parameters for layer in found.layers) == found.model.parameters


def test_a_networks_published_multiply_adds_are_found():
    # 1.81 G for ResNet-18 at 224 x 224 on three channels, as torchvision publishes (_ops in GFLOPS).
    assert describe_model(
        "resnet_pretrained", outputs=1000, image_size=(224, 224)
    ).multiply_adds == pytest.approx(1.814e9, rel=1e-3)


def test_activation_memory_is_what_autograd_keeps():
    found = describe_model("resnet_grayscale", outputs=3, image_size=(64, 64))
    net = build_model("resnet_grayscale", 3, {}, mean=0.5, sd=0.25, seed=0).train()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    sizes = []
    for batch_size in (2, 3):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = net(torch.zeros((batch_size, 1, 64, 64), dtype=torch.uint8))
        sizes.append(sum(storage.nbytes() for address, storage in kept.items() if address not in own))
        del output
    assert found.activation_bytes == sizes[1] - sizes[0]


def test_it_needs_no_file_of_weights_and_leaves_the_generator_alone(offline):
    before = torch.get_rng_state()
    found = describe_model("resnet_pretrained", {"layers": 34, "weights": "gone.pth"}, image_size=(64, 64))
    assert torch.equal(torch.get_rng_state(), before)
    assert found.model.parameters == 21_284_672 + 14 * 513
    json.dumps(found.as_record())


def test_all_models_are_listed_and_the_reason_is_given_for_others():
    found, problems = list_models(outputs=4, image_size=(16, 16))
    assert [model.name for model in found] == ["resnet_grayscale", "resnet_pretrained"]
    assert found[0].about.startswith("torchvision's ResNet")
    assert "custom_pneumonia cannot take images of 16 x 16" in problems[0]
    assert "densenet cannot take images of 16 x 16" in problems[1]


def test_timms_version_or_none():
    version = timm_version()
    assert version is None or version[0].isdigit()


def test_an_unknown_model_is_refused():
    with pytest.raises(HilumError, match="Did you mean 'densenet'"):
        describe_model("densnet")
