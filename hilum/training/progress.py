"""What a run shows while it trains: progress bars, and lines and tables after each epoch."""

import inspect
import sys
import time
from collections.abc import Mapping
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
        self.num_epochs, self.images = num_epochs, images
        console = Console(file=sys.stdout)
        columns = BarColumn(), MofNCompleteColumn(), _ImagesPerSecond(), TimeRemainingColumn()
        off = quiet or not console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}"), *columns, console=console, transient=True, disable=off
        )
        self.epoch = self.done = 0
        self.seconds = dict.fromkeys(images, 0.0)
        self._task: TaskID | None = None
        self._part_started = time.perf_counter()

    def __enter__(self) -> "EpochProgress":
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
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
            self.seconds[part], self._part_started = now - self._part_started, now
            self.bars.remove_task(self._task)
            self._task, self.done = None, 0

    def images_per_second(self, part: str) -> float:
        """Rate of the part's last pass, over all devices; NaN before the first."""
        return self.images[part][1] / self.seconds[part] if self.seconds[part] else float("nan")


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
        for name in self.tables.keys() - known:
            raise HilumError(
                f"epoch_args: there is no {name!r}.{nearest(name, known)} It takes {', '.join(known)}."
            )

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        """Prints losses and mean validation scores, whether the epoch is the best, and the tables."""
        losses = metrics.combined.query("epoch == @epoch").set_index("part")["loss"]
        scores = metrics.scores.query("epoch == @epoch and part == 'val'")
        means = [_score_text(score, scores[score]) for score in ("recall", "roc_auc", "precision")]
        self.folder.print_and_log(
            f"epoch {epoch}/{self.config.num_epochs}: loss {losses['train']:.4f} train, {losses['val']:.4f} val; "
            f"val {', '.join(means)}; {self.progress.images_per_second('train'):,.0f} images/s"
        )
        if 1 < epoch == self.best.epoch:
            values = [f"{_name(rule.score)} {self.best.scores[rule.score]:.3f}" for rule in self.best.rule]
            text = f"  the best so far: {', '.join(values)} at the thresholds of the policy"
            self.folder.print_and_log(text)
        if not self.config.quiet and self.config.epoch_args != "none":
            curves = {"show_roc_curves": False, "show_precision_recall_curves": False}
            metrics.display_metrics(**curves | self.tables)


def _name(score: str) -> str:
    return score.replace("_", " ").replace("roc auc", "ROC AUC")


def _score_text(score: str, values: pd.Series) -> str:
    """The mean over the targets that have the score, with their number unless it is all of them."""
    defined = int(values.notna().sum())
    number = "" if defined == len(values) else f" (mean over {defined} targets)"
    return f"{_name(score)} {values.mean():.3f}{number}" if defined else f"{_name(score)} n/a"
