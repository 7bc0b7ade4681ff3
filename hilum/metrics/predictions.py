"""Predictions: the object that scores are computed from, and the table of an epoch in the run folder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from hilum.errors import HilumError, nearest
from hilum.metrics.intervals import ScoreReplicates, score_replicates
from hilum.metrics.ranking import Ranking, check_labels, check_probabilities, rank
from hilum.metrics.thresholds import Thresholds, resolve_thresholds
from hilum.run_folder import RunFolder

PARTS = ("train", "val")
#: How the probabilities of a group's images become one.
AGGREGATES = ("mean", "max")
KEY_COLUMNS = ("part", "ImageID", "draw")


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """The scores that a model gives N images for T targets, next to the actual labels.

    Attributes:
        y_true: (N, T) float32 or float64, 1 positive, 0 negative, NaN unknown.
        y_score: (N, T) float32 or float64, probabilities from 0 to 1.
        image_ids: (N,) ImageIDs; an image that oversampling repeats has several rows.
        patients: (N,) the patient of each image, numbers or text.
        targets: (T,) names.
        thresholds: (T,) float64; a probability >= the threshold is a positive prediction.

    Raises:
        HilumError: shapes that do not match, a label other than 1, 0 or NaN, a probability that is not finite or not
            from 0 to 1, a threshold that is not from 0 to 1, or an image without a patient.

    >>> predictions = Predictions(
    ...     y_true=[[1], [0]], y_score=[[0.9], [0.6]], image_ids=[7, 8], patients=[1, 2],
    ...     targets=["Edema"], thresholds=[0.7],
    ... )
    >>> predictions.predicted.tolist()
    [[True], [False]]
    """

    y_true: np.ndarray
    y_score: np.ndarray
    image_ids: np.ndarray
    patients: np.ndarray
    targets: tuple[str, ...]
    thresholds: np.ndarray
    _bootstraps: dict[tuple[int, int], ScoreReplicates] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Brings the fields to their types and checks them, once."""
        values = {
            "y_true": _as_float(self.y_true),
            "y_score": _as_float(self.y_score),
            "image_ids": np.asarray(self.image_ids),
            "patients": np.asarray(self.patients),
            "targets": tuple(self.targets),
            "thresholds": np.asarray(self.thresholds, dtype=np.float64),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check_shapes()
        for column, target in enumerate(self.targets):
            check_labels(self.y_true[:, column], target, self.image_ids)
            check_probabilities(self.y_score[:, column], target, self.image_ids)
        missing = np.flatnonzero(pd.isna(self.patients))
        if len(missing):
            raise HilumError(
                f"{len(missing)} of {len(self)} images have no patient, the first is ImageID "
                f"{self.image_ids[missing[0]]} in row {missing[0]}. Give the patient of each image."
            )

    def _check_shapes(self) -> None:
        if self.y_true.ndim != 2 or self.y_true.shape != self.y_score.shape:
            raise HilumError(
                f"y_true is {self.y_true.shape} and y_score {self.y_score.shape}; expected both to be "
                "(images, targets)."
            )
        images, targets = self.y_true.shape
        expected = {"image_ids": "image", "patients": "image", "targets": "target", "thresholds": "target"}
        for name, unit in expected.items():
            shape, count = np.shape(getattr(self, name)), images if unit == "image" else targets
            if shape != (count,):
                raise HilumError(f"{name} is {shape}; expected one per {unit}, ({count},).")
        if not ((self.thresholds >= 0) & (self.thresholds <= 1)).all():
            raise HilumError(f"thresholds are {self.thresholds.tolist()}; expected numbers from 0 to 1.")

    @classmethod
    def from_run(
        cls,
        folder: RunFolder | str | Path,
        epoch: int | None = None,
        part: str = "val",
        table: pd.DataFrame | None = None,
    ) -> "Predictions":
        """Reads the predictions of one epoch of a run (by default the best) with the frozen operating thresholds.

        The rows are sorted by ImageID; labels and probabilities are float32. `part` is "train" or "val", and `table`
        what `folder.predictions(epoch)` gave, if it has been read already.

        Raises:
            HilumError: no epoch has ended yet, a file is missing, the epoch has no such part, or the files do not
                belong together.
        """
        folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
        epoch = folder.best_epoch if epoch is None else epoch
        table = folder.predictions(epoch) if table is None else table
        patients = folder.split().drop_duplicates("ImageID").set_index("ImageID")["PatientID"]
        points = folder.operating_thresholds()
        try:
            targets = targets_of_table(table)
            y_score = probabilities_of_part(table, part, targets)
            if y_score.empty:
                raise HilumError(f"there are no predictions of the part {part!r}.")
            return cls(
                y_true=labels_of_part([table], part, targets).loc[y_score.index].to_numpy(),
                y_score=y_score.to_numpy(),
                image_ids=y_score.index.to_numpy(),
                patients=patients.reindex(y_score.index).to_numpy(),  # without a row in split.parquet: NaN
                targets=targets,
                thresholds=np.array([points[target] for target in targets]),
            )
        except HilumError as error:
            raise HilumError(f"{folder.path}, epoch {epoch}: {error}") from None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.y_true)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N, T) bool: which probabilities reach the threshold, compared in the probabilities' precision."""
        return self.y_score >= self.thresholds.astype(self.y_score.dtype)

    @cached_property
    def rankings(self) -> dict[str, Ranking]:
        """Target -> `Ranking`: every curve and area follows from it."""
        return {
            target: rank(self.y_true[:, column], self.y_score[:, column], target, self.image_ids)
            for column, target in enumerate(self.targets)
        }

    @cached_property
    def patient_codes(self) -> np.ndarray:
        """(N,) int64: position of each image's patient among the sorted distinct patients.

        Raises:
            HilumError: text and numbers among the patients.
        """
        try:
            return np.unique(self.patients, return_inverse=True)[1]
        except TypeError:
            raise HilumError(
                "patients are text and numbers mixed; give all of them as one or the other."
            ) from None

    @property
    def patient_count(self) -> int:
        """Number of distinct patients."""
        return int(self.patient_codes.max()) + 1 if len(self) else 0

    def as_table(self, values: np.ndarray) -> pd.DataFrame:
        """An (N, T) array, such as `y_true` or `predicted`, indexed by ImageID with the targets as columns."""
        return pd.DataFrame(values, pd.Index(self.image_ids, name="ImageID"), list(self.targets))

    def select(
        self, *, targets: Sequence[str] | None = None, rows: np.ndarray | None = None
    ) -> "Predictions":
        """A part of the predictions.

        Args:
            targets: names in the new order; all if left out.
            rows: (N,) bool, or positions; all if left out.

        Raises:
            HilumError: a target that the predictions do not have.
        """
        names = self.targets if targets is None else tuple(targets)
        for name in names:
            if name not in self.targets:
                raise HilumError(
                    f"There is no target {name!r}.{nearest(name, self.targets)} "
                    f"The targets are {', '.join(self.targets)}."
                )
        columns = [self.targets.index(name) for name in names]
        chosen = slice(None) if rows is None else rows
        return Predictions(
            y_true=self.y_true[chosen][:, columns],
            y_score=self.y_score[chosen][:, columns],
            image_ids=self.image_ids[chosen],
            patients=self.patients[chosen],
            targets=names,
            thresholds=self.thresholds[columns],
        )

    def aggregate(self, groups: np.ndarray, how: str = "mean") -> "Predictions":
        """The images of each study or patient as one row; groups are sorted.

        A radiologist reports a study, not an image: CheXpert's own evaluation takes the maximum over a study's views
        (Irvin et al. 2019, arXiv 1901.07031). A label is positive if one of the group's known labels is, and NaN if
        none is known. ImageID and patient are those of the group's first image.

        Args:
            groups: (N,) the study or patient of each image; a group must be of one patient.
            how: "mean" or "max" of the probabilities. The mean is of probabilities, not of logits, so that a confident
                image counts as much as any other.

        Raises:
            HilumError: an unknown `how`, or another number of groups.
        """
        if how not in AGGREGATES:
            raise HilumError(f"how is {how!r}.{nearest(how, AGGREGATES)} Known: {', '.join(AGGREGATES)}.")
        if len(groups) != len(self):
            raise HilumError(f"groups is ({len(groups)},); expected one group per image, ({len(self)},).")
        _, first, group_of, sizes = np.unique(
            np.asarray(groups), return_index=True, return_inverse=True, return_counts=True
        )
        order, starts = np.argsort(group_of, kind="stable"), np.cumsum(sizes) - sizes
        if how == "max":
            y_score = np.maximum.reduceat(self.y_score[order], starts, axis=0)
        else:
            sums = np.add.reduceat(self.y_score[order].astype(np.float64), starts, axis=0)
            y_score = np.clip(sums / sizes[:, None], 0, 1).astype(self.y_score.dtype)
        return replace(
            self,
            # fmax ignores NaN unless all values are NaN.
            y_true=np.fmax.reduceat(self.y_true[order], starts, axis=0),
            y_score=y_score,
            image_ids=self.image_ids[first],
            patients=self.patients[first],
        )

    def with_thresholds(self, thresholds: Thresholds) -> "Predictions":
        """The same predictions at other thresholds; see `hilum.metrics.thresholds.resolve_thresholds`."""
        return replace(self, thresholds=resolve_thresholds(thresholds, self.targets))

    def bootstrap(self, replicates: int = 1000, seed: int = 0) -> ScoreReplicates:
        """`hilum.metrics.intervals.score_replicates` of these predictions, computed once per arguments."""
        if (replicates, seed) not in self._bootstraps:
            self._bootstraps[replicates, seed] = score_replicates(self, replicates=replicates, seed=seed)
        return self._bootstraps[replicates, seed]


