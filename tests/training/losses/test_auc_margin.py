"""The loss is LibAUC's for the same a, b and alpha; trained, it sets them and orders the scores."""

import copy

import numpy as np
import pytest
import torch

from hilum.errors import HilumError
from hilum.training.losses import AUCMarginLoss

NAN = float("nan")
PREVALENCE = np.array([0.1, 0.3, 0.5, 0.9])
TARGETS = ("Edema", "Mass", "Hernia", "Mine")


def loss_with(margin=1.0, **values) -> AUCMarginLoss:
    loss = AUCMarginLoss(PREVALENCE, TARGETS, margin=margin)
    with torch.no_grad():
        for name, value in values.items():
            getattr(loss, name).copy_(torch.tensor(value))
    return loss


VALUES = {"a": [0.6, 0.2, 0.9, 0.5], "b": [0.1, 0.3, 0.4, 0.2], "alpha": [0.0, 0.7, 1.1, 2.0]}


def by_definition(logits, labels, margin):
    """Expectations written out as in the paper, one target at a time; then the mean over targets."""
    losses = []
    for target, p in enumerate(PREVALENCE):
        h, y = torch.sigmoid(logits[:, target]), labels[:, target]
        a, b, alpha = (VALUES[name][target] for name in ("a", "b", "alpha"))
        positive, negative = (y == 1).float(), (y == 0).float()
        losses.append(
            (
                (1 - p) * (h - a) ** 2 * positive
                + p * (h - b) ** 2 * negative
                + 2 * alpha * (p * (1 - p) * margin + p * h * negative - (1 - p) * h * positive)
                - p * (1 - p) * alpha**2
            ).mean()
        )
    return torch.stack(losses).mean()


@pytest.mark.parametrize("margin", [1.0, 0.6])
def test_it_is_the_papers_mean_over_targets(logits, labels, margin):
    loss = loss_with(margin, **VALUES)(logits, labels)
    assert loss.item() == pytest.approx(by_definition(logits, labels, margin).item(), rel=1e-5)


@pytest.mark.parametrize("margin", [1.0, 0.6])
def test_it_is_libaucs_with_the_same_gradients_but_for_alphas_sign(logits, labels, margin):
    libauc = pytest.importorskip("libauc.losses")
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = loss_with(margin, **VALUES)
    value = loss(ours, labels)
    value.backward()
    peers = []
    expected = 0
    for target, p in enumerate(PREVALENCE):
        peer = libauc.AUCMLoss(margin=margin, imratio=p, device="cpu")
        for name in ("a", "b", "alpha"):
            getattr(peer, name).data.fill_(VALUES[name][target])
        scores = torch.sigmoid(theirs[:, target : target + 1])
        expected = expected + peer(scores, labels[:, target : target + 1], auto=False).squeeze() / len(
            TARGETS
        )
        peers.append(peer)
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    for name, sign in (("a", 1), ("b", 1), ("alpha", -1)):
        gradient = torch.cat([getattr(peer, name).grad for peer in peers])
        torch.testing.assert_close(getattr(loss, name).grad, sign * gradient)


def test_it_is_libaucs_multi_label_loss_at_its_margin_of_1(logits, labels):
    libauc = pytest.importorskip("libauc.losses")
    peer = libauc.MultiLabelAUCMLoss(imratio=PREVALENCE.tolist(), num_labels=4, device="cpu")
    for name, values in VALUES.items():
        setattr(peer, name, torch.tensor(values))
    expected = peer(torch.sigmoid(logits), labels, auto=False)
    torch.testing.assert_close(loss_with(**VALUES)(logits, labels), expected)


def test_alpha_climbs_where_a_and_b_descend_and_stays_at_0_or_more(logits, labels):
    loss = loss_with(**VALUES)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    loss(logits, labels).backward()
    before = {name: value.clone() for name, value in loss.named_parameters()}
    slope = {}
    for name in ("a", "b", "alpha"):
        changed = copy.deepcopy(loss)
        with torch.no_grad():
            getattr(changed, name).add_(1e-3)
            slope[name] = (changed(logits, labels) - loss(logits, labels)).sign()
    optimizer.step()
    loss.after_step()
    assert torch.sign((loss.a - before["a"]).sum()) == -slope["a"]
    assert torch.sign((loss.b - before["b"]).sum()) == -slope["b"]
    assert torch.sign((loss.alpha - before["alpha"]).sum()) == slope["alpha"]

    with torch.no_grad():
        loss.alpha.copy_(torch.tensor([-0.5, 0.2, -1e-9, 3.0]))
    loss.after_step()
    assert loss.alpha.tolist() == pytest.approx([0, 0.2, 0, 3])


def test_a_copy_turns_alphas_gradient_too(logits, labels):
    loss = loss_with(**VALUES)
    other = copy.deepcopy(loss)
    loss(logits, labels).backward()
    other(logits, labels).backward()
    torch.testing.assert_close(loss.alpha.grad, other.alpha.grad)


def test_it_starts_at_the_saddle_point_of_scores_of_one_half():
    labels = (
        torch.rand(1000, 4, generator=torch.Generator().manual_seed(2)) < torch.tensor(PREVALENCE)
    ).float()
    loss = AUCMarginLoss(labels.mean(0).numpy(), TARGETS, margin=0.8)
    loss(torch.zeros(1000, 4), labels).backward()
    for parameter in loss.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros(4), rtol=0, atol=1e-6)


def test_its_state_is_restored():
    loss, fresh = loss_with(**VALUES), loss_with()
    assert set(loss.state_dict()) == {"a", "b", "alpha", "prevalence"}
    fresh.load_state_dict(loss.state_dict())
    torch.testing.assert_close(fresh.alpha.detach(), torch.tensor(VALUES["alpha"]))


def test_training_with_it_brings_positives_above_negatives():
    generator = torch.Generator().manual_seed(3)
    labels = (torch.rand(400, 1, generator=generator) < 0.1).float()
    features = torch.randn(400, 5, generator=generator) + labels
    loss = AUCMarginLoss(labels.mean(0).numpy(), ("Mine",))
    net = torch.nn.Linear(5, 1)
    torch.nn.init.zeros_(net.weight)
    optimizer = torch.optim.Adam([*net.parameters(), *loss.parameters()], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss(net(features), labels).backward()
        optimizer.step()
        loss.after_step()
    scores = torch.sigmoid(net(features)).detach()
    positives, negatives = scores[labels == 1], scores[labels == 0]
    assert (positives[:, None] > negatives).float().mean() > 0.9
    assert loss.a.item() == pytest.approx(positives.mean().item(), abs=0.05)
    assert loss.b.item() == pytest.approx(negatives.mean().item(), abs=0.05)


@pytest.mark.parametrize("share", [0.0, 1.0, NAN])
def test_a_target_of_one_kind_only_is_named(share):
    with pytest.raises(HilumError, match=r"only one kind of Hernia\. Leave the target out of target_columns"):
        AUCMarginLoss(np.array([0.1, 0.3, share, 0.9]), TARGETS)


@pytest.mark.parametrize("margin", [0, -1, NAN, float("inf")])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(HilumError, match="loss_kwargs: margin must be above 0; it is"):
        AUCMarginLoss(PREVALENCE, TARGETS, margin=margin)
