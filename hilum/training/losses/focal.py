"""Focal loss and asymmetric loss: the better a label is predicted, the less it counts."""

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
        _check_gamma("gamma", gamma)
        if alpha is not None and not 0 <= alpha <= 1:
            raise HilumError(f"loss_kwargs: alpha must be within 0..1; it is {alpha!r}.")
        self.gamma, self.alpha = gamma, alpha

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each logit and label."""
        positive = _focused(functional.logsigmoid(logits), torch.sigmoid(-logits), self.gamma)
        negative = _focused(functional.logsigmoid(-logits), torch.sigmoid(logits), self.gamma)
        if self.alpha is not None:
            positive, negative = self.alpha * positive, (1 - self.alpha) * negative
        return labels * positive + (1 - labels) * negative


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
        _check_gamma("gamma_pos", gamma_pos)
        _check_gamma("gamma_neg", gamma_neg)
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
        positive = _focused(functional.logsigmoid(logits), complement, self.gamma_pos)
        return labels * positive + (1 - labels) * _focused(log_negative, probability, self.gamma_neg)


def _check_gamma(name: str, gamma: float) -> None:
    if not gamma >= 0:
        raise HilumError(f"loss_kwargs: {name} must be 0 or more; it is {gamma!r}.")


def _focused(log_right: torch.Tensor, wrong: torch.Tensor, gamma: float) -> torch.Tensor:
    """-log(probability of the label) times (probability of its opposite)**gamma."""
    if gamma == 0:
        return -log_right
    # Above zero, the base has a finite gradient for gammas below 1 too.
    return -log_right * wrong.clamp(min=torch.finfo(wrong.dtype).tiny) ** gamma