def _as_float(values: np.ndarray) -> np.ndarray:
    """Float32 and float64 as they are, other numbers as float64."""
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def predictions_table(part: str, labels: np.ndarray, probabilities: pd.DataFrame) -> pd.DataFrame:
    """The rows of one part of `predictions/epoch-0001.parquet`; the columns are those of `Metrics.predictions`.

    Labels and probabilities are (N, T) float32, sorted by ImageID; repeats are in the order of their draws.
    """
    ids = probabilities.index.to_numpy()
    values = np.concatenate([labels, probabilities.to_numpy()], axis=1)
    table = pd.DataFrame(values, columns=_columns(probabilities.columns)[len(KEY_COLUMNS) :])
    table.insert(0, "part", part)
    table.insert(1, "ImageID", ids)
    table.insert(2, "draw", draw_numbers(ids))
    return table


def _columns(targets: Sequence[str]) -> list[str]:
    return [*KEY_COLUMNS, *(f"{kind}_{target}" for kind in ("label", "prob") for target in targets)]


def targets_of_table(table: pd.DataFrame) -> tuple[str, ...]:
    """The targets of a predictions table.

    Raises:
        HilumError: columns other than those of `predictions_table`.
    """
    targets = tuple(name.removeprefix("label_") for name in table.columns if name.startswith("label_"))
    expected = _columns(targets)
    if not targets or list(table.columns) != expected:
        surplus = sorted(set(table.columns).symmetric_difference(expected)) or ["their order"]
        raise HilumError(
            "This is not a table of predictions: expected the columns part, ImageID, draw, label_<target>…, "
            f"prob_<target>…; wrong here: {', '.join(surplus)}."
        )
    return targets


