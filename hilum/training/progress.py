"""What a run shows while it trains: progress bars, and lines and tables after each epoch."""

import inspect
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hilum.config import EPOCH_ARGS, RunConfig
from hilum.errors import HilumError, nearest
from hilum.metrics import Metrics
from hilum.metrics.selection import BestEpoch
from hilum.run_folder import RunFolder
from hilum.training.loop import Callback


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = f"{task.speed:,.0f}" if task.speed else "–"
        return Text(f"{rate} images/s", style="progress.data.speed")


class EpochProgress(Callback):
    """A bar per epoch and part with images/s and the time left, within a `with` block.

    Args:
        num_epochs: of the run.
        images: number of images of an epoch by part ("train", "val"): of this process, and of all processes.
        quiet: no bars. There are none in a log file either, which is not a terminal.
    """

    def __init__(self, num_epochs: int, images: Mapping[str, tuple[int, int]], quiet: bool):
        self.num_epochs = num_epochs
        self.images = images
        console = Console(file=sys.stdout)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _ImagesPerSecond(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.epoch = 0
        self.done = 0
        self.seconds = dict.fromkeys(images, 0.0)
        self._task: TaskID | None = None
        self._part_started = time.perf_counter()

    def __enter__(self) -> "EpochProgress":
        self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.stop()

    def on_epoch_begin(self, epoch: int) -> None:
        """Starts the clock of the training part: writing the last epoch's files is not part of it."""
        self.epoch = epoch
        self._part_started = time.perf_counter()

    def on_batch_end(self, part: str, images: int) -> None:
        """Advances the bar of the part."""
        own, _ = self.images[part]
        if self._task is None:
            self._task = self.bars.add_task(f"epoch {self.epoch}/{self.num_epochs} {part:5}", total=own)
        self.bars.advance(self._task, images)
        self.done += images
        if self.done >= own:
            now = time.perf_counter()
            self.seconds[part] = now - self._part_started
            self._part_started = now
            self.bars.remove_task(self._task)
            self._task, self.done = None, 0

    def images_per_second(self, part: str) -> float:
        """Rate of the part's last pass, over all devices; NaN before the first."""
        _, total = self.images[part]
        return total / self.seconds[part] if self.seconds[part] else float("nan")


class EpochLines(Callback):
    """Prints a line after each epoch, and the tables that the setting `epoch_args` chooses.

    Args:
        config: of the run.
        folder: of the run; its log gets the lines too.
        best: the best epoch, updated before this callback.
        progress: for the images/s.

    Raises:
        HilumError: an unknown argument in `epoch_args`.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, best: BestEpoch, progress: EpochProgress):
        self.config, self.folder, self.best, self.progress = config, folder, best, progress
        chosen = config.output.epoch_args
        self.tables: dict[str, Any] = EPOCH_ARGS[chosen] if isinstance(chosen, str) else chosen
        known = [name for name in inspect.signature(Metrics.display_metrics).parameters if name != "epoch"]
        for name in self.tables:
            if name not in known:
                raise HilumError(
                    f"epoch_args: there is no {name!r}.{nearest(name, known)} It takes {', '.join(known)}."
                )

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        """Prints losses and mean validation scores, whether the epoch is the best, and the tables."""
        self.folder.print_and_log(
            f"epoch {epoch}/{self.config.num_epochs}: {epoch_text(metrics, epoch)}; "
            f"{self.progress.images_per_second('train'):,.0f} images/s"
        )
        if 1 < epoch == self.best.epoch:
            self.folder.print_and_log(f"  {best_text(self.best)}")
        if not self.config.quiet and self.config.epoch_args != "none":
            metrics.display_metrics(
                **{"show_roc_curves": False, "show_precision_recall_curves": False} | self.tables
            )


def epoch_text(metrics: Metrics, epoch: int) -> str:
    """Losses, and the mean validation scores at the thresholds of the settings."""
    losses = metrics.combined.query("epoch == @epoch").set_index("part")["loss"]
    scores = metrics.scores.query("epoch == @epoch and part == 'val'")
    means = [
        _mean_text(name, scores[column])
        for name, column in (("recall", "recall"), ("ROC AUC", "roc_auc"), ("precision", "precision"))
    ]
    return f"loss {losses['train']:.4f} train, {losses['val']:.4f} val; val {', '.join(means)}"


def _mean_text(name: str, values: pd.Series) -> str:
    """The mean over the targets that have the score, with their number unless it is all of them."""
    defined = int(values.notna().sum())
    if not defined:
        return f"{name} n/a"
    return f"{name} {values.mean():.3f}" + ("" if defined == len(values) else f" (of {defined} targets)")


def best_text(best: BestEpoch) -> str:
    """The scores by which an epoch is the best so far."""
    names = [criterion.score for criterion in best.rule]
    values = [
        f"{name.replace('_', ' ').replace('roc auc', 'ROC AUC')} {best.scores[name]:.3f}" for name in names
    ]
    return f"the best so far: {', '.join(values)} at the thresholds of the policy"
