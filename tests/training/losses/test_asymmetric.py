import pytest
import torch
from torch.nn import functional

from hilum.errors import HilumError
from hilum.training.losses import AsymmetricLoss, FocalLoss


@pytest.mark.parametrize("focus_gradient", [1, 0])
@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "clip"), [(0, 4, 0.05), (1, 4, 0.05), (0, 0, 0), (2, 1, 0.3), (1, 2, 0)]
)
def test_on_labels_of_0_and_1_it_is_timms(logits, labels, focus_gradient, gamma_pos, gamma_neg, clip):
    timm = pytest.importorskip("timm.loss")
    logits = logits / 3  # farther out, timm's 1 - p rounds
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = AsymmetricLoss(gamma_pos, gamma_neg, clip, focus_gradient)(ours, labels)
    peer = timm.AsymmetricLossMultiLabel(
        gamma_neg, gamma_pos, clip, disable_torch_grad_focal_loss=not focus_gradient, reduction="mean"
    )
    expected = peer(theirs, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


def test_the_defaults_are_the_papers(logits, labels):
    torch.testing.assert_close(
        AsymmetricLoss()(logits, labels), AsymmetricLoss(0, 4, 0.05, 1)(logits, labels)
    )


def test_far_out_it_keeps_the_slope_that_timms_floor_of_probabilities_takes():
    logits = torch.tensor([[-30.0]], requires_grad=True)
    loss = AsymmetricLoss(0, 4, 0.05)(logits, torch.ones(1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(30)
    assert logits.grad.item() == pytest.approx(-1)


def test_with_one_gamma_and_no_margin_it_is_focal_loss(logits, labels):
    smooth = labels * 0.6 + 0.2
    torch.testing.assert_close(AsymmetricLoss(2, 2, 0)(logits, smooth), FocalLoss(2)(logits, smooth))


def test_without_gammas_and_margin_it_is_binary_cross_entropy(logits, labels):
    torch.testing.assert_close(
        AsymmetricLoss(0, 0, 0)(logits, labels), functional.binary_cross_entropy_with_logits(logits, labels)
    )


def test_a_negative_within_the_margin_costs_and_teaches_nothing():
    logits = torch.logit(torch.tensor([[0.04, 0.06]])).requires_grad_()
    AsymmetricLoss(clip=0.05, reduction="sum")(logits, torch.zeros(1, 2)).backward()
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma_pos": -0.5}, "gamma_pos must be 0 or more; it is -0.5"),
        ({"gamma_neg": -1}, "gamma_neg must be 0 or more; it is -1"),
        ({"clip": 1}, "clip must be 0 or more and below 1; it is 1"),
        ({"focus_gradient": 0.5}, "focus_gradient must be 0 or 1; it is 0.5"),
    ],
)
def test_impossible_values_are_refused(settings, message):
    with pytest.raises(HilumError, match=f"^loss_kwargs: {message}"):
        AsymmetricLoss(**settings)