def labels_of_part(tables: Iterable[pd.DataFrame], part: str, targets: Sequence[str]) -> pd.DataFrame:
    """The actual labels of a part in the tables of its epochs: each ImageID once, target columns."""
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


class ActualLabels:
    """The labels of one part, found by ImageID; its table is float32, indexed by rising, unique ImageID."""

    def __init__(self, part: str, actual: pd.DataFrame, targets: Sequence[str]) -> None:
        """Of a repeated ImageID (oversampling repeats images) the first row is kept.

        Raises:
            HilumError: a target column that is missing, an index that is not of integers, or a label other than 1, 0 or
                NaN.
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
            check_labels(self._values[:, column], f"{part}_actual, {target}", self._ids)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Labels of `ids` (N,) int64, repeats allowed: (N, T) float32, in their order.

        Raises:
            HilumError: an ImageID that the part does not have.
        """
        rows = np.searchsorted(self._ids, ids)
        unknown = ids[self._ids[np.minimum(rows, len(self._ids) - 1)] != ids] if len(self._ids) else ids
        if len(unknown):
            examples = ", ".join(map(str, np.unique(unknown)[:3]))
            raise HilumError(
                f"{len(np.unique(unknown))} ImageIDs of this epoch are not in {self.part}_actual, e.g. {examples}. "
                "Outputs and actual labels must be of the same part of the same split."
            )
        return self._values[rows]


