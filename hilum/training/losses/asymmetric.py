"""Asymmetric loss: positive and negative labels are focused each in its own way."""

import torch
from torch.nn import functional

from hilum.errors import HilumError
from hilum.training.losses.bce import MaskedLoss
from hilum.training.losses.focal import focused


class AsymmetricLoss(MaskedLoss):
    """Focal loss with a gamma for each kind of label and a margin (Ridnik et al. 2021, arXiv 2009.14119).

    A negative label whose probability is below the margin costs nothing: it is predicted well enough, or
    it is mislabelled. A label between 0 and 1 counts as positive by its share and as negative by the rest.

    Args:
        gamma_pos: focusing of the positive labels; the paper's 0 leaves them cross-entropy.
        gamma_neg: focusing of the negative labels.
        clip: the probability margin, taken off the negative labels' probability.
        focus_gradient: let the gradient flow through the focusing factor, as the formula has it. With 0 the
            factor is a constant to the gradient, as in the training code of the paper's authors.
        reduction: "mean" over the batch's known labels, or "sum".

    Raises:
        HilumError: a gamma is negative, clip is outside 0..1, or focus_gradient is neither 0 nor 1.
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        focus_gradient: float = 1,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        for name, gamma in (("gamma_pos", gamma_pos), ("gamma_neg", gamma_neg)):
            if not gamma >= 0:
                raise HilumError(f"loss_kwargs: {name} must be 0 or more; it is {gamma!r}.")
        if not 0 <= clip < 1:
            raise HilumError(f"loss_kwargs: clip must be 0 or more and below 1; it is {clip!r}.")
        if focus_gradient not in (0, 1):
            raise HilumError(f"loss_kwargs: focus_gradient must be 0 or 1; it is {focus_gradient!r}.")
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip
        self.focus_gradient = bool(focus_gradient)

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and labels 0..1 to each one's loss, all (B, targets)."""
        probability, complement = torch.sigmoid(logits), torch.sigmoid(-logits)
        if self.clip:
            log_negative = torch.log((complement + self.clip).clamp(max=1))
            probability = (probability - self.clip).clamp(min=0)
        else:
            log_negative = functional.logsigmoid(-logits)
        if not self.focus_gradient:
            probability, complement = probability.detach(), complement.detach()
        positive = focused(functional.logsigmoid(logits), complement, self.gamma_pos)
        negative = focused(log_negative, probability, self.gamma_neg)
        return labels * positive + (1 - labels) * negative
