"""Optimizers and schedules are those of torch; the average of the weights follows its formula."""

import copy
import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from hilum.config import TrainingSettings
from hilum.errors import HilumError
from hilum.training.losses import AUCMarginLoss, MaskedBCEWithLogitsLoss
from hilum.training.optim import AveragedWeights, make_optimizer, make_schedule


def net_of(value: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


def test_the_average_starts_with_the_weights_and_its_decay_rises_to_the_given_one():
    average = AveragedWeights(net_of(1.0), decay=0.25)
    expected = 1.0
    for step, value in enumerate([3.0, -2.0, 7.0], 1):
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        average.update(net_of(value))
        for name, tensor in average.net.state_dict().items():
            if tensor.is_floating_point():
                assert tensor.flatten().tolist() == pytest.approx([expected] * tensor.numel(), rel=1e-6), name
    assert average.steps == 3
    assert average.net[1].num_batches_tracked == 7  # a count is not averaged


def test_the_average_is_a_copy_that_does_not_learn():
    net = net_of(1.0)
    average = AveragedWeights(net, 0.9)
    with torch.no_grad():
        net[0].weight.fill_(5)
    assert average.net[0].weight.tolist() == [[1, 1]]
    assert not any(parameter.requires_grad for parameter in average.net.parameters())
    assert not average.net.training


USUAL = {"optimizer": "adam", "learning_rate": 0.01, "l2_reg": 0.1, "momentum": 0.8}


def optimizer_for(net, criterion, layer_decay=1.0, stages=None, fused=False, **settings):
    training = TrainingSettings(**settings)
    return make_optimizer(net, criterion, training, layer_decay=layer_decay, stages=stages, fused=fused)


def learning_rates(optimizer):
    return {group.get("name", "net"): group["lr"] for group in optimizer.param_groups}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.fixture
def stages(net):
    return [
        ("stem", list(net[0].parameters())),
        ("middle", list(net[2].parameters())),
        ("head", list(net[4].parameters())),
    ]


@pytest.fixture
def auc():
    return AUCMarginLoss(np.array([0.2, 0.4]), ("a", "b"))


def step(net, optimizer, criterion=None):
    for _ in range(3):
        optimizer.zero_grad()
        outputs = net(torch.linspace(-1, 1, 24).reshape(6, 4))
        labels = torch.tensor([[0.0, 1.0], [1.0, 1.0]] * 3)
        (outputs.square().sum() if criterion is None else criterion(outputs, labels)).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("adam", lambda net: torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.1)),
        ("adamw", lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)),
        ("sgd", lambda net: torch.optim.SGD(net.parameters(), lr=0.01, weight_decay=0.1, momentum=0.8)),
    ],
)
def test_without_stages_it_is_torchs_bit_for_bit(net, name, peer):
    other = copy.deepcopy(net)
    optimizer = optimizer_for(net, MaskedBCEWithLogitsLoss(), **USUAL | {"optimizer": name})
    theirs = peer(other)
    step(net, optimizer)
    step(other, theirs)
    for ours, expected in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, expected)
    assert optimizer.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]
    assert learning_rates(optimizer) == {"net": 0.01}


def test_stages_have_no_effect_without_layer_decay(net, stages):
    optimizer = optimizer_for(net, MaskedBCEWithLogitsLoss(), stages=stages, **USUAL)
    assert len(optimizer.param_groups) == 1


def test_each_stage_away_from_the_head_learns_more_slowly(net, stages):
    optimizer = optimizer_for(net, MaskedBCEWithLogitsLoss(), layer_decay=0.5, stages=stages, **USUAL)
    assert learning_rates(optimizer) == {"head": 0.01, "middle": 0.005, "stem": 0.0025}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1] * 3
    before = copy.deepcopy(net)
    optimizer.zero_grad()
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    # Adam's first step is the learning rate in size, whatever the gradient's.
    for layer, rate in ((4, 0.01), (2, 0.005), (0, 0.0025)):
        change = (net[layer].weight - before[layer].weight).abs().max()
        assert change.item() == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_parameters_of_the_loss_are_a_group_without_weight_decay(net, auc, stages, name):
    plain = optimizer_for(net, auc, **USUAL | {"optimizer": name})
    assert learning_rates(plain) == {"net": 0.01, "criterion": 0.01}
    staged = optimizer_for(net, auc, layer_decay=0.5, stages=stages, **USUAL | {"optimizer": name})
    assert list(learning_rates(staged)) == ["head", "middle", "stem", "criterion"]
    for optimizer in (plain, staged):
        assert [group["weight_decay"] for group in optimizer.param_groups][-2:] == [0.1, 0.0]
    before = auc.alpha.clone()
    step(net, plain, auc)
    assert not torch.equal(auc.alpha, before)


