"""The loss of multi-label training: one yes-or-no question per target."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hilum.errors import HilumError


class MaskedLoss(nn.Module):
    """A term for each logit and label, summed or averaged over the labels that are known.

    A child gives `terms(logits, labels)`: (B, targets) each, in float32 at least whatever the network
    computed in, without NaN.

    Args:
        reduction: "mean" over the batch's known labels, or "sum".
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and labels (B, targets), labels from 0 to 1 or NaN (left out), to a scalar.

        Raises:
            HilumError: the network gives another number of outputs.
        """
        refuse_other_shape(outputs, tuple(labels.shape))
        known = ~torch.isnan(labels)
        terms = self.terms(at_least_float32(outputs), torch.where(known, labels, 0.0))
        total = torch.where(known, terms, 0.0).sum()
        return total if self.reduction == "sum" else total / known.sum().clamp(min=1)

    def weight(self, labels: torch.Tensor) -> torch.Tensor:
        """How many labels of (B, targets) are known, that is how many terms a mean is over.

        The mean of a batch is the sum of `loss * weight` over its pieces, divided by the sum of `weight`.
        """
        return (~torch.isnan(labels)).sum()

    def target_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """One logit per target (B, targets), as the metrics take them: the outputs as they are."""
        return outputs


def at_least_float32(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs in float32, unless they are finer: what a network gives in 16 bits is too coarse for a logarithm."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def refuse_other_shape(outputs: torch.Tensor, wanted: tuple[int, int]) -> None:
    """Raises a HilumError unless the outputs are of shape (B, outputs) `wanted`."""
    if tuple(outputs.shape) != wanted:
        raise HilumError(
            f"The network gives outputs of shape {tuple(outputs.shape)}; the run needs {wanted}: "
            f"{wanted[1]} for each image."
        )


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
