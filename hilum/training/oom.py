"""What to do when a batch does not fit into the device's memory."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from hilum.errors import HilumError

Batch = dict[str, torch.Tensor]
Done = TypeVar("Done")


class MemoryKeeper:
    """Runs a step, and runs it again in smaller pieces if it was out of memory and that is wanted.

    Args:
        halve: compute half as much at once from then on, and accumulate; else say what would fit.
        pieces: into how many pieces each batch is cut from the start, as found before.
        on_halved: called with the new number of pieces.
        devices: how many share a batch, for the advice.
    """

    def __init__(
        self,
        halve: bool = False,
        pieces: int = 1,
        on_halved: Callable[[int], None] = lambda pieces: None,
        devices: int = 1,
    ):
        self.halve, self.pieces, self.on_halved, self.devices = halve, pieces, on_halved, devices

    def fitting(self, net: nn.Module, batches: Sequence[Batch], step: Callable[[list[Batch]], Done]) -> Done:
        """What `step` gives for the batches, or for pieces of them that fit.

        The second try begins where the first began: batch statistics and the random generator are set back.

        Raises:
            HilumError: out of memory, and halving is not wanted or leaves nothing.
        """
        while True:
            before = [buffer.clone() for buffer in net.buffers()] if self.halve else []
            random = _random_state() if self.halve else None
            try:
                return step([piece for batch in batches for piece in pieces_of(batch, self.pieces)])
            except RuntimeError as error:  # which OutOfMemoryError is
                if not _out_of_memory(error):
                    raise
                largest = max(len(batch["id"]) for batch in batches)
                self._make_do_with_less(largest, str(error).splitlines()[0])
            # Behind the `except`: until its end the traceback keeps the failed step's tensors alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.set_rng_state(random[1])
            torch.set_rng_state(random[0])
            for buffer, value in zip(net.buffers(), before, strict=True):
                buffer.copy_(value)

    def _make_do_with_less(self, batch_size: int, complaint: str) -> None:
        fits = batch_size // (2 * self.pieces)
        if not fits:
            raise HilumError(
                f"Out of memory with a single image at once ({complaint}). Use smaller images or a smaller model."
            ) from None
        if not self.halve:
            halving = (
                f"; or on_oom halve, which learns from {batch_size} images a step and computes fewer at once."
            )
            raise HilumError(
                f"Out of memory with {batch_size} images at once ({complaint}). "
                f"Try batch_size {fits * self.devices}{halving if self.devices == 1 else '.'}"
            ) from None
        self.pieces *= 2
        self.on_halved(self.pieces)


def pieces_of(batch: Batch, pieces: int) -> list[Batch]:
    """A batch cut into so many pieces of nearly equal size, without empty ones."""
    size = len(batch["id"])
    ends = [size * number // pieces for number in range(pieces + 1)]
    return [
        {name: values[start:end] for name, values in batch.items()}
        for start, end in pairwise(ends)
        if start < end
    ]


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no exception type of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of the CPU's generator and of the current GPU's, which dropout draws from."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None
