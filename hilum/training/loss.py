"""The loss of multi-label training: one yes-or-no question per target."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hilum.errors import HilumError


class MaskedBCEWithLogitsLoss(nn.Module):
    """Binary cross-entropy on raw logits, over the labels that are known.

    The sigmoid is inside the loss, as in `torch.nn.BCEWithLogitsLoss`: log(sigmoid(x)) computed in one
    step stays finite where the two apart would round to log(0). So the model must not apply one itself.

    Args:
        pos_weight: (targets,) factors on the positive labels' terms; None for none.
        reduction: "mean" over the batch's known labels, or "sum".
    """

    def __init__(self, pos_weight: torch.Tensor | None = None, reduction: str = "mean"):
        super().__init__()
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = reduction

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and labels (B, targets), labels from 0 to 1 or NaN (left out), to a scalar.

        Raises:
            HilumError: the network gives another number of outputs.
        """
        refuse_other_shape(outputs, tuple(labels.shape))
        known = ~torch.isnan(labels)
        losses = functional.binary_cross_entropy_with_logits(
            outputs, torch.where(known, labels, 0.0), pos_weight=self.pos_weight, reduction="none"
        )
        total = torch.where(known, losses, 0.0).sum()
        return total if self.reduction == "sum" else total / known.sum().clamp(min=1)

    def target_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """One logit per target (B, targets), as the metrics take them: the outputs as they are."""
        return outputs


def refuse_other_shape(outputs: torch.Tensor, wanted: tuple[int, int]) -> None:
    """Raises a HilumError unless the outputs are of shape (B, outputs) `wanted`."""
    if tuple(outputs.shape) != wanted:
        raise HilumError(
            f"The network gives outputs of shape {tuple(outputs.shape)}; the run needs {wanted}: "
            f"{wanted[1]} for each image."
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