def test_only_sgd_has_momentum(net):
    sgd = optimizer_for(net, MaskedBCEWithLogitsLoss(), **USUAL | {"optimizer": "sgd"})
    assert sgd.param_groups[0]["momentum"] == 0.8
    assert "momentum" not in optimizer_for(net, MaskedBCEWithLogitsLoss(), **USUAL).param_groups[0]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_fused_is_one_kernel_with_the_same_result(net, auc, name):
    other = copy.deepcopy(net)
    fused = optimizer_for(net, MaskedBCEWithLogitsLoss(), fused=True, **USUAL | {"optimizer": name})
    assert fused.param_groups[0]["fused"] is True
    step(net, fused)
    step(other, optimizer_for(other, MaskedBCEWithLogitsLoss(), **USUAL | {"optimizer": name}))
    for ours, expected in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_layer_decay_needs_stages(net):
    with pytest.raises(HilumError, match=r"layer_decay: 0\.5 needs the stages .* not known for Sequential"):
        optimizer_for(net, MaskedBCEWithLogitsLoss(), layer_decay=0.5, **USUAL)


def test_stages_without_one_of_the_parameters_are_a_bug(net, stages):
    with pytest.raises(AssertionError, match="each parameter of the network once"):
        optimizer_for(net, MaskedBCEWithLogitsLoss(), layer_decay=0.5, stages=stages[:2], **USUAL)


def test_an_unknown_optimizer_is_an_error(net):
    with pytest.raises(HilumError, match=r"optimizer: 'adamww' must be 'adam', 'adamw' or 'sgd'"):
        optimizer_for(net, MaskedBCEWithLogitsLoss(), **USUAL | {"optimizer": "adamww"})


SCHEDULE = {"num_epochs": 3, "steps_per_epoch": 4, "warmup_epochs": 0, "plateau_patience": 1}


def schedule_for(optimizer, name, steps_per_epoch, **settings):
    return make_schedule(optimizer, TrainingSettings(schedule=name, **settings), steps_per_epoch)


@pytest.fixture
def optimizer():
    """Adam with two groups, at 0.1 and 0.05."""
    head, stem = nn.Linear(2, 1), nn.Linear(2, 1)
    return torch.optim.Adam(
        [
            {"params": list(head.parameters()), "name": "head"},
            {"params": list(stem.parameters()), "name": "stem", "lr": 0.05},
        ],
        lr=0.1,
    )


