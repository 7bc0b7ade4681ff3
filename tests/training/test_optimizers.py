"""A plain Adam is torch's, bit for bit; stages and the loss's parameters are groups of their own."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.training.losses import AUCMarginLoss, MaskedBCEWithLogitsLoss
from hilum.training.optimizers import learning_rates, make_optimizer

USUAL = {"name": "adam", "learning_rate": 0.01, "l2_reg": 0.1, "momentum": 0.8}


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
    optimizer = make_optimizer(net, MaskedBCEWithLogitsLoss(), **USUAL | {"name": name})
    theirs = peer(other)
    step(net, optimizer)
    step(other, theirs)
    for ours, expected in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, expected)
    assert optimizer.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]
    assert learning_rates(optimizer) == {"net": 0.01}


def test_stages_are_of_no_account_without_layer_decay(net, stages):
    optimizer = make_optimizer(net, MaskedBCEWithLogitsLoss(), stages=stages, **USUAL)
    assert len(optimizer.param_groups) == 1


def test_each_stage_away_from_the_head_learns_more_slowly(net, stages):
    optimizer = make_optimizer(net, MaskedBCEWithLogitsLoss(), layer_decay=0.5, stages=stages, **USUAL)
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
def test_the_losss_parameters_are_a_group_that_does_not_decay(net, auc, stages, name):
    plain = make_optimizer(net, auc, **USUAL | {"name": name})
    assert learning_rates(plain) == {"net": 0.01, "criterion": 0.01}
    staged = make_optimizer(net, auc, layer_decay=0.5, stages=stages, **USUAL | {"name": name})
    assert list(learning_rates(staged)) == ["head", "middle", "stem", "criterion"]
    for optimizer in (plain, staged):
        assert [group["weight_decay"] for group in optimizer.param_groups][-2:] == [0.1, 0.0]
    before = auc.alpha.clone()
    step(net, plain, auc)
    assert not torch.equal(auc.alpha, before)


def test_momentum_is_sgds_alone(net):
    sgd = make_optimizer(net, MaskedBCEWithLogitsLoss(), **USUAL | {"name": "sgd"})
    assert sgd.param_groups[0]["momentum"] == 0.8
    assert "momentum" not in make_optimizer(net, MaskedBCEWithLogitsLoss(), **USUAL).param_groups[0]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_fused_is_one_kernel_with_the_same_result(net, auc, name):
    other = copy.deepcopy(net)
    fused = make_optimizer(net, MaskedBCEWithLogitsLoss(), fused=True, **USUAL | {"name": name})
    assert fused.param_groups[0]["fused"] is True
    step(net, fused)
    step(other, make_optimizer(other, MaskedBCEWithLogitsLoss(), **USUAL | {"name": name}))
    for ours, expected in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_layer_decay_needs_stages(net):
    with pytest.raises(
        HilumError, match=r"layer_decay: 0\.5 needs to know the stages .* Sequential are not known"
    ):
        make_optimizer(net, MaskedBCEWithLogitsLoss(), layer_decay=0.5, **USUAL)


def test_stages_that_leave_a_parameter_out_are_our_own_mistake(net, stages):
    with pytest.raises(AssertionError, match="each parameter of the network once"):
        make_optimizer(net, MaskedBCEWithLogitsLoss(), layer_decay=0.5, stages=stages[:2], **USUAL)


def test_an_unknown_optimizer_is_refused(net):
    with pytest.raises(HilumError, match=r"there is no optimizer 'adamww'\. Did you mean 'adamw'\?"):
        make_optimizer(net, MaskedBCEWithLogitsLoss(), **USUAL | {"name": "adamww"})
