"""AUC margin loss: scores of positive images must exceed those of negative images by a margin."""

import numpy as np
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.training.losses.bce import MaskedLoss


class AUCMarginLoss(MaskedLoss):
    """The min-max form of the squared hinge on AUC (Yuan et al. 2021, arXiv 2012.03173), per target.

    The area under the ROC curve is a mean over pairs of a positive and a negative image. Three numbers per
    target replace the other image of each pair, so that an image has a term of its own: `a` and `b` follow the
    mean score of the positive and the negative images, and `alpha` drives the two apart until they differ by
    the margin. With h = sigmoid(logit) and p = the fraction of positives, the term of an image is

        (1 - p) (h - a)^2                              if it is positive
        p (h - b)^2                                    if it is negative
        + 2 alpha (p (1 - p) margin + p h [negative] - (1 - p) h [positive]) - p (1 - p) alpha^2

    The network, `a` and `b` minimize it. `alpha` maximizes it: its gradient has the opposite sign, so one
    optimizer can step all of them; `after_step` then keeps it at 0 or more. The start is an untrained network,
    which scores one half: a = b = 1/2, alpha = the margin. A label between 0 and 1 counts as positive by its
    value and as negative by the rest.

    Args:
        prevalence: (targets,) fraction of positives in the training part, between 0 and 1.
        targets: names, for the message.
        margin: between the mean scores, which are within 0..1.
        reduction: "mean" over the batch's known labels, or "sum". Without unknown labels the mean is the mean
            of the targets' losses.

    Raises:
        HilumError: a target has no positive or no negative training image, or the margin is not a number above 0.
    """

    def __init__(
        self, prevalence: np.ndarray, targets: tuple[str, ...], margin: float = 1.0, reduction: str = "mean"
    ):
        super().__init__(reduction)
        if not 0 < margin < float("inf"):
            raise HilumError(f"loss_kwargs: margin must be above 0; it is {margin!r}.")
        prevalence = np.asarray(prevalence, dtype=np.float64)
        one_sided = ~((prevalence > 0) & (prevalence < 1))
        if one_sided.any():
            raise HilumError(
                "loss auc_margin compares positive with negative images; the training part has only one kind of "
                f"{', '.join(np.array(targets)[one_sided])}. Leave the target out of target_columns, or train on "
                "more images."
            )
        self.margin = margin
        self.prevalence: torch.Tensor
        self.register_buffer("prevalence", torch.from_numpy(prevalence).float())
        self.a = nn.Parameter(torch.full((len(prevalence),), 0.5))
        self.b = nn.Parameter(torch.full((len(prevalence),), 0.5))
        self.alpha = nn.Parameter(torch.full((len(prevalence),), float(margin)))

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each logit and label."""
        scores, p = torch.sigmoid(logits), self.prevalence
        alpha = 2 * self.alpha.detach() - self.alpha  # its value, with the opposite gradient
        positive = (1 - p) * ((scores - self.a) ** 2 - 2 * alpha * scores)
        negative = p * ((scores - self.b) ** 2 + 2 * alpha * scores)
        return labels * positive + (1 - labels) * negative + p * (1 - p) * alpha * (2 * self.margin - alpha)

    @torch.no_grad()
    def after_step(self) -> None:
        """To be called after each optimizer step: brings `alpha` back to 0 or more."""
        self.alpha.clamp_(min=0)