def rates(optimizer, schedule, steps):
    """Both groups' learning rates at each step, and after the last."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.after_step()
    return torch.tensor([*seen, [group["lr"] for group in optimizer.param_groups]], dtype=torch.float64)


def test_constant_does_not_change_the_optimizer(optimizer):
    before = copy.deepcopy(optimizer.state_dict())
    schedule = schedule_for(optimizer, "constant", **SCHEDULE)
    schedule.after_step()
    schedule.after_epoch(1.0)
    assert optimizer.state_dict() == before
    assert "step" not in vars(optimizer)
    assert schedule.state_dict() == {}
    schedule.load_state_dict({})
    assert schedule.learning_rate == 0.1


def test_constant_with_warmup_rises_linearly_first(optimizer):
    schedule = schedule_for(optimizer, "constant", **SCHEDULE | {"warmup_epochs": 0.75})
    seen = rates(optimizer, schedule, 12)
    assert seen[:, 0].tolist() == pytest.approx([0.025, 0.05, 0.075] + [0.1] * 10)
    torch.testing.assert_close(seen[:, 1], seen[:, 0] / 2)


def test_cosine_reaches_0_at_the_end_of_the_last_step(optimizer):
    seen = rates(optimizer, schedule_for(optimizer, "cosine", **SCHEDULE), 12)
    expected = [0.05 * (1 + math.cos(math.pi * step / 12)) for step in range(13)]
    assert seen[:, 0].tolist() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(seen[:, 1], seen[:, 0] / 2)


def test_cosine_with_warmup_rises_first(optimizer):
    schedule = schedule_for(optimizer, "cosine", **SCHEDULE | {"warmup_epochs": 1})
    assert schedule.learning_rate == pytest.approx(0.02)
    seen = rates(optimizer, schedule, 12)[:, 0].tolist()
    assert seen[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert seen[4:] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(9)], abs=1e-12
    )
    assert schedule.learning_rate == pytest.approx(0, abs=1e-12)


def test_one_cycle_is_torchs_with_each_groups_own_peak(optimizer):
    other = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(other, 0.1, total_steps=12, cycle_momentum=False)
    schedule = schedule_for(optimizer, "one_cycle", **SCHEDULE)
    seen = rates(optimizer, schedule, 12)
    expected = []
    for _ in range(12):
        expected.append(other.param_groups[0]["lr"])
        other.step()
        theirs.step()
    assert seen[:12, 0].tolist() == pytest.approx(expected)
    assert seen[12, 0] == seen[11, 0] == seen[:, 0].min()
    assert seen[:, 0].max().item() == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(seen[:, 1], seen[:, 0] / 2)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_plateau_divides_by_ten_after_its_patience(optimizer):
    schedule = schedule_for(optimizer, "plateau", **SCHEDULE)
    seen = []
    # 1.0 is the best; the patience is one epoch; lower is better below 0 too.
    for loss in (1.0, 1.0, 1.1, 0.999, -0.5, -0.50001, float("nan"), -0.2):
        schedule.after_step()
        schedule.after_epoch(loss)
        seen.append(schedule.learning_rate)
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.001])
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.0005)


@pytest.mark.parametrize("optimizer_first", [True, False])
@pytest.mark.parametrize(
    ("name", "warmup"),
    [("constant", 0), ("constant", 1.5), ("cosine", 0.5), ("one_cycle", 0), ("plateau", 0)],
)
def test_a_restored_schedule_continues_as_an_uninterrupted_one(
    optimizer, tmp_path, name, warmup, optimizer_first
):
    settings = SCHEDULE | {"warmup_epochs": warmup, "plateau_patience": 0}
    losses = [1.0, 1.5, 1.2]
    other = copy.deepcopy(optimizer)

    def epoch(optimizer, schedule, number):
        seen = rates(optimizer, schedule, 4)
        schedule.after_epoch(losses[number])
        return seen

    whole = schedule_for(optimizer, name, **settings)
    expected = [epoch(optimizer, whole, number) for number in range(3)][2]

    stopped = schedule_for(other, name, **settings)
    for number in range(2):
        epoch(other, stopped, number)
    torch.save({"optimizer": other.state_dict(), "schedule": stopped.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    fresh = torch.optim.Adam(
        [{"params": [nn.Parameter(torch.zeros(1)) for _ in range(2)], "lr": rate} for rate in (0.1, 0.05)]
    )
    if optimizer_first:
        fresh.load_state_dict(state["optimizer"])
        schedule = schedule_for(fresh, name, **settings)
    else:
        schedule = schedule_for(fresh, name, **settings)
        fresh.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.testing.assert_close(epoch(fresh, schedule, 2), expected, rtol=0, atol=0)
    assert schedule.learning_rate == whole.learning_rate


def test_it_works_with_the_optimizer_that_fabric_steps(optimizer):
    net = nn.Linear(2, 1)
    own = torch.optim.Adam(net.parameters(), lr=0.1)
    schedule = schedule_for(own, "cosine", **SCHEDULE)
    fabric = Fabric(accelerator="cpu", devices=1)
    net, wrapped = fabric.setup(net, own)
    for _ in range(12):
        net(torch.ones(1, 2)).sum().backward()
        wrapped.step()
        schedule.after_step()
    assert wrapped.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_a_skipped_first_step_gives_no_warning(optimizer):
    schedule = schedule_for(optimizer, "cosine", **SCHEDULE)
    schedule.after_step()  # as when 16-bit gradients overflow; a warning would fail this test
    assert schedule.learning_rate < 0.1


def test_more_steps_than_the_run_has_change_nothing(optimizer):
    schedule = schedule_for(optimizer, "cosine", **SCHEDULE)
    seen = rates(optimizer, schedule, 15)[:, 0]
    assert seen[12:].tolist() == pytest.approx([0] * 4, abs=1e-12)


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_a_run_of_one_step_has_a_schedule(optimizer, name):
    schedule = schedule_for(optimizer, name, **SCHEDULE | {"num_epochs": 1, "steps_per_epoch": 1})
    rates(optimizer, schedule, 1)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cosin", {}, r"schedule: 'cosin' must be 'constant', 'cosine'"),
        ("one_cycle", {"warmup_epochs": 1}, "warmup_epochs: the schedule one_cycle has a rise of its own"),
        ("plateau", {"warmup_epochs": 1}, "warmup_epochs: the schedule plateau has no warm-up"),
        ("cosine", {"warmup_epochs": 3}, r"warmup_epochs: 3 must be less than num_epochs \(3\)"),
    ],
)
def test_an_impossible_schedule_is_an_error(optimizer, name, changes, message):
    with pytest.raises(HilumError, match=message):
        schedule_for(optimizer, name, **SCHEDULE | changes)
