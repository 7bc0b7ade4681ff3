"""What holds for every loss with a logit per target: unknown labels, pieces of a batch, 16-bit outputs."""

import numpy as np
import pytest
import torch

from hilum.errors import HilumError
from hilum.training.losses import make_loss

NAN = float("nan")
TARGETS = ("a", "b", "c", "d")
CASES = [
    ("bce", {}, None),
    ("bce", {}, torch.tensor([0.5, 1.0, 3.0, 20.0])),
    ("focal", {}, None),
    ("focal", {"gamma": 0.5, "alpha": 0.25}, None),
    ("asymmetric", {}, None),
    ("asymmetric", {"gamma_pos": 1, "gamma_neg": 0.5, "clip": 0.2, "focus_gradient": 0}, None),
    ("auc_margin", {"margin": 0.7}, None),
]
each_loss = pytest.mark.parametrize(("name", "kwargs", "pos_weight"), CASES)


def loss_of(name, kwargs, pos_weight=None, reduction="mean"):
    return make_loss(
        name,
        kwargs,
        reduction=reduction,
        pos_weight=pos_weight,
        prevalence=np.array([0.1, 0.3, 0.5, 0.9]),
        classed=np.zeros(4, dtype=bool),
        targets=TARGETS,
    )


@pytest.fixture
def some_unknown(labels):
    labels[[0, 2, 2, 8], [1, 0, 3, 3]] = NAN
    labels[1] = NAN
    return labels


@each_loss
def test_the_mean_is_over_known_labels_and_the_sum_is_so_many_times_as_much(
    logits, some_unknown, name, kwargs, pos_weight
):
    mean, total = (loss_of(name, kwargs, pos_weight, reduction) for reduction in ("mean", "sum"))
    assert (mean.reduction, total.reduction) == ("mean", "sum")
    assert mean.weight(some_unknown).item() == total.weight(some_unknown).item() == 28
    torch.testing.assert_close(28 * mean(logits, some_unknown), total(logits, some_unknown))


@each_loss
def test_what_stands_at_an_unknown_label_changes_nothing_and_learns_nothing(
    logits, some_unknown, name, kwargs, pos_weight
):
    loss = loss_of(name, kwargs, pos_weight)
    unknown = some_unknown.isnan()
    other = torch.where(unknown, 7.0, logits).requires_grad_()
    value = loss(other, some_unknown)
    torch.testing.assert_close(value, loss(logits, some_unknown), rtol=0, atol=0)
    value.backward()
    assert (other.grad[unknown] == 0).all()
    assert other.grad.isfinite().all()


@each_loss
def test_the_loss_of_a_batch_is_that_of_its_pieces_by_their_weights(
    logits, some_unknown, name, kwargs, pos_weight
):
    mean, total = (loss_of(name, kwargs, pos_weight, reduction).double() for reduction in ("mean", "sum"))
    logits, labels = logits.double(), some_unknown.double()
    pieces = list(zip(logits.split([1, 1, 4, 3]), labels.split([1, 1, 4, 3]), strict=True))
    weights = [mean.weight(labels) for _, labels in pieces]
    assert weights[1] == 0
    joined = sum(mean(*piece) * weight for piece, weight in zip(pieces, weights, strict=True)) / sum(weights)
    torch.testing.assert_close(joined, mean(logits, labels), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        sum(total(*piece) for piece in pieces), total(logits, labels), rtol=1e-12, atol=0
    )


@each_loss
def test_16_bit_logits_are_computed_with_in_float32(logits, labels, name, kwargs, pos_weight):
    loss = loss_of(name, kwargs, pos_weight)
    coarse = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(coarse, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(coarse.float(), labels), rtol=0, atol=0)


@each_loss
@pytest.mark.parametrize("size", [0.0, 30.0, 200.0])
def test_extreme_logits_have_finite_losses_and_gradients(name, kwargs, pos_weight, size):
    logits = torch.tensor([[size, -size] * 2] * 2, requires_grad=True)
    value = loss_of(name, kwargs, pos_weight)(logits, torch.tensor([[0.0] * 4, [1.0] * 4]))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@each_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_of_unknown_labels_costs_nothing(logits, name, kwargs, pos_weight, reduction):
    assert loss_of(name, kwargs, pos_weight, reduction)(logits, torch.full((9, 4), NAN)) == 0


@each_loss
def test_the_gradient_is_the_slope(logits, some_unknown, name, kwargs, pos_weight):
    if kwargs.get("focus_gradient") == 0:
        pytest.skip("this gradient leaves a factor out on purpose")
    loss = loss_of(name, kwargs, pos_weight).double()
    some_unknown[4, 2] = 0.6
    inputs = (logits.double() / 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: loss(logits, some_unknown.double()), inputs)


@each_loss
def test_targets_logits_are_the_outputs(logits, name, kwargs, pos_weight):
    assert loss_of(name, kwargs, pos_weight).target_logits(logits) is logits


@each_loss
def test_another_number_of_outputs_is_refused(labels, name, kwargs, pos_weight):
    with pytest.raises(HilumError, match=r"outputs of shape \(9, 5\); the run needs \(9, 4\)"):
        loss_of(name, kwargs, pos_weight)(torch.zeros(9, 5), labels)
