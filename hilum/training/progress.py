"""What a run says while it trains."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:,.0f} images/s" if task.speed else "– images/s", style="progress.data.speed"
        )


class EpochProgress:
    """A bar per epoch and part with images/s and the time left; with `quiet`, nothing while it runs.

    Args:
        num_epochs: of the run.
        images: of an epoch, by part ("train", "val"): how many this process has, and how many all have.
        quiet: no bars. Also where the output is no terminal: a log file is no place for a bar.
    """

    def __init__(self, num_epochs: int, images: dict[str, tuple[int, int]], quiet: bool):
        self.num_epochs = num_epochs
        self.own = {part: own for part, (own, _) in images.items()}
        self.all = {part: all_devices for part, (_, all_devices) in images.items()}
        self.console = Console(file=sys.stdout)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _ImagesPerSecond(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.epoch = 0
        self.done = 0
        self.seconds = dict.fromkeys(images, 0.0)
        self._task = None
        self._part_started = time.perf_counter()

    def __enter__(self) -> "EpochProgress":
        self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.stop()

    def advance(self, part: str, images: int) -> None:
        """So many more images of a part are done; called after each batch."""
        if self._task is None:
            if part == "train":
                self.epoch += 1
            label = f"epoch {self.epoch}/{self.num_epochs} {part:5}"
            self._task = self.bars.add_task(label, total=self.own[part])
        self.bars.advance(self._task, images)
        self.done += images
        if self.done >= self.own[part]:
            now = time.perf_counter()
            self.seconds[part] = now - self._part_started
            self._part_started = now
            self.bars.remove_task(self._task)
            self._task, self.done = None, 0

    def restart_clock(self) -> None:
        """What was done since the last batch, such as writing files, is not counted as the next part's time."""
        self._part_started = time.perf_counter()

    def images_per_second(self, part: str) -> float:
        """Of the part's last pass, over all devices."""
        return self.all[part] / self.seconds[part] if self.seconds[part] else float("nan")
