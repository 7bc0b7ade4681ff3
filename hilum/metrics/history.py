"""The history of a run: the probabilities, predictions and scores of each epoch."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.metrics import display
from hilum.metrics.predictions import (
    PARTS,
    ActualLabels,
    PendingEpoch,
    labels_of_part,
    predictions_table,
    probabilities_of_part,
    sigmoid,
    targets_of_table,
)
from hilum.metrics.ranking import Ranking
from hilum.metrics.scores import (
    COMBINED_COLUMNS,
    ITEMIZED_COLUMNS,
    combined_scores,
    rank_targets,
    scores_of_rankings,
)
from hilum.metrics.thresholds import Thresholds, resolve_thresholds
from hilum.run_folder import RunFolder


class UndefinedScoreWarning(UserWarning):
    """A target has undefined scores, because a part has no positive or no negative image of it."""


def _history(kind: str, part: str) -> property:
    doc = f"Epoch -> {kind} table of the {part} part."
    return property(lambda metrics: getattr(metrics, f"_{kind}_hx")[part], doc=doc)


def _last(kind: str, part: str) -> property:
    doc = f"The {kind} table of the {part} part in the last closed epoch; None before."
    return property(
        lambda metrics: next(reversed(getattr(metrics, f"_{kind}_hx")[part].values()), None), doc=doc
    )


class Metrics:
    """Collects the raw outputs of each batch, and keeps probabilities, predictions and scores per epoch.

    A probability is the sigmoid of the output; a prediction is 1 where the probability reaches the target's threshold,
    else 0. Thresholds affect only predictions and the scores that are computed from them.

    Attributes:
        target_columns: (T,) names.
        target_thresholds: (T,) float64.
        train_actual, val_actual: actual labels, float32, each ImageID once; val_actual may be None.
        train_probability_hx, val_probability_hx: epoch -> DataFrame (N, T) float32, index ImageID.
        train_prediction_hx, val_prediction_hx: epoch -> DataFrame (N, T) int8, index ImageID.

    Rows are sorted by ImageID. An image that oversampling repeats in an epoch has a row for each repeat, in the order
    in which they were appended.
    """

    def __init__(
        self,
        target_columns: Sequence[str],
        train_actual: pd.DataFrame,
        val_actual: pd.DataFrame | None,
        target_thresholds: Thresholds = None,
    ) -> None:
        """Starts without epochs.

        Args:
            target_columns: (T,) names, in the order of the model's outputs.
            train_actual: indexed by integer ImageID, with the target columns: 1, 0 or NaN (unknown, left out of every
                score). Of a repeated ImageID the first row counts.
            val_actual: the same for the validation part, or None without one.
            target_thresholds: see `resolve_thresholds`; 0.5 each by default.

        Raises:
            HilumError: labels or thresholds that are not valid.
        """
        self.target_columns = tuple(target_columns)
        self.target_thresholds = resolve_thresholds(target_thresholds, self.target_columns)
        self._actual = {"train": ActualLabels("train", train_actual, self.target_columns)}
        if val_actual is not None:
            self._actual["val"] = ActualLabels("val", val_actual, self.target_columns)
        self._pending = {part: PendingEpoch(part, len(self.target_columns)) for part in self._actual}
        self._probability_hx: dict[str, dict[int, pd.DataFrame]] = {part: {} for part in PARTS}
        self._prediction_hx: dict[str, dict[int, pd.DataFrame]] = {part: {} for part in PARTS}
        self._losses: dict[tuple[int, str], float] = {}
        self._itemized: dict[tuple[int, str], pd.DataFrame] = {}
        self._combined: dict[tuple[int, str], dict[str, float]] = {}
        self._warned: set[tuple[str, str]] = set()

    # ---- collecting an epoch -----------------------------------------------------------------------

    def append_epoch_batch_data(self, ids: Any, outputs: Any, is_validation: bool = False) -> None:
        """Keeps one batch: (B,) integer ImageIDs, and (B, T) raw outputs, before any sigmoid; tensors or arrays.

        The values stay on their device until the epoch is closed, so no batch waits for the device.

        Raises:
            HilumError: shapes that do not match, or a validation batch without `val_actual`.
        """
        self._pending[self._part(is_validation)].append(ids, outputs)

    def take_pending(self, is_validation: bool = False) -> list[tuple[Any, ...]]:
        """Removes the appended batches of a part and returns them as (ids, outputs), on the CPU.

        Several devices gather their batches with it before they close an epoch.

        Raises:
            HilumError: the validation part without `val_actual`.
        """
        return self._pending[self._part(is_validation)].take()

    def close_epoch(self, epoch: int, is_validation: bool = False, loss: float = float("nan")) -> None:
        """Computes the tables and scores of an epoch from a part's batches; the mean loss is kept with the scores.

        Raises:
            HilumError: no batches, an ImageID that the part does not have, an output that is NaN, or an epoch that is
                already closed.
        """
        part = self._part(is_validation)
        pending = self._pending[part]
        if epoch in self._probability_hx[part]:
            raise HilumError(f"Epoch {epoch} of {part} is already closed; its scores cannot change.")
        if not len(pending):
            raise HilumError(f"Epoch {epoch} of {part} is empty: no batch was appended before close_epoch.")
        ids, logits = pending.read()
        order = np.argsort(ids, kind="stable")
        index = pd.Index(ids[order], name="ImageID")
        probabilities = pd.DataFrame(sigmoid(logits[order]), index=index, columns=list(self.target_columns))
        self._record(epoch, part, probabilities, loss)
        pending.clear()

    # ---- results -----------------------------------------------------------------------------------

    @property
    def scores(self) -> pd.DataFrame:
        """All epochs: `epoch`, `part`, then the columns of `itemized_scores`; train before val."""
        if not self._itemized:
            return pd.DataFrame(columns=["epoch", "part", *ITEMIZED_COLUMNS])
        return pd.concat([self._itemized[key] for key in _in_order(self._itemized)], ignore_index=True)

    @property
    def combined(self) -> pd.DataFrame:
        """All epochs: `epoch`, `part`, `loss`, then the keys of `combined_scores`, averaged over images."""
        rows = [
            {"epoch": epoch, "part": part, "loss": self._losses[epoch, part], **self._combined[epoch, part]}
            for epoch, part in _in_order(self._combined)
        ]
        return pd.DataFrame(rows, columns=["epoch", "part", "loss", *COMBINED_COLUMNS])

    @property
    def train_actual(self) -> pd.DataFrame:
        """Actual labels of the train part."""
        return self._actual["train"].table

    @property
    def val_actual(self) -> pd.DataFrame | None:
        """Actual labels of the validation part, or None."""
        return self._actual["val"].table if "val" in self._actual else None

    train_probability_hx = _history("probability", "train")
    val_probability_hx = _history("probability", "val")
    train_prediction_hx = _history("prediction", "train")
    val_prediction_hx = _history("prediction", "val")
    df_train_probability = _last("probability", "train")
    df_val_probability = _last("probability", "val")
    df_train_prediction = _last("prediction", "train")
    df_val_prediction = _last("prediction", "val")

    def epochs(self, part: str | None = None) -> list[int]:
        """The numbers of the closed epochs of a part, rising; of any part if it is None."""
        return sorted({epoch for epoch, closed in self._itemized if part in (None, closed)})

    def actual(self, epoch: int, part: str) -> pd.DataFrame:
        """Actual labels of the rows of the epoch's probabilities: (N, T) float32, index ImageID."""
        probabilities = self._closed(epoch, part)
        values = self._actual[part].of(probabilities.index.to_numpy())
        return pd.DataFrame(values, index=probabilities.index, columns=list(self.target_columns))

    def rankings(self, epoch: int, part: str) -> dict[str, Ranking]:
        """Target -> `Ranking`, from which the curves of an epoch are drawn."""
        probabilities = self._closed(epoch, part)
        return rank_targets(self.actual(epoch, part), probabilities, self.target_columns)

    # ---- run folder --------------------------------------------------------------------------------

    def predictions(self, epoch: int) -> pd.DataFrame:
        """An epoch's probabilities and actual labels, as the run folder keeps them.

        Returns:
            `part` (train, then val), `ImageID`, `draw` (occurrence number of an image in the epoch), then
            `label_<target>` and `prob_<target>` for all targets, float32. Sorted by part, ImageID, draw.

        Raises:
            HilumError: neither part of the epoch is closed.
        """
        tables = [
            predictions_table(part, self.actual(epoch, part).to_numpy(), self._probability_hx[part][epoch])
            for part in PARTS
            if epoch in self._probability_hx[part]
        ]
        if not tables:
            raise HilumError(f"Epoch {epoch} is not closed; closed are {self.epochs() or 'none'}.")
        return pd.concat(tables, ignore_index=True)

    @classmethod
    def from_run(cls, folder: RunFolder | str | Path) -> "Metrics":
        """Reads all epochs of a run, at the thresholds of its settings.

        Raises:
            HilumError: no epoch has ended yet, or a file is missing.
        """
        folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
        combined = folder.combined()
        predictions = {epoch: folder.predictions(epoch) for epoch in combined["epoch"].unique().tolist()}
        return cls.from_predictions(predictions, folder.record["thresholds"], combined)

    @classmethod
    def from_predictions(
        cls,
        predictions: Mapping[int, pd.DataFrame],
        thresholds: Thresholds = None,
        combined: pd.DataFrame | None = None,
    ) -> "Metrics":
        """The Metrics of tables by epoch, each as from `predictions(epoch)`; see `restore` for `combined`.

        Raises:
            HilumError: no tables, other columns, or tables of different targets.
        """
        if not predictions:
            raise HilumError("There are no predictions to make metrics from: no epoch was given.")
        targets = {epoch: targets_of_table(table) for epoch, table in predictions.items()}
        if len(set(targets.values())) > 1:
            raise HilumError(f"The epochs are not of one run, their targets differ: {targets}.")
        target_columns = next(iter(targets.values()))
        actual = {part: labels_of_part(predictions.values(), part, target_columns) for part in PARTS}
        val_actual = None if actual["val"].empty else actual["val"]
        metrics = cls(target_columns, actual["train"], val_actual, thresholds)
        metrics.restore(predictions, combined)
        return metrics

    def restore(self, predictions: Mapping[int, pd.DataFrame], combined: pd.DataFrame | None = None) -> None:
        """Adds epochs that were closed before, such as those of a run that is resumed.

        The losses cannot be computed again: they are those of `combined`, and NaN without it.

        Raises:
            HilumError: an ImageID that the part does not have.
        """
        losses = {} if combined is None else combined.set_index(["epoch", "part"])["loss"].to_dict()
        for epoch in sorted(predictions):
            for part in PARTS:
                probabilities = probabilities_of_part(predictions[epoch], part, self.target_columns)
                if len(probabilities):
                    self._record(epoch, part, probabilities, losses.get((epoch, part), float("nan")))

    def with_thresholds(self, thresholds: Thresholds) -> "Metrics":
        """The same epochs at other thresholds; this object does not change."""
        other = Metrics(self.target_columns, self.train_actual, self.val_actual, thresholds)
        other._warned |= self._warned
        for epoch, part in _in_order(self._itemized):
            other._record(epoch, part, self._probability_hx[part][epoch], self._losses[epoch, part])
        return other

    display_metrics = display.display_metrics
    display_epoch_progression = display.display_epoch_progression

    def _record(self, epoch: int, part: str, probabilities: pd.DataFrame, loss: float) -> None:
        """Scores one part of an epoch and keeps it; probabilities (N, T) float32, index sorted ImageID."""
        labels = self._actual[part].of(probabilities.index.to_numpy())
        rankings = rank_targets(labels, probabilities, self.target_columns)
        # Compared in float32, as in `Ranking.confusion`: tables and counts must agree.
        reached = probabilities.to_numpy() >= self.target_thresholds.astype(np.float32)
        itemized = scores_of_rankings(rankings, self.target_thresholds)
        itemized.insert(0, "epoch", int(epoch))
        itemized.insert(1, "part", part)
        self._warn_of_undefined(part, rankings)
        self._itemized[epoch, part] = itemized
        self._combined[epoch, part] = combined_scores(labels, reached)
        self._losses[epoch, part] = float(loss)
        self._probability_hx[part][epoch] = probabilities
        predicted = pd.DataFrame(reached.astype(np.int8), probabilities.index, probabilities.columns)
        self._prediction_hx[part][epoch] = predicted

    def _warn_of_undefined(self, part: str, rankings: dict[str, Ranking]) -> None:
        """Warns once per part and target: the reason is the data, not the epoch."""
        for target, ranking in rankings.items():
            lack = ranking.lack()
            if lack is None or (part, target) in self._warned:
                continue
            self._warned.add((part, target))
            all_scores = "recall, precision, F1, ROC AUC and average precision are"
            scores = "ROC AUC is" if ranking.positives else all_scores
            warnings.warn(
                f"{target}: {lack} in {part}, so its {scores} undefined there: n/a in the tables, and left "
                "out of averages over targets.",
                UndefinedScoreWarning,
                stacklevel=4,
            )

    def _part(self, is_validation: bool) -> str:
        if is_validation and "val" not in self._actual:
            raise HilumError("There is a validation batch, but this Metrics has no val_actual.")
        return "val" if is_validation else "train"

    def _closed(self, epoch: int, part: str) -> pd.DataFrame:
        """The probabilities of a part of an epoch."""
        history = self._probability_hx.get(part, {})
        if epoch not in history:
            closed = ", ".join(map(str, sorted(history))) or "none"
            raise HilumError(f"Epoch {epoch} of {part!r} is not closed; closed are: {closed}.")
        return history[epoch]


def _in_order(keys: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """By epoch, train before val, in any order of closing."""
    return sorted(keys, key=lambda key: (key[0], PARTS.index(key[1])))
