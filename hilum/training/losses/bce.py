"""The loss of multi-label training: one yes-or-no question per target."""

import numpy as np
import torch
from torch.nn import functional

from hilum.errors import HilumError
from hilum.training.losses.masked import MaskedLoss


class MaskedBCEWithLogitsLoss(MaskedLoss):
    """Binary cross-entropy on raw logits, over the labels that are known.

    The sigmoid is inside the loss, as in `torch.nn.BCEWithLogitsLoss`: log(sigmoid(x)) computed in one
    step stays finite where the two apart would round to log(0). So the model must not apply one itself.

    Args:
        pos_weight: (targets,) factors on the positive labels' terms; None for none.
        reduction: "mean" over the batch's known labels, or "sum".
    """

    def __init__(self, pos_weight: torch.Tensor | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("pos_weight", pos_weight)

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and labels 0..1 to each one's cross-entropy, all (B, targets)."""
        return functional.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=self.pos_weight, reduction="none"
        )


def positivity_weights(
    labels: np.ndarray, targets: tuple[str, ...], chances: np.ndarray | None = None
) -> torch.Tensor:
    """Negatives divided by positives of each target, so that both weigh the same in total.

    Args:
        labels: (images, targets) of the training part: 0 to 1 (a smoothed label counts for both, by its
            share), NaN, or the uncertain class.
        targets: their names, for the message.
        chances: (images,) how often each is drawn, in proportion; None for once each.

    Raises:
        HilumError: a target has no positive label to weigh.
    """
    shares = np.where(labels <= 1, labels, np.nan)  # an uncertain class is neither
    often = np.ones((len(labels), 1)) if chances is None else chances[:, None]
    positives, negatives = np.nansum(often * shares, axis=0), np.nansum(often * (1 - shares), axis=0)
    if not positives.all():
        without = ", ".join(np.array(targets)[positives == 0])
        raise HilumError(
            f"use_positivity_weights: the training part has no positive image of {without}. "
            "Leave the target out by target_columns, or train on more images."
        )
    return torch.from_numpy(negatives / positives).float()
