"""A run begins with the weights of another: outputs go by target name, everything else must fit."""

import pytest
import torch
from safetensors.torch import save_file

from hilum.errors import HilumError
from hilum.models import build_model
from hilum.models.transfer import initialise_from
from hilum.run_folder import RunFolder

SMALL = {"channels": [4, 8], "hidden": 6}


def built(targets, name="custom_pneumonia", kwargs=SMALL, seed=0, mean=0.5, extra=0):
    return build_model(
        name,
        len(targets) + extra,
        kwargs,
        mean=mean,
        sd=0.2,
        seed=seed,
        image_size=(32, 32),
        pretrained=False,
    )


def run_of(net, targets, path, name="custom_pneumonia", kwargs=SMALL, **record):
    record = {
        "settings": {"net_name": name, "net_kwargs": kwargs},
        "targets": list(targets),
        "best_epoch": 3,
    } | record
    folder = RunFolder.create(path, "former", "", record)
    best = folder.path / "checkpoints" / "best"
    best.mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in net.state_dict().items()}, best / "model.safetensors"
    )
    return folder


def test_outputs_are_matched_by_name_in_any_order_and_others_stay_as_drawn(tmp_path):
    former = built(("Edema", "Mass", "Hernia"), seed=1, mean=0.4)
    folder = run_of(former, ("Edema", "Mass", "Hernia"), tmp_path)
    targets = ("Mass", "Fracture", "Edema")
    net = built(targets, seed=2)
    drawn = {name: value.clone() for name, value in net.state_dict().items()}
    transfer = initialise_from(net, folder, targets, image_size=(32, 32))
    assert transfer.taken == {"Mass": True, "Fracture": False, "Edema": True}
    for name in ("weight", "bias"):
        head, before, theirs = (
            getattr(net.net.logits, name),
            drawn[f"net.logits.{name}"],
            getattr(former.net.logits, name),
        )
        assert torch.equal(head[0], theirs[1])
        assert torch.equal(head[1], before[1])
        assert torch.equal(head[2], theirs[0])
    assert torch.equal(net.net.hidden.weight, former.net.hidden.weight)
    assert net.mean.item() == pytest.approx(0.5)  # of the new data, not of the other run
    weights = transfer.as_record()["weights"]
    assert len(weights) == 64
    assert transfer.as_record() == {
        "weights": weights,
        "run": "former",
        "model": "custom_pneumonia",
        "epoch": 3,
        "taken": ["Mass", "Edema"],
        "as_drawn": ["Fracture"],
    }
    assert transfer.as_text() == (
        "The weights are those of former (custom_pneumonia, epoch 3), with the outputs of Mass, Edema; "
        "those of Fracture are drawn."
    )


def test_with_the_same_targets_and_data_the_networks_are_the_same(tmp_path):
    former = built(("Edema", "Mass"), seed=1)
    net = built(("Edema", "Mass"), seed=2)
    transfer = initialise_from(net, run_of(former, ("Edema", "Mass"), tmp_path), ("Edema", "Mass"))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in former.state_dict().items())
    assert "with the outputs of all 2 targets" in transfer.as_text()
    assert transfer.outputs_as_drawn == 0


def test_other_targets_altogether_take_the_backbone(tmp_path):
    former = built(("Edema",), seed=1)
    net = built(("Mass",), seed=2)
    drawn = net.net.logits.weight.clone()
    transfer = initialise_from(net, run_of(former, ("Edema",), tmp_path), ("Mass",), image_size=(32, 32))
    assert torch.equal(net.net.logits.weight, drawn)
    assert torch.equal(net.net.hidden.weight, former.net.hidden.weight)
    assert "it has none of the targets" in transfer.as_text()


def test_outputs_of_further_classes_stay_as_drawn(tmp_path):
    former = built(("Edema", "Mass"), seed=1, extra=2)
    folder = run_of(former, ("Edema", "Mass"), tmp_path, multiclass_targets=["Mass"])
    net = built(("Mass", "Edema"), seed=2, extra=4)
    drawn = net.net.logits.weight.clone()
    transfer = initialise_from(net, folder, ("Mass", "Edema"), image_size=(32, 32))
    assert torch.equal(net.net.logits.weight[:2], former.net.logits.weight[[1, 0]])
    assert torch.equal(net.net.logits.weight[2:], drawn[2:])
    assert transfer.outputs_as_drawn == 4


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("resnet_grayscale", {}),
        ("resnet_pretrained", {"head": "stacked"}),
        ("densenet", {"growth_rate": 4, "block_config": [2, 2]}),
        ("timm:mobilenetv3_small_050", {}),
    ],
)
def test_every_model_can_be_taken_over(name, kwargs, tmp_path):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    former = built(("Edema", "Mass"), name, kwargs, seed=1)
    net = built(("Mass",), name, kwargs, seed=2)
    initialise_from(net, run_of(former, ("Edema", "Mass"), tmp_path, name, kwargs), ("Mass",))
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(net.eval()(images), former.eval()(images)[:, 1:])


def test_another_architecture_is_refused_with_both_models_and_a_tensor_and_nothing_changes(tmp_path):
    former = built(("Edema",), seed=1)
    folder = run_of(former, ("Edema",), tmp_path)
    net = built(("Edema",), kwargs={"channels": [4, 9], "hidden": 6}, seed=2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(
        HilumError,
        match=r"init_from .*former: its weights \(custom_pneumonia with channels = \[4, 8\], hidden = 6\) do not fit "
        r"custom_pneumonia: net.blocks.1.0.weight is \(8, 4, 3, 3\) there and \(9, 4, 3, 3\) here",
    ):
        initialise_from(net, folder, ("Edema",), model="custom_pneumonia", image_size=(32, 32))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(HilumError, match=r"do not fit ResNetGrayScale: net.resnet.\S+ is absent there"):
        initialise_from(built(("Edema",), "resnet_grayscale", {}), folder, ("Edema",))


def test_a_missing_or_damaged_checkpoint_is_named(tmp_path):
    net = built(("Edema",))
    folder = run_of(net, ("Edema",), tmp_path)
    path = folder.path / "checkpoints" / "best" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HilumError, match="the checkpoint is damaged"):
        initialise_from(net, folder, ("Edema",))
    path.unlink()
    with pytest.raises(HilumError, match=r"model.safetensors is missing under checkpoints/best"):
        initialise_from(net, folder, ("Edema",))
