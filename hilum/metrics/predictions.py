"""The predictions of an epoch as one plain table, as `predictions/epoch-0001.parquet` holds it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.metrics.ranking import refuse_bad_labels

PARTS = ("train", "val")
KEY_COLUMNS = ("part", "ImageID", "draw")


def ledger_columns(targets: Sequence[str]) -> list[str]:
    """Names of the columns, in order."""
    return [
        *KEY_COLUMNS,
        *(f"label_{target}" for target in targets),
        *(f"prob_{target}" for target in targets),
    ]


def ledger_of_part(part: str, labels: np.ndarray, probabilities: pd.DataFrame) -> pd.DataFrame:
    """The rows of one part.

    Args:
        part: "train" or "val".
        labels: (N, T) float32, 1, 0 or NaN.
        probabilities: (N, T) float32, indexed by ImageID, sorted; repeats in the order of their draws.

    Returns:
        `part` (str), `ImageID` and `draw` (int64), `label_<target>` and `prob_<target>` (float32).
    """
    targets = list(probabilities.columns)
    ids = probabilities.index.to_numpy()
    values = np.concatenate([labels, probabilities.to_numpy()], axis=1)
    table = pd.DataFrame(values, columns=ledger_columns(targets)[len(KEY_COLUMNS) :])
    table.insert(0, "part", part)
    table.insert(1, "ImageID", ids)
    table.insert(2, "draw", draw_numbers(ids))
    return table


def targets_of_ledger(table: pd.DataFrame) -> tuple[str, ...]:
    """The targets that a table of predictions is about.

    Raises:
        HilumError: columns other than those of `ledger_columns`.
    """
    targets = tuple(name.removeprefix("label_") for name in table.columns if name.startswith("label_"))
    expected = ledger_columns(targets)
    if not targets or list(table.columns) != expected:
        surplus = sorted(set(table.columns).symmetric_difference(expected)) or ["their order"]
        raise HilumError(
            "This is no table of predictions: expected the columns part, ImageID, draw, label_<target>…, "
            f"prob_<target>…; wrong here: {', '.join(surplus)}."
        )
    return targets


def labels_of_part(tables: Iterable[pd.DataFrame], part: str, targets: Sequence[str]) -> pd.DataFrame:
    """What the tables of all epochs say is true of a part's images: ImageID once, target columns."""
    columns = [f"label_{target}" for target in targets]
    rows = [table.loc[table["part"] == part, ["ImageID", *columns]] for table in tables]
    actual = pd.concat(rows).drop_duplicates("ImageID").set_index("ImageID").sort_index()
    return actual.set_axis(list(targets), axis=1)


def probabilities_of_part(table: pd.DataFrame, part: str, targets: Sequence[str]) -> pd.DataFrame:
    """The probabilities of one part, float32, indexed by ImageID and sorted by ImageID and draw."""
    rows = table.loc[table["part"] == part].sort_values(["ImageID", "draw"], kind="stable")
    values = rows[[f"prob_{target}" for target in targets]].to_numpy(dtype=np.float32)
    return pd.DataFrame(
        values, columns=list(targets), index=pd.Index(rows["ImageID"].to_numpy(np.int64), name="ImageID")
    )


def losses_of_table(combined: pd.DataFrame | None) -> Mapping[tuple[int, str], float]:
    """The loss of each epoch and part of a table of combined scores."""
    if combined is None:
        return {}
    return {
        (int(epoch), part): float(loss)
        for epoch, part, loss in combined[["epoch", "part", "loss"]].itertuples(index=False)
    }


class ActualLabels:
    """The labels of one part (train or val), looked up by ImageID.

    Attributes:
        part: its name, for messages.
        table: DataFrame indexed by rising, unique ImageID, target columns, float32: 1, 0 or NaN.
    """

    def __init__(self, part: str, actual: pd.DataFrame, targets: Sequence[str]) -> None:
        """Of an ImageID that occurs more than once (oversampling repeats images) the first row is kept.

        Raises:
            HilumError: a target column that is missing, an index that is not of integers, or a label
                other than 1, 0 or NaN.
        """
        for target in targets:
            if target not in actual.columns:
                hint = nearest(target, map(str, actual.columns))
                raise HilumError(f"{part}_actual has no column {target!r}.{hint}")
        if not pd.api.types.is_integer_dtype(actual.index.dtype):
            raise HilumError(
                f"{part}_actual is indexed by {actual.index.dtype}; expected integer ImageIDs. "
                'Use actual.set_index("ImageID") if they are in a column.'
            )
        once = actual.loc[~actual.index.duplicated(), list(targets)].astype(np.float32).sort_index()
        self.part = part
        self.table = once.rename_axis(index="ImageID")
        self._ids = once.index.to_numpy(dtype=np.int64)
        self._values = once.to_numpy()
        for column, target in enumerate(targets):
            refuse_bad_labels(self._values[:, column], f"{part}_actual, {target}", self._ids)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Labels of `ids` (N,) int64, repeats allowed: (N, T) float32, in their order.

        Raises:
            HilumError: an ImageID that the part does not have.
        """
        rows = np.searchsorted(self._ids, ids)
        unknown = ids[self._ids[np.minimum(rows, len(self._ids) - 1)] != ids] if len(self._ids) else ids
        if len(unknown):
            several = ", ".join(map(str, np.unique(unknown)[:3]))
            raise HilumError(
                f"{len(np.unique(unknown))} ImageIDs of this epoch are not in {self.part}_actual, e.g. {several}. "
                "Outputs and actual labels must be of the same part of the same split."
            )
        return self._values[rows]


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
