"""The losses of an epoch's batches: checked while it runs, averaged at its end."""

import torch

from hilum.errors import HilumError

#: On a GPU the losses are looked at once in so many batches: a look waits for the device.
_CHECKED_AT_ONCE = 32


class LossesOfEpoch:
    """Keeps the batches' losses on the device until they are needed.

    Args:
        epoch: its number, for the message.
        sums: whether a loss is a sum over its batch, not a mean.
    """

    def __init__(self, epoch: int, sums: bool):
        self.epoch, self.sums = epoch, sums
        self._losses: list[torch.Tensor] = []
        self._ids: list[torch.Tensor] = []
        self._checked = 0

    def append(self, loss: torch.Tensor, ids: torch.Tensor) -> None:
        """Takes a batch's loss, a scalar, and the ImageIDs (B,) of its images.

        Raises:
            HilumError: a loss was NaN or infinite; the batch's ImageIDs are named.
        """
        self._losses.append(loss.detach())
        self._ids.append(ids)
        if loss.device.type == "cpu" or len(self._losses) - self._checked >= _CHECKED_AT_ONCE:
            self._check()

    def take(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """All losses with their ids, on the CPU; none is left here."""
        self._check()
        taken = [(loss.cpu(), ids.cpu()) for loss, ids in zip(self._losses, self._ids, strict=True)]
        self.replace([])
        return taken

    def replace(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Has these losses and ids instead of its own."""
        self._losses, self._ids = [loss for loss, _ in batches], [ids for _, ids in batches]
        self._checked = len(batches)

    def per_image(self) -> float:
        """The epoch's mean: over images of the batches' means, or the sum per image.

        Raises:
            HilumError: as `append`.
        """
        self._check()
        losses = torch.stack(self._losses).double().cpu()
        sizes = torch.tensor([len(ids) for ids in self._ids], dtype=torch.float64)
        return float((losses.sum() if self.sums else losses @ sizes) / sizes.sum())

    def _check(self) -> None:
        new = self._losses[self._checked :]
        if not new:
            return
        finite = torch.isfinite(torch.stack(new))
        if not finite.all():
            batch = self._checked + int((~finite).nonzero()[0])
            raise HilumError(
                f"Epoch {self.epoch}: the loss of batch {batch + 1} is {self._losses[batch].item()}; its ImageIDs are "
                f"{', '.join(map(str, self._ids[batch].tolist()))}. Lower the learning rate, or look at these images."
            )
        self._checked = len(self._losses)
