import numpy as np
import pytest
import torch

from hilum.config import TrainingSettings
from hilum.errors import HilumError
from hilum.training.losses import (
    AsymmetricLoss,
    AUCMarginLoss,
    FocalLoss,
    MaskedBCEWithLogitsLoss,
    MultiClassLoss,
    make_loss,
)

WEIGHTS = torch.tensor([2.0, 3.0])


def make(name, loss_kwargs=None, reduction="mean", **changes):
    settings = TrainingSettings(loss=name, loss_kwargs=loss_kwargs or {}, loss_reduction=reduction)
    usual = {
        "pos_weight": None,
        "prevalence": np.array([0.2, 0.4]),
        "classed": np.array([False, False]),
        "targets": ("Edema", "Mass"),
    }
    return make_loss(settings, **usual | changes)


def test_each_name_gives_its_loss_with_its_settings():
    bce = make("bce", pos_weight=WEIGHTS, reduction="sum")
    assert type(bce) is MaskedBCEWithLogitsLoss
    assert bce.reduction == "sum"
    assert bce.pos_weight is WEIGHTS
    focal = make("focal", {"gamma": 3, "alpha": 0.25})
    assert type(focal) is FocalLoss
    assert (focal.gamma, focal.alpha) == (3, 0.25)
    asymmetric = make("asymmetric", {"gamma_neg": 2, "clip": 0, "focus_gradient": 0}, reduction="sum")
    assert type(asymmetric) is AsymmetricLoss
    assert (asymmetric.gamma_neg, asymmetric.clip, asymmetric.focus_gradient) == (2, 0, False)
    assert asymmetric.reduction == "sum"
    auc = make("auc_margin", {"margin": 0.5})
    assert type(auc) is AUCMarginLoss
    assert auc.margin == 0.5
    assert auc.prevalence.tolist() == pytest.approx([0.2, 0.4])


def test_targets_with_three_classes_have_a_loss_for_them():
    loss = make("bce", classed=np.array([False, True]), pos_weight=WEIGHTS)
    assert type(loss) is MultiClassLoss
    assert loss.outputs == 4
    labels = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])
    assert loss.weight(labels) == 3


def test_pieces_of_a_batch_with_three_classes_make_up_the_whole():
    loss = make("bce", classed=np.array([False, True]))
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2], [float("nan"), 0], [0, 1], [0, float("nan")], [1, 1]])
    pieces = list(zip(outputs.split([2, 3]), labels.split([2, 3]), strict=True))
    joined = sum(loss(*piece) * loss.weight(piece[1]) for piece in pieces) / loss.weight(labels)
    torch.testing.assert_close(joined, loss(outputs, labels))


def test_three_classes_in_16_bits_are_computed_with_in_float32():
    loss = make("bce", classed=np.array([False, True]))
    outputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(loss(outputs, labels), loss(outputs.float(), labels), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("focus", {}, r"Setting loss: 'focus' must be 'bce', 'focal', 'asymmetric' or 'auc_margin'"),
        ("bce", {"gamma": 2}, r"loss_kwargs: bce has no setting 'gamma'\. It takes none\."),
        (
            "focal",
            {"gama": 2},
            r"focal has no setting 'gama'\. Did you mean 'gamma'\? It takes gamma, alpha\.",
        ),
        (
            "asymmetric",
            {"reduction": 2},
            "asymmetric has no setting 'reduction'. It takes gamma_pos, gamma_neg",
        ),
        ("auc_margin", {"prevalence": 2}, r"auc_margin has no setting 'prevalence'\. It takes margin\."),
        ("focal", {"gamma": "2"}, "Setting loss_kwargs: '2' must be a number"),
        ("focal", {"gamma": True}, "Setting loss_kwargs: True must be a number"),
        ("auc_margin", {"margin": -1}, "loss_kwargs: margin must be above 0; it is -1"),
    ],
)
def test_what_a_loss_does_not_take_is_refused(name, kwargs, message):
    with pytest.raises(HilumError, match=message):
        make(name, kwargs)


@pytest.mark.parametrize("name", ["focal", "asymmetric", "auc_margin"])
def test_weights_and_classes_are_for_bce_alone(name):
    with pytest.raises(HilumError, match=f"use_positivity_weights: loss {name} has no weights"):
        make(name, pos_weight=WEIGHTS)
    with pytest.raises(HilumError, match=f"loss {name}: Mass would have three classes"):
        make(name, classed=np.array([False, True]))
