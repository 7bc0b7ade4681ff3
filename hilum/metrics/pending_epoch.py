"""What the model gave for the batches of an epoch that is not closed yet."""

from typing import Any

import numpy as np

from hilum.errors import HilumError


class PendingEpoch:
    """Collects batches where they are; reads them back once, so that no batch waits for the device."""

    def __init__(self, part: str, target_count: int) -> None:
        """An empty one, for the part "train" or "val"."""
        self.part = part
        self.target_count = target_count
        self._ids: list[Any] = []
        self._outputs: list[Any] = []

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._ids)

    def append(self, ids: Any, outputs: Any) -> None:
        """Keeps a copy of one batch: ids (B,) integers, outputs (B, T) raw logits; tensors or arrays.

        A copy, as a compiled model may write its next outputs into the same memory.

        Raises:
            HilumError: other shapes.
        """
        ids, outputs = _own_copy(ids), _own_copy(outputs, as_float=True)
        if tuple(outputs.shape) != (len(ids), self.target_count) or len(ids.shape) != 1:
            raise HilumError(
                f"{self.part} batch: ids are {tuple(ids.shape)} and outputs {tuple(outputs.shape)}; expected "
                f"(B,) and (B, {self.target_count}): one raw output for each of {self.target_count} targets."
            )
        self._ids.append(ids)
        self._outputs.append(outputs)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """All batches in the order they came: ids (N,) int64 and logits (N, T) float32."""
        ids, logits = _joined(self._ids), _joined(self._outputs)
        if ids.dtype.kind not in "iu":
            raise HilumError(f"{self.part} epoch: ids are {ids.dtype}; expected integer ImageIDs.")
        return ids.astype(np.int64, copy=False), logits

    def take(self) -> list[tuple[Any, Any]]:
        """All batches as (ids, outputs), on the CPU; none is left here."""
        taken = [
            (_on_cpu(ids), _on_cpu(outputs)) for ids, outputs in zip(self._ids, self._outputs, strict=True)
        ]
        self.clear()
        return taken

    def clear(self) -> None:
        """Forgets all batches."""
        self._ids.clear()
        self._outputs.clear()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities 1 / (1 + exp(-x)) as float32, computed in float64; NaN stays NaN.

    Above a logit of 17 float32 has no number left below 1: such outputs become ties at 1.
    """
    logits = logits.astype(np.float64)
    # The exponent is never positive, so nothing overflows, and small probabilities keep their digits.
    decay = np.exp(-np.abs(logits))
    return (np.where(logits >= 0, 1.0, decay) / (1 + decay)).astype(np.float32)


def draw_numbers(sorted_ids: np.ndarray) -> np.ndarray:
    """Occurrence number 0, 1, … of each ImageID among its equals; ids (N,) sorted, result (N,) int64.

    >>> draw_numbers(np.array([4, 7, 7, 7, 9])).tolist()
    [0, 0, 1, 2, 0]
    """
    positions = np.arange(len(sorted_ids))
    is_first = np.append(True, sorted_ids[1:] != sorted_ids[:-1])[: len(sorted_ids)]
    return positions - np.maximum.accumulate(np.where(is_first, positions, 0))


def _own_copy(values: Any, as_float: bool = False) -> Any:
    """A copy that nobody else writes to: a tensor on its own device, anything else as an array."""
    if hasattr(values, "detach"):
        copy = values.detach().clone()
        return copy.float() if as_float else copy
    return np.array(values, dtype=np.float32 if as_float else None)


def _on_cpu(values: Any) -> Any:
    return values.cpu() if hasattr(values, "cpu") else values


def _joined(batches: list[Any]) -> np.ndarray:
    if not hasattr(batches[0], "detach"):
        return np.concatenate(batches)
    import torch  # loaded already, by whoever made the tensors

    return torch.cat(batches).cpu().numpy()
