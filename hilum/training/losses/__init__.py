"""A name and its settings → a loss on raw logits and labels from 0 to 1, with NaN for the unknown ones.

Each loss but the one for three classes gives a term per image and target (`MaskedLoss`).
"""

import inspect

import numpy as np
import torch

from hilum.errors import HilumError, nearest
from hilum.training.losses.asymmetric import AsymmetricLoss
from hilum.training.losses.auc_margin import AUCMarginLoss
from hilum.training.losses.bce import MaskedBCEWithLogitsLoss, MaskedLoss, positivity_weights
from hilum.training.losses.focal import FocalLoss
from hilum.training.losses.multiclass import MultiClassLoss

#: The losses that can be named.
LOSSES: dict[str, type[MaskedLoss]] = {
    "bce": MaskedBCEWithLogitsLoss,
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "auc_margin": AUCMarginLoss,
}

#: What the run itself gives to a loss, so that it is none of the loss's own settings.
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
    name: str,
    loss_kwargs: dict[str, float],
    *,
    reduction: str,
    pos_weight: torch.Tensor | None,
    prevalence: np.ndarray,
    classed: np.ndarray,
    targets: tuple[str, ...],
) -> MaskedLoss | MultiClassLoss:
    """The loss of a run.

    Args:
        name: a key of `LOSSES`.
        loss_kwargs: the loss's own settings.
        reduction: "mean" over the batch's known labels, or "sum".
        pos_weight: (targets,) factors on the positive labels' terms, for bce; None for none.
        prevalence: (targets,) share of positives among the known labels of the training part.
        classed: bool (targets,), which targets have three classes; only bce has a loss for them.
        targets: their names, for the messages.

    Raises:
        HilumError: an unknown loss, a setting it does not take or a value it cannot use; weights of the
            positives or targets with three classes for a loss that has no place for them.
    """
    if name not in LOSSES:
        raise HilumError(
            f"loss: there is no loss {name!r}.{nearest(name, LOSSES)} Known: {', '.join(LOSSES)}."
        )
    known = [key for key in inspect.signature(LOSSES[name]).parameters if key not in _GIVEN]
    for key, value in loss_kwargs.items():
        if key not in known:
            takes = f"It takes {', '.join(known)}." if known else "It takes none."
            raise HilumError(f"loss_kwargs: {name} has no setting {key!r}.{nearest(key, known)} {takes}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise HilumError(f"loss_kwargs: {key} must be a number; it is {value!r}.")
    if name != "bce" and pos_weight is not None:
        raise HilumError(
            f"use_positivity_weights: loss {name} has no weights of the positive labels. "
            "Leave the one or the other out."
        )
    if name != "bce" and classed.any():
        raise HilumError(
            f"loss {name}: {', '.join(np.array(targets)[classed])} would have three classes (uncertain_policy), "
            "which only loss bce can learn. Choose bce, or another uncertain_policy."
        )
    if name == "auc_margin":
        return AUCMarginLoss(prevalence, targets, reduction=reduction, **loss_kwargs)
    if name != "bce":
        return LOSSES[name](reduction=reduction, **loss_kwargs)
    if classed.any():
        return MultiClassLoss(torch.from_numpy(classed), pos_weight, reduction)
    return MaskedBCEWithLogitsLoss(pos_weight, reduction)
