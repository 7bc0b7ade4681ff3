"""Out of memory: a batch that does not fit is computed in smaller pieces, or the error states what would fit."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from hilum.errors import HilumError

Batch = dict[str, torch.Tensor]
Result = TypeVar("Result")


class OutOfMemoryRetry:
    """Runs a step; if it is out of memory, runs it again on smaller pieces of the batches.

    Args:
        halve: whether to run again, from then on with pieces of half the size; else the error states what would fit.
        pieces: number of pieces of each batch at the start, as found before.
        on_halved: called with the new number of pieces.
        devices: number of devices that share a batch, for the advice.
    """

    def __init__(
        self,
        halve: bool = False,
        pieces: int = 1,
        on_halved: Callable[[int], None] = lambda pieces: None,
        devices: int = 1,
    ):
        self.halve, self.pieces, self.on_halved, self.devices = halve, pieces, on_halved, devices

    def run(self, step: Callable[[list[Batch]], Result], net: nn.Module, batches: Sequence[Batch]) -> Result:
        """The result of `step` for the batches, or for pieces of them that fit.

        A second try starts from the same batch statistics of `net` and the same random generators (dropout draws from
        them) as the first.

        Raises:
            HilumError: out of memory, and halving is off or no smaller piece is possible.
        """
        on_gpu = torch.cuda.is_available()
        while True:
            if self.halve:
                buffers = [buffer.clone() for buffer in net.buffers()]
                cpu_state, gpu_state = torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None
            try:
                return step([piece for batch in batches for piece in pieces_of(batch, self.pieces)])
            except RuntimeError as error:
                # OutOfMemoryError is one; the CPU's allocator has no exception type of its own.
                text = str(error)
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in text:
                    raise
                self._halve(max(len(batch["id"]) for batch in batches), text.splitlines()[0])
            # After the `except`: until its end the traceback keeps the tensors of the failed step alive.
            torch.set_rng_state(cpu_state)
            if gpu_state is not None:
                torch.cuda.empty_cache()
                torch.cuda.set_rng_state(gpu_state)
            for buffer, value in zip(net.buffers(), buffers, strict=True):
                buffer.copy_(value)

    def _halve(self, batch_size: int, message: str) -> None:
        fits = batch_size // (2 * self.pieces)
        if not fits:
            raise HilumError(
                f"Out of memory with a single image at once ({message}). Use smaller images or a smaller model."
            ) from None
        if not self.halve:
            advice = "."
            if self.devices == 1:
                advice = (
                    f"; or on_oom halve, which keeps {batch_size} images per step and computes fewer at once."
                )
            raise HilumError(
                f"Out of memory with {batch_size} images at once ({message}). "
                f"Try batch_size {fits * self.devices}{advice}"
            ) from None
        self.pieces *= 2
        self.on_halved(self.pieces)


def pieces_of(batch: Batch, pieces: int) -> list[Batch]:
    """A batch cut into a number of pieces of nearly equal size, without empty ones."""
    size = len(batch["id"])
    ends = sorted({size * number // pieces for number in range(pieces + 1)})
    return [{name: values[start:end] for name, values in batch.items()} for start, end in pairwise(ends)]
