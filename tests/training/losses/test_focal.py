import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from hilum.errors import HilumError
from hilum.training.losses import AsymmetricLoss, FocalLoss


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.0, 0.6), (3.5, None), (0.5, 1.0)])
def test_focal_loss_is_torchvisions(logits, labels, reduction, gamma, alpha):
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = FocalLoss(gamma, alpha, reduction)(ours, labels)
    expected = sigmoid_focal_loss(theirs, labels, -1 if alpha is None else alpha, gamma, reduction)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_default_is_gamma_2_without_alpha(logits, labels):
    torch.testing.assert_close(FocalLoss()(logits, labels), FocalLoss(2.0, None)(logits, labels))


def test_without_gamma_it_is_binary_cross_entropy_for_smoothed_labels_too(logits, labels):
    labels = labels * 0.8 + 0.1
    torch.testing.assert_close(
        FocalLoss(0)(logits, labels), functional.binary_cross_entropy_with_logits(logits, labels)
    )


def test_a_smoothed_label_is_positive_by_its_share(logits):
    share, ones = torch.full((9, 4), 0.7), torch.ones(9, 4)
    loss = FocalLoss(2, 0.3)
    torch.testing.assert_close(
        loss(logits, share), 0.7 * loss(logits, ones) + 0.3 * loss(logits, torch.zeros(9, 4))
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -1}, "gamma must be 0 or more; it is -1"),
        ({"gamma": float("nan")}, "gamma must be 0 or more; it is nan"),
        ({"alpha": 1.5}, r"alpha must be within 0\.\.1; it is 1\.5"),
    ],
)
def test_impossible_values_are_refused(settings, message):
    with pytest.raises(HilumError, match=f"^loss_kwargs: {message}"):
        FocalLoss(**settings)


@pytest.mark.parametrize("focus_gradient", [1, 0])
@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "clip"), [(0, 4, 0.05), (1, 4, 0.05), (0, 0, 0), (2, 1, 0.3), (1, 2, 0)]
)
def test_asymmetric_loss_on_labels_of_0_and_1_is_timms(
    logits, labels, focus_gradient, gamma_pos, gamma_neg, clip
):
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


def test_the_defaults_of_asymmetric_loss_are_the_papers(logits, labels):
    torch.testing.assert_close(
        AsymmetricLoss()(logits, labels), AsymmetricLoss(0, 4, 0.05, 1)(logits, labels)
    )


def test_far_out_asymmetric_loss_keeps_the_slope_that_timms_floor_of_probabilities_takes():
    logits = torch.tensor([[-30.0]], requires_grad=True)
    loss = AsymmetricLoss(0, 4, 0.05)(logits, torch.ones(1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(30)
    assert logits.grad.item() == pytest.approx(-1)


def test_asymmetric_loss_with_one_gamma_and_no_margin_is_focal_loss(logits, labels):
    smooth = labels * 0.6 + 0.2
    torch.testing.assert_close(AsymmetricLoss(2, 2, 0)(logits, smooth), FocalLoss(2)(logits, smooth))


def test_asymmetric_loss_without_gammas_and_margin_is_binary_cross_entropy(logits, labels):
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
def test_impossible_values_of_asymmetric_loss_are_refused(settings, message):
    with pytest.raises(HilumError, match=f"^loss_kwargs: {message}"):
        AsymmetricLoss(**settings)
