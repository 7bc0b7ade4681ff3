"""Asymmetric loss: positive and negative labels are focused differently."""

import torch
from torch.nn import functional

from hilum.errors import HilumError
from hilum.training.losses.bce import MaskedLoss
from hilum.training.losses.focal import check_gamma, focused


class AsymmetricLoss(MaskedLoss):
    """Focal loss with a gamma for each kind of label and a margin (Ridnik et al. 2021, arXiv 2009.14119).

    A negative label with a probability below the margin costs nothing: it is predicted well enough, or
    mislabelled. A label between 0 and 1 counts as positive by its value and as negative by the rest.

    Args:
        gamma_pos: focusing of the positive labels; with the paper's 0 they have cross-entropy.
        gamma_neg: focusing of the negative labels.
        clip: the probability margin, subtracted from the probability of negative labels.
        focus_gradient: 1 for a gradient through the focusing factor, as in the formula; 0 for a constant
            factor, as in the training code of the paper's authors.
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
        check_gamma("gamma_pos", gamma_pos)
        check_gamma("gamma_neg", gamma_neg)
        if not 0 <= clip < 1:
            raise HilumError(f"loss_kwargs: clip must be 0 or more and below 1; it is {clip!r}.")
        if focus_gradient not in (0, 1):
            raise HilumError(f"loss_kwargs: focus_gradient must be 0 or 1; it is {focus_gradient!r}.")
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip
        self.focus_gradient = bool(focus_gradient)

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each logit and label."""
        probability, complement = torch.sigmoid(logits), torch.sigmoid(-logits)
        if self.clip:
            log_negative = torch.log((complement + self.clip).clamp(max=1))
            probability = (probability - self.clip).clamp(min=0)
        else:
            log_negative = functional.logsigmoid(-logits)
        if not self.focus_gradient:
            probability, complement = probability.detach(), complement.detach()
        positive = focused(functional.logsigmoid(logits), complement, self.gamma_pos)
        return labels * positive + (1 - labels) * focused(log_negative, probability, self.gamma_neg)
