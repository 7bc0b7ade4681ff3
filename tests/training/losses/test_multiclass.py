import pytest
import torch
from torch.nn import functional

from hilum.errors import HilumError
from hilum.training.losses.bce import MaskedBCEWithLogitsLoss
from hilum.training.losses.multiclass import MultiClassLoss

NAN = float("nan")
CLASSED = torch.tensor([False, True, False, True])
OUTPUTS = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[1.0, 2.0, 0.0, NAN], [0.0, 1.0, NAN, 0.0], [0.6, 0.0, 1.0, 2.0]])


def by_hand(weights=(1.0, 1.0, 1.0, 1.0)):
    """Each known label's loss, one at a time."""
    losses = []
    for outputs, labels in zip(OUTPUTS, LABELS, strict=True):
        for target, (label, weight) in enumerate(zip(labels, weights, strict=True)):
            if torch.isnan(label):
                continue
            if CLASSED[target]:
                place = [1, 3].index(target)
                classes = torch.stack([outputs[4 + place], outputs[target], outputs[6 + place]])
                loss = -functional.log_softmax(classes, dim=0)[int(label)]
                losses.append(loss * (weight if label == 1 else 1))
            else:
                losses.append(
                    functional.binary_cross_entropy_with_logits(
                        outputs[target], label, pos_weight=torch.tensor(weight)
                    )
                )
    return torch.stack(losses)


def test_it_is_cross_entropy_for_classed_targets_and_binary_for_the_others():
    assert MultiClassLoss(CLASSED)(OUTPUTS, LABELS) == pytest.approx(by_hand().mean().item(), rel=1e-6)
    assert MultiClassLoss(CLASSED, reduction="sum")(OUTPUTS, LABELS) == pytest.approx(
        by_hand().sum().item(), rel=1e-6
    )


def test_positive_weights_weigh_the_positive_labels_of_both_kinds():
    weights = (2.0, 3.0, 0.5, 4.0)
    loss = MultiClassLoss(CLASSED, torch.tensor(weights), reduction="sum")(OUTPUTS, LABELS)
    assert loss == pytest.approx(by_hand(weights).sum().item(), rel=1e-6)


def test_the_reported_probability_is_positive_among_positive_and_negative():
    logits = MultiClassLoss(CLASSED).target_logits(OUTPUTS)
    assert logits.shape == (3, 4)
    torch.testing.assert_close(logits[:, [0, 2]], OUTPUTS[:, [0, 2]])
    classes = torch.softmax(torch.stack([OUTPUTS[:, 5], OUTPUTS[:, 3], OUTPUTS[:, 7]], dim=1), dim=1)
    renormalized = classes[:, 1] / (classes[:, 0] + classes[:, 1])
    torch.testing.assert_close(torch.sigmoid(logits[:, 3]), renormalized)


def test_labels_left_out_have_no_gradient():
    outputs = OUTPUTS.clone().requires_grad_()
    MultiClassLoss(CLASSED)(outputs, LABELS).backward()
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[0, [3, 5, 7]].abs().sum() == 0
    assert outputs.grad[1, 2] == 0
    assert (outputs.grad[0, [1, 4, 6]] != 0).all()


def test_a_batch_without_any_known_label_costs_nothing():
    loss = MultiClassLoss(CLASSED)(OUTPUTS, torch.full((3, 4), NAN))
    assert loss == 0


def test_another_number_of_outputs_is_an_error():
    with pytest.raises(HilumError, match=r"shape \(3, 4\); the run needs \(3, 8\)"):
        MultiClassLoss(CLASSED)(OUTPUTS[:, :4], LABELS)


def test_without_classed_targets_it_is_the_binary_loss():
    none = torch.zeros(4, dtype=torch.bool)
    labels = LABELS.clamp(max=1)
    ours = MultiClassLoss(none)
    assert ours.outputs == 4
    torch.testing.assert_close(
        ours(OUTPUTS[:, :4], labels), MaskedBCEWithLogitsLoss()(OUTPUTS[:, :4], labels)
    )
