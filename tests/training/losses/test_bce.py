"""The loss is torch's where all labels are known, and of the known entries where some are not."""

import numpy as np
import pytest
import torch
from torch import nn

from hilum.config import TrainingSettings
from hilum.errors import HilumError
from hilum.training.losses import make_loss
from hilum.training.losses.bce import MaskedBCEWithLogitsLoss, positivity_weights

NAN = float("nan")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("pos_weight", [None, torch.tensor([0.5, 1.0, 3.0, 20.0])])
def test_with_all_labels_known_it_is_torchs(logits, labels, reduction, pos_weight):
    ours = MaskedBCEWithLogitsLoss(pos_weight, reduction)
    torchs = nn.BCEWithLogitsLoss(pos_weight=pos_weight, reduction=reduction)
    torch.testing.assert_close(ours(logits, labels), torchs(logits, labels))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("pos_weight", [None, torch.tensor([0.5, 1.0, 3.0, 20.0])])
def test_with_unknown_labels_it_is_that_of_the_known_entries(logits, labels, reduction, pos_weight):
    labels[[0, 2, 2, 8], [1, 0, 3, 3]] = NAN
    known = ~labels.isnan()
    weights = None if pos_weight is None else pos_weight.expand_as(labels)[known]
    torchs = nn.BCEWithLogitsLoss(pos_weight=weights, reduction=reduction)
    expected = torchs(logits[known], labels[known])
    torch.testing.assert_close(MaskedBCEWithLogitsLoss(pos_weight, reduction)(logits, labels), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_gradient_flows_through_unknown_labels(logits, labels, reduction):
    labels[3, 2] = labels[5] = NAN
    logits.requires_grad_()
    MaskedBCEWithLogitsLoss(reduction=reduction)(logits, labels).backward()
    assert (logits.grad[labels.isnan()] == 0).all()
    assert (logits.grad[~labels.isnan()] != 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_without_any_known_label_costs_nothing_and_teaches_nothing(logits, reduction):
    logits.requires_grad_()
    loss = MaskedBCEWithLogitsLoss(reduction=reduction)(logits, torch.full((9, 4), NAN))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_extreme_logits_stay_finite(size):
    logits = torch.full((2, 1), size, requires_grad=True)
    loss = MaskedBCEWithLogitsLoss()(logits, torch.tensor([[0.0], [1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(100)
    assert logits.grad.isfinite().all()


def test_outputs_of_another_shape_than_the_labels_are_refused():
    with pytest.raises(HilumError, match=r"outputs of shape \(4, 5\); the run needs \(4, 12\)"):
        MaskedBCEWithLogitsLoss()(torch.zeros(4, 5), torch.zeros(4, 12))


def test_positivity_weights_are_negatives_over_positives_of_the_known_labels():
    labels = np.array([[1, 0], [0, 1], [0, 1], [0, np.nan], [np.nan, 1]])
    torch.testing.assert_close(positivity_weights(labels, ("a", "b")), torch.tensor([3.0, 1 / 3]))


def test_a_target_without_a_positive_image_cannot_be_weighed_and_is_named():
    labels = np.array([[1, 0, 0], [0, 0, np.nan]])
    with pytest.raises(HilumError, match=r"use_positivity_weights: .* no positive image of b, c"):
        positivity_weights(labels, ("a", "b", "c"))


def test_positivity_weights_count_an_image_as_often_as_it_is_drawn():
    labels = np.array([[1.0], [0.0], [0.0]])
    assert positivity_weights(labels, ("Edema",), np.array([4.0, 1.0, 1.0])).tolist() == [0.5]


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
        TrainingSettings(loss=name, loss_kwargs=kwargs, loss_reduction=reduction),
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
