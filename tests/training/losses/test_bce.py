"""The loss is torch's where all labels are known, and of the known entries where some are not."""

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import HilumError
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
