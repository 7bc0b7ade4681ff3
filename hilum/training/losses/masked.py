"""What the losses with one logit per target have in common: labels that are not known are left out."""

import torch
from torch import nn

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