class PendingEpoch:
    """Collects the batches of one part on their device, and reads them back once, so that no batch waits."""

    def __init__(self, part: str, target_count: int) -> None:
        """An empty buffer for the part "train" or "val"."""
        self.part, self.target_count = part, target_count
        self._batches: list[tuple[Any, Any]] = []

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def append(self, ids: Any, outputs: Any) -> None:
        """Keeps a copy of one batch: ids (B,) integers, outputs (B, T) raw logits; tensors or arrays.

        A copy, because a compiled model may write its next outputs into the same memory.

        Raises:
            HilumError: other shapes.
        """
        ids, outputs = _own_copy(ids), _own_copy(outputs, as_float=True)
        if tuple(outputs.shape) != (len(ids), self.target_count) or len(ids.shape) != 1:
            raise HilumError(
                f"{self.part} batch: ids are {tuple(ids.shape)} and outputs {tuple(outputs.shape)}; expected "
                f"(B,) and (B, {self.target_count}): one raw output for each of {self.target_count} targets."
            )
        self._batches.append((ids, outputs))

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """All batches in the order of appending: ids (N,) int64 and logits (N, T) float32."""
        ids, logits = (_joined(list(values)) for values in zip(*self._batches, strict=True))
        if ids.dtype.kind not in "iu":
            raise HilumError(f"{self.part} epoch: ids are {ids.dtype}; expected integer ImageIDs.")
        return ids.astype(np.int64, copy=False), logits

    def take(self) -> list[tuple[Any, ...]]:
        """Removes all batches and returns them as (ids, outputs), on the CPU."""
        taken = [
            tuple(values.cpu() if hasattr(values, "cpu") else values for values in batch)
            for batch in self._batches
        ]
        self.clear()
        return taken

    def clear(self) -> None:
        """Removes all batches."""
        self._batches.clear()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities 1 / (1 + exp(-x)) as float32, computed in float64; NaN stays NaN.

    Above a logit of 17 float32 has no number below 1: such outputs become ties at 1.
    """
    return expit(logits.astype(np.float64)).astype(np.float32)


def draw_numbers(sorted_ids: np.ndarray) -> np.ndarray:
    """Occurrence number 0, 1, … of each ImageID; ids (N,) sorted, result (N,) int64.

    >>> draw_numbers(np.array([4, 7, 7, 7, 9])).tolist()
    [0, 0, 1, 2, 0]
    """
    positions = np.arange(len(sorted_ids))
    is_first = np.append(True, sorted_ids[1:] != sorted_ids[:-1])[: len(sorted_ids)]
    return positions - np.maximum.accumulate(np.where(is_first, positions, 0))


def _own_copy(values: Any, as_float: bool = False) -> Any:
    """A copy: a tensor on its own device, anything else as an array."""
    if hasattr(values, "detach"):
        copy = values.detach().clone()
        return copy.float() if as_float else copy
    return np.array(values, dtype=np.float32 if as_float else None)


def _joined(batches: list[Any]) -> np.ndarray:
    if not hasattr(batches[0], "detach"):
        return np.concatenate(batches)
    import torch  # imported already, as there are tensors

    return torch.cat(batches).cpu().numpy()
