"""Focal loss: the better a label is predicted, the less it counts."""

import torch
from torch.nn import functional

from hilum.errors import HilumError
from hilum.training.losses.bce import MaskedLoss


class FocalLoss(MaskedLoss):
    """Binary cross-entropy times (1 - probability of the label)**gamma (Lin et al. 2017, arXiv 1708.02002).

    So the sum over the many easy negatives does not outweigh the few hard images. A label between 0 and 1
    counts as positive by its value and as negative by the rest.

    Args:
        gamma: focusing: 0 is binary cross-entropy; higher values reduce the weight of well predicted labels.
        alpha: factor on the positive labels' terms, with 1 - alpha on the negative ones; None for neither.
        reduction: "mean" over the batch's known labels, or "sum".

    Raises:
        HilumError: gamma is negative, or alpha outside 0..1.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        check_gamma("gamma", gamma)
        if alpha is not None and not 0 <= alpha <= 1:
            raise HilumError(f"loss_kwargs: alpha must be within 0..1; it is {alpha!r}.")
        self.gamma, self.alpha = gamma, alpha

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each logit and label."""
        positive = focused(functional.logsigmoid(logits), torch.sigmoid(-logits), self.gamma)
        negative = focused(functional.logsigmoid(-logits), torch.sigmoid(logits), self.gamma)
        if self.alpha is not None:
            positive, negative = self.alpha * positive, (1 - self.alpha) * negative
        return labels * positive + (1 - labels) * negative


def check_gamma(name: str, gamma: float) -> None:
    """Raises a HilumError for a negative gamma."""
    if not gamma >= 0:
        raise HilumError(f"loss_kwargs: {name} must be 0 or more; it is {gamma!r}.")


def focused(log_right: torch.Tensor, wrong: torch.Tensor, gamma: float) -> torch.Tensor:
    """-log(probability of the label) times (probability of its opposite)**gamma."""
    if gamma == 0:
        return -log_right
    # Above zero, the base has a finite gradient for gammas below 1 too.
    return -log_right * wrong.clamp(min=torch.finfo(wrong.dtype).tiny) ** gamma
