"""A checkpoint is loaded as it was saved, survives a kill, and is never loaded damaged."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.models import build_model
from hilum.training.checkpoints import (
    TargetLogits,
    copy_checkpoint,
    load_newest_checkpoint,
    load_state,
    load_weights,
    save_checkpoint,
)
from hilum.training.losses.multiclass import MultiClassLoss


def save(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    save_checkpoint(folder, net, {"epoch": epoch, "optimizer": optimizer.state_dict()})


def trained(seed=0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A net with batch normalization and an optimizer with moments."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2))
    net(torch.randn(4, 1, 8, 8))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.randn(4, 1, 8, 8)).sum().backward()
    optimizer.step()
    return net, optimizer


def assert_same_weights(net: nn.Module, other: nn.Module) -> None:
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_weights_optimizer_and_epoch_come_back(tmp_path):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, epoch=7)
    other, other_optimizer = trained(seed=1)
    load_weights(tmp_path / "last", other)
    assert_same_weights(net, other)
    state = load_state(tmp_path / "last")
    assert state["epoch"] == 7
    other_optimizer.load_state_dict(state["optimizer"])
    images = torch.randn(4, 1, 8, 8)
    for each, its in ((net, optimizer), (other, other_optimizer)):
        its.zero_grad()
        each(images).sum().backward()
        its.step()
    assert_same_weights(net, other)  # the next step is the same too


def test_weights_in_the_channels_last_layout_come_back(tmp_path):
    net, optimizer = trained()
    net.to(memory_format=torch.channels_last)
    save(tmp_path / "last", net, optimizer, epoch=1)
    other, _ = trained(seed=1)
    load_weights(tmp_path / "last", other)
    assert_same_weights(net, other)


def test_tied_weights_can_be_saved(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    save(tmp_path / "last", net, torch.optim.Adam(net.parameters()), epoch=1)
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    load_weights(tmp_path / "last", other)
    assert_same_weights(net, other)


def test_a_copy_is_a_checkpoint_of_its_own(tmp_path):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, epoch=1)
    copy_checkpoint(tmp_path / "last", tmp_path / "best")
    save(tmp_path / "last", *trained(seed=1), epoch=2)
    other, _ = trained(seed=2)
    load_weights(tmp_path / "best", other)
    assert_same_weights(net, other)
    assert load_state(tmp_path / "best")["epoch"] == 1


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path):
    class Sly:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was-run",))

    (tmp_path / "last").mkdir()
    with (tmp_path / "last" / "state.pt").open("wb") as file:
        pickle.dump(Sly(), file)
    with pytest.raises(HilumError, match=r"state\.pt: the checkpoint is damaged"):
        load_state(tmp_path / "last")
    assert not (tmp_path / "was-run").exists()


def test_a_missing_checkpoint_says_when_there_is_one(tmp_path):
    with pytest.raises(
        HilumError, match=r"model\.safetensors: the checkpoint is missing. A run has one after"
    ):
        load_weights(tmp_path / "last", nn.Linear(1, 1))
    with pytest.raises(HilumError, match=r"state\.pt: the checkpoint is missing"):
        load_state(tmp_path / "last")


@pytest.mark.parametrize("kept", [0, 5, 0.5])
def test_a_truncated_checkpoint_is_called_damaged(tmp_path, kept):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, epoch=1)
    for name in ("model.safetensors", "state.pt"):
        data = (tmp_path / "last" / name).read_bytes()
        (tmp_path / "last" / name).write_bytes(data[: int(kept * len(data)) if kept == 0.5 else kept])
    with pytest.raises(HilumError, match=r"model\.safetensors: the checkpoint is damaged"):
        load_weights(tmp_path / "last", net)
    with pytest.raises(HilumError, match=r"state\.pt: the checkpoint is damaged"):
        load_state(tmp_path / "last")


def test_weights_of_another_network_are_an_error_and_nothing_is_loaded(tmp_path):
    def built(layers, targets):
        return build_model("resnet_grayscale", targets, {"layers": layers}, mean=0.5, sd=0.2, seed=0)

    net = built(18, 5)
    save(tmp_path / "last", net, torch.optim.Adam(net.parameters()), epoch=1)
    other_targets = built(18, 12)
    with pytest.raises(
        HilumError, match="another network or other targets: 2 of its tensors differ"
    ) as refusal:
        load_weights(tmp_path / "last", other_targets)
    assert "net.resnet.fc.weight: (5, 512) in the file, (12, 512) in the network" in str(refusal.value)
    before = {name: value.clone() for name, value in other_targets.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in other_targets.state_dict().items())
    with pytest.raises(HilumError, match="absent in the file") as refusal:
        load_weights(tmp_path / "last", built(34, 5))
    assert len(str(refusal.value)) < 300 + len(str(tmp_path))
    assert "\n" not in str(refusal.value)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("done", [0, 1])
def test_a_kill_at_either_rename_leaves_the_old_checkpoint(tmp_path, monkeypatch, done):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, epoch=1)
    renames = []
    rename = Path.replace

    def dies_after(self, target):
        if len(renames) == done:
            raise Killed
        renames.append(target)
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dies_after)
        with pytest.raises(Killed):
            save(tmp_path / "last", *trained(seed=1), epoch=2)
    assert len(renames) == done
    other, _ = trained(seed=2)
    folder, state, damaged = load_newest_checkpoint(tmp_path, other)
    assert (folder, state["epoch"], damaged) == (tmp_path / ("last", "previous")[done], 1, [])
    assert_same_weights(net, other)
    save(tmp_path / "last", *trained(seed=1), epoch=2)  # the next one works too
    assert load_state(tmp_path / "last")["epoch"] == 2
    assert load_state(tmp_path / "previous")["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]


def test_without_a_checkpoint_nothing_is_loaded(tmp_path):
    assert load_newest_checkpoint(tmp_path, trained()[0]) == (None, {"epoch": 0}, [])


def test_weights_of_another_network_are_not_called_damaged(tmp_path):
    save(tmp_path / "last", *trained(), epoch=1)
    with pytest.raises(HilumError, match="these weights are of another network"):
        load_newest_checkpoint(tmp_path, nn.Linear(2, 2))


def test_multi_class_outputs_become_one_logit_per_target():
    criterion = MultiClassLoss(torch.tensor([True, False, True]))
    outputs = torch.randn(4, criterion.outputs, generator=torch.Generator().manual_seed(1))
    mixing = criterion.target_logits(torch.eye(criterion.outputs))
    found = TargetLogits(nn.Identity(), mixing)(outputs)
    torch.testing.assert_close(found, criterion.target_logits(outputs))
