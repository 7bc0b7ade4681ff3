import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from hilum.errors import HilumError
from hilum.training.losses import FocalLoss


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (2.0, 0.25), (0.0, 0.6), (3.5, None), (0.5, 1.0)])
def test_it_is_torchvisions(logits, labels, reduction, gamma, alpha):
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
