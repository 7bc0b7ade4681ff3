"""AUC margin loss: scores of positive images are to lie above those of negative ones, by a margin."""

import numpy as np
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.training.losses.bce import MaskedLoss


class AUCMarginLoss(MaskedLoss):
    """The min-max form of the squared hinge on AUC (Yuan et al. 2021, arXiv 2012.03173), per target.

    The area under the ROC curve is about pairs of a positive and a negative image. Three numbers per target
    stand in for the other half of each pair, so that an image has a term of its own: `a` and `b` follow the
    mean score of the positive and of the negative images, and `alpha` presses on the two until they are the
    margin apart. With h = sigmoid(logit) and p = the share of positives, the term of an image is

        (1 - p) (h - a)^2                              if it is positive
        p (h - b)^2                                    if it is negative
        + 2 alpha (p (1 - p) margin + p h [negative] - (1 - p) h [positive]) - p (1 - p) alpha^2

    The network, `a` and `b` descend on it. `alpha` ascends: its gradient comes out of here with its sign
    turned, so that one optimizer can step all of them; `after_step` then keeps it at 0 or more. They begin
    where they belong while a network knows nothing and scores one half: a = b = 1/2, alpha = the margin.
    A label between 0 and 1 counts as positive by its share and as negative by the rest.

    Args:
        prevalence: (targets,) share of positives in the training part, between 0 and 1.
        targets: their names, for the message.
        margin: by which the mean scores are to differ; scores lie within 0..1.
        reduction: "mean" over the batch's known labels, or "sum". Without unknown labels the mean is that
            over the targets of each one's loss.

    Raises:
        HilumError: a target has no positive or no negative image to train on, or the margin is no number
            above 0.
    """

    def __init__(
        self,
        prevalence: np.ndarray,
        targets: tuple[str, ...],
        margin: float = 1.0,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        if not 0 < margin < float("inf"):
            raise HilumError(f"loss_kwargs: margin must be above 0; it is {margin!r}.")
        prevalence = np.asarray(prevalence, dtype=np.float64)
        one_sided = ~((prevalence > 0) & (prevalence < 1))
        if one_sided.any():
            raise HilumError(
                "loss auc_margin compares positive with negative images; the training part has only one kind of "
                f"{', '.join(np.array(targets)[one_sided])}. Leave the target out by target_columns, or train on "
                "more images."
            )
        self.margin = margin
        self.register_buffer("prevalence", torch.from_numpy(prevalence).float())
        self.a = nn.Parameter(torch.full((len(prevalence),), 0.5))
        self.b = nn.Parameter(torch.full((len(prevalence),), 0.5))
        self.alpha = nn.Parameter(torch.full((len(prevalence),), float(margin)))

    def terms(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and labels 0..1 to each one's loss, all (B, targets)."""
        scores, p = torch.sigmoid(logits), self.prevalence
        alpha = 2 * self.alpha.detach() - self.alpha  # its value, with the gradient's sign turned
        positive = (1 - p) * ((scores - self.a) ** 2 - 2 * alpha * scores)
        negative = p * ((scores - self.b) ** 2 + 2 * alpha * scores)
        return labels * positive + (1 - labels) * negative + p * (1 - p) * alpha * (2 * self.margin - alpha)

    @torch.no_grad()
    def after_step(self) -> None:
        """To be called after each step of the optimizer: brings `alpha` back to 0 or more."""
        self.alpha.clamp_(min=0)
