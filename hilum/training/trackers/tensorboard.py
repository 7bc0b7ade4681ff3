"""Runs in TensorBoard: `tensorboard --logdir <save_path>` shows all runs next to each other."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from hilum.run_folder import RunFolder
from hilum.training.trackers._payload import HEADLINE, LAST_SCALAR, Conclusion, flat_settings


class TensorBoardTracker:
    """Writes event files in `<run folder>/tensorboard/`.

    The settings are hyperparameters in the same event file as the scores: `SummaryWriter.add_hparams` would write a
    folder of their own, which TensorBoard shows as a second run without curves.

    Args:
        folder: of the run.
    """

    _writer: SummaryWriter

    def __init__(self, folder: RunFolder):
        self._folder, self._path = folder, folder.path / "tensorboard"

    def open(self) -> set[int]:
        """Writes the settings, or finds the epochs of an earlier process."""
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        epochs: set[int] = set()
        exists = any(self._path.glob("events.out.tfevents.*"))
        if exists:
            events = EventAccumulator(str(self._path), size_guidance={SCALARS: 0}).Reload()
            if LAST_SCALAR in events.Tags()["scalars"]:
                epochs = {event.step for event in events.Scalars(LAST_SCALAR)}
        # TensorBoard then ignores what a stopped process wrote of an unfinished epoch.
        self._writer = SummaryWriter(self._path, purge_step=max(epochs, default=0) + 1 if exists else None)
        if not exists:
            experiment, start, _ = hparams(flat_settings(self._folder.record), {HEADLINE: 0.0})
            self._add_summaries(experiment, start)
        self._writer.flush()
        return epochs

    def epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Stores an epoch's numbers, visible at once."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()

    def finish(self, end: Conclusion) -> None:
        """Stores operating points, figures and mistakes at the best epoch, and the end of the run."""
        for tag, value in end.points.items():
            self._writer.add_scalar(tag, value, end.best_epoch)
        images = {f"figures/{figure.stem}": figure.read_bytes() for figure in end.figures}
        images |= {f"mistakes/{name}": jpeg for name, jpeg in end.mistakes.items()}
        for tag, encoded in images.items():
            pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
            self._writer.add_image(tag, pixels, end.best_epoch, dataformats="HWC")
        lines = [f"| {name} | {value} |" for name, value in end.summary.items()]
        self._writer.add_text("run", "\n".join(["| | |", "|-|-|", *lines]), end.best_epoch)
        self._add_summaries(hparams({}, {})[2])  # the run has succeeded
        self._writer.close()

    def _add_summaries(self, *summaries: Any) -> None:
        writer: Any = self._writer.file_writer
        for summary in summaries:
            writer.add_summary(summary)

    def fail(self, reason: str) -> None:
        """Stores the reason as a text. The run stays open in TensorBoard: it may be resumed."""
        self._writer.add_text("run", f"stopped: {reason}", self._folder.record.get("epochs_done", 0))
        self._writer.close()
