"""What a run leaves behind while it goes on, and when it ends."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.metrics.best_epoch import BestEpoch
from hilum.run_folder import RunFolder
from hilum.training.checkpoints import copy_checkpoint, save_checkpoint
from hilum.training.loop import TrainingLoop
from hilum.training.trackers import Trackers


class Terminated(BaseException):
    """The process was asked to end (SIGTERM): no error, and to be caught by nothing on the way out."""


class EpochKeeper:
    """Writes what an epoch leaves behind: predictions, scores, checkpoints, the state of the run.

    Args:
        folder: of the run.
        metrics: of the run.
        loop: that trains it.
        best: that has looked at each epoch before it is kept.
    """

    def __init__(self, folder: RunFolder, metrics: Metrics, loop: TrainingLoop, best: BestEpoch):
        self.folder, self.metrics, self.loop, self.best = folder, metrics, loop, best
        self.checkpoints = folder.path / "checkpoints"
        self.started = time.perf_counter() - folder.record.get("seconds", 0.0)

    def keep(self, epoch: int) -> None:
        """Writes an epoch that has ended."""
        self.folder.write_epoch(
            epoch, self.metrics.predictions(epoch), self.metrics.scores, self.metrics.combined
        )
        save_checkpoint(
            self.checkpoints / "last", self.loop.kept_net, {"epoch": epoch, **self.loop.state_dict()}
        )
        if self.best.epoch == epoch:
            copy_checkpoint(self.checkpoints / "last", self.checkpoints / "best")
        self.folder.update(
            epochs_done=epoch, seconds=round(time.perf_counter() - self.started, 1), **self._of_the_best()
        )

    def take_up(self, checkpoint: Path, done: int) -> None:
        """Brings the folder up to the epochs that had ended; the last is in `checkpoint`."""
        if self.best.epoch == done:
            # The run may have been stopped after the checkpoint was written, and before it was copied.
            copy_checkpoint(checkpoint, self.checkpoints / "best")
        self.folder.update(epochs_done=done, **self._of_the_best())

    def _of_the_best(self) -> dict[str, object]:
        scores = {name: None if np.isnan(value) else value for name, value in self.best.scores.items()}
        return {
            "best_epoch": self.best.epoch,
            "best_roc_auc": scores["roc_auc"],
            "best_scores": {criterion.score: scores[criterion.score] for criterion in self.best.rule},
        }


class EndOfRun:
    """Sees to it that run.json says how the run ended, and keeps no folder of a run that never began.

    Args:
        folder: of the run.
        resumed: whether it had begun before.

    Attributes:
        trackers: to be told as well, once they are there.
    """

    def __init__(self, folder: RunFolder, resumed: bool):
        self.folder, self.resumed = folder, resumed
        self.trackers: Trackers | None = None

    def __enter__(self) -> "EndOfRun":
        return self

    def finished(self, digest: str) -> None:
        """The run has all that it was to have."""
        self.folder.update(status="finished", digest=digest, finished=_now())

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or self.folder.record["status"] == "finished":
            return
        if isinstance(error, HilumError) and not self.folder.epochs() and not self.resumed:
            self.folder.remove()
            return
        stopped = isinstance(error, KeyboardInterrupt | Terminated)
        reason = f"{kind.__name__}: {error}"
        if stopped:
            reason = "terminated" if isinstance(error, Terminated) else "interrupted"
        self.folder.update(status="failed", failure=reason, finished=_now())
        self.folder.log(f"failed: {reason}")
        if self.trackers:
            self.trackers.fail(reason)
        if stopped:
            print(
                f"Everything up to the last ended epoch is kept. Go on with: hilum resume {self.folder.path}",
                flush=True,
            )


def epoch_in_words(metrics: Metrics, epoch: int) -> str:
    """Losses, and the mean validation scores at the thresholds of the settings."""
    combined = metrics.combined[metrics.combined["epoch"] == epoch].set_index("part")
    scores = metrics.scores
    scores = scores[(scores["epoch"] == epoch) & (scores["part"] == "val")]
    return (
        f"loss {combined.at['train', 'loss']:.4f} train, {combined.at['val', 'loss']:.4f} val; "
        f"val {_mean_in_words('recall', scores['recall'])}, {_mean_in_words('ROC AUC', scores['roc_auc'])}, "
        f"{_mean_in_words('precision', scores['precision'])}"
    )


def best_in_words(best: BestEpoch) -> str:
    """Why the best epoch is the best so far."""
    names: Sequence[str] = [criterion.score for criterion in best.rule]
    values = [
        f"{name.replace('_', ' ').replace('roc auc', 'ROC AUC')} {best.scores[name]:.3f}" for name in names
    ]
    return f"the best so far: {', '.join(values)} at the thresholds of the policy"


def _mean_in_words(name: str, values: pd.Series) -> str:
    """The mean over the targets that have the score, saying how many these are unless it is all."""
    defined = int(values.notna().sum())
    if not defined:
        return f"{name} n/a"
    return f"{name} {values.mean():.3f}" + ("" if defined == len(values) else f" (of {defined} targets)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
