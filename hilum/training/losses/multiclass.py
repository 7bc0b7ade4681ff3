"""Targets that have three classes in training: negative, positive and uncertain."""

import torch
from torch.nn import functional

from hilum.training.losses.bce import MaskedBCEWithLogitsLoss, MaskedLoss, checked_outputs


class MultiClassLoss(MaskedLoss):
    """Cross-entropy over three classes for some targets, binary cross-entropy for the others.

    The network has an output for each target, then two more for each target with classes: first T outputs with
    the target's logit or its positive class; then the negative classes; then the uncertain classes. The
    probability of a classed target is that of positive against negative, without the uncertain class (Irvin
    et al. 2019, arXiv 1901.07031): its logit is the difference of the two outputs.

    Args:
        classed: bool (targets,), the targets that have three classes.
        pos_weight: (targets,) factors on the positive labels' terms; None for none.
        reduction: "mean" over the batch's known labels, or "sum".
    """

    classed: torch.Tensor
    pos_weight: torch.Tensor | None

    def __init__(
        self, classed: torch.Tensor, pos_weight: torch.Tensor | None = None, reduction: str = "mean"
    ):
        super().__init__(reduction)
        self.register_buffer("classed", classed)
        self.register_buffer("pos_weight", pos_weight)
        binary_weight = None if pos_weight is None else pos_weight[~classed]
        self.binary = MaskedBCEWithLogitsLoss(binary_weight, reduction="sum")

    @property
    def outputs(self) -> int:
        """Number of outputs that the network must have."""
        return len(self.classed) + 2 * int(self.classed.sum())

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Outputs (B, outputs) and labels (B, targets) to a scalar.

        A label is 0, 1, NaN (unknown) or, for a classed target, 2 (uncertain).

        Raises:
            HilumError: the network has another number of outputs.
        """
        outputs = checked_outputs(outputs, (len(labels), self.outputs))
        total = self.binary(outputs[:, : len(self.classed)][:, ~self.classed], labels[:, ~self.classed])
        scores = torch.stack(self._classes(outputs), dim=-1)
        expected = labels[:, self.classed]
        known = ~torch.isnan(expected)
        expected = torch.where(known, expected, 0.0).long()
        losses = functional.cross_entropy(scores.flatten(0, 1), expected.flatten(), reduction="none")
        if self.pos_weight is not None:
            factors = torch.where(expected == 1, self.pos_weight[self.classed], 1.0)
            losses = losses * factors.flatten()
        total = total + torch.where(known.flatten(), losses, 0.0).sum()
        return total if self.reduction == "sum" else total / self.weight(labels).clamp(min=1)

    def target_logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs (B, outputs) to one logit per target (B, targets), as the metrics need them."""
        negative, positive, _ = self._classes(outputs)
        logits = outputs[:, : len(self.classed)].clone()
        logits[:, self.classed] = positive - negative
        return logits

    def _classes(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The negative, positive and uncertain classes' outputs, each (B, classed targets)."""
        positive = outputs[:, : len(self.classed)][:, self.classed]
        negative, uncertain = outputs[:, len(self.classed) :].chunk(2, dim=1)
        return negative, positive, uncertain
