"""The loss of multi-label training: one yes-or-no question per target."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hilum.errors import HilumError


class MaskedLoss(nn.Module):
    """A term for each logit and label, summed or averaged over the known labels.

    A subclass has `terms(logits, labels)`, all (B, targets), float32 or finer, without NaN.

    Args:
        reduction: "mean" over the batch's known labels, or "sum".
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each logit and label 0..1."""
        raise NotImplementedError

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and labels (B, targets), labels from 0 to 1 or NaN (unknown), to a scalar.

        Raises:
            HilumError: the network has another number of outputs.
        """
        outputs = checked_outputs(outputs, tuple(labels.shape))
        known = ~torch.isnan(labels)
        total = torch.where(known, self.terms(outputs, torch.where(known, labels, 0.0)), 0.0).sum()
        return total if self.reduction == "sum" else total / known.sum().clamp(min=1)

    def weight(self, labels: torch.Tensor) -> torch.Tensor:
        """Number of known labels of (B, targets), which is the number of terms of a mean.

        The mean of a batch is the sum of `loss * weight` over its pieces, divided by the sum of `weight`.
        """
        return (~torch.isnan(labels)).sum()

    def target_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """One logit per target (B, targets), as the metrics need them: the outputs themselves."""
        return outputs


def checked_outputs(outputs: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Outputs (B, outputs) in float32 or finer: 16 bits are too coarse for a logarithm.

    Raises:
        HilumError: another shape.
    """
    if tuple(outputs.shape) != shape:
        raise HilumError(
            f"The network gives outputs of shape {tuple(outputs.shape)}; the run needs {shape}: {shape[1]} per image."
        )
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


class MaskedBCEWithLogitsLoss(MaskedLoss):
    """Binary cross-entropy on raw logits, over the known labels.

    The sigmoid is inside the loss, as in `torch.nn.BCEWithLogitsLoss`: log(sigmoid(x)) in one step stays finite
    where two steps would round to log(0). So the model must not have a sigmoid.

    Args:
        pos_weight: (targets,) factors on the positive labels' terms; None for none.
        reduction: "mean" over the batch's known labels, or "sum".
    """

    pos_weight: torch.Tensor | None

    def __init__(self, pos_weight: torch.Tensor | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("pos_weight", pos_weight)

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The cross-entropy of each logit and label."""
        return functional.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=self.pos_weight, reduction="none"
        )


def positivity_weights(
    labels: np.ndarray, targets: tuple[str, ...], chances: np.ndarray | None = None
) -> torch.Tensor:
    """Negatives divided by positives of each target, so that both have the same total weight.

    Args:
        labels: (images, targets) of the training part: 0 to 1 (a smoothed label counts for both, by its
            fraction), NaN, or the uncertain class.
        targets: names, for the message.
        chances: (images,) relative frequency of each image in an epoch; None for once each.

    Raises:
        HilumError: a target has no positive label.
    """
    positive = np.where(labels <= 1, labels, np.nan)  # an uncertain class is neither
    weight = np.ones((len(labels), 1)) if chances is None else chances[:, None]
    positives, negatives = np.nansum(weight * positive, axis=0), np.nansum(weight * (1 - positive), axis=0)
    if not positives.all():
        raise HilumError(
            "use_positivity_weights: the training part has no positive image of "
            f"{', '.join(np.array(targets)[positives == 0])}. "
            "Leave the target out of target_columns, or train on more images."
        )
    return torch.from_numpy(negatives / positives).float()
