"""Losses on raw logits and labels from 0 to 1, with NaN for unknown labels.

Each loss except the one for three classes has a term per image and target (`MaskedLoss`).
"""

import inspect

import numpy as np
import torch

from hilum.config import TrainingSettings
from hilum.errors import HilumError, nearest
from hilum.training.losses.asymmetric import AsymmetricLoss
from hilum.training.losses.auc_margin import AUCMarginLoss
from hilum.training.losses.bce import MaskedBCEWithLogitsLoss, MaskedLoss, positivity_weights
from hilum.training.losses.focal import FocalLoss
from hilum.training.losses.multiclass import MultiClassLoss

#: Name in the settings -> loss.
LOSSES: dict[str, type[MaskedLoss]] = {
    "bce": MaskedBCEWithLogitsLoss,
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "auc_margin": AUCMarginLoss,
}

#: Arguments that the run gives to a loss, which are not settings of the loss.
_GIVEN = {"self", "reduction", "pos_weight", "prevalence", "targets"}

__all__ = [
    "LOSSES",
    "AUCMarginLoss",
    "AsymmetricLoss",
    "FocalLoss",
    "MaskedBCEWithLogitsLoss",
    "MaskedLoss",
    "MultiClassLoss",
    "make_loss",
    "positivity_weights",
]


def make_loss(
    settings: TrainingSettings,
    *,
    targets: tuple[str, ...],
    classed: np.ndarray,
    prevalence: np.ndarray,
    pos_weight: torch.Tensor | None = None,
) -> MaskedLoss:
    """The loss of a run.

    Args:
        settings: `loss`, `loss_kwargs` and `loss_reduction`.
        targets: names, for the messages.
        classed: bool (targets,), the targets that have three classes; only bce has a loss for them.
        prevalence: (targets,) fraction of positives among the known labels of the training part.
        pos_weight: (targets,) factors on the positive labels' terms, for bce; None for none.

    Raises:
        HilumError: an argument that the loss does not have or cannot use; weights of the positives or targets
            with three classes for another loss than bce.
    """
    name, reduction = settings.loss, settings.loss_reduction
    known = [key for key in inspect.signature(LOSSES[name]).parameters if key not in _GIVEN]
    for key in settings.loss_kwargs:
        if key not in known:
            takes = f"{nearest(key, known)} It takes {', '.join(known) or 'none'}."
            raise HilumError(f"loss_kwargs: {name} has no setting {key!r}.{takes}")
    if name == "bce":
        if classed.any():
            return MultiClassLoss(torch.from_numpy(classed), pos_weight, reduction)
        return MaskedBCEWithLogitsLoss(pos_weight, reduction)
    if pos_weight is not None:
        raise HilumError(
            f"use_positivity_weights: loss {name} has no weights of the positive labels. "
            "Leave out use_positivity_weights, or choose loss bce."
        )
    if classed.any():
        raise HilumError(
            f"loss {name}: {', '.join(np.array(targets)[classed])} would have three classes (uncertain_policy), "
            "which only loss bce can learn. Choose bce, or another uncertain_policy."
        )
    if name == "auc_margin":
        return AUCMarginLoss(prevalence, targets, reduction=reduction, **settings.loss_kwargs)
    return LOSSES[name](reduction=reduction, **settings.loss_kwargs)
