"""A run in TensorBoard: `tensorboard --logdir <save_path>` shows all runs beside each other."""

from collections.abc import Mapping

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from hilum.run_folder import RunFolder
from hilum.training.trackers.payload import HEADLINE, Conclusion, flat_settings

#: The scalar that `epoch_scalars` puts last: an epoch is whole where it is.
LAST_SCALAR = "loss/train"


class TensorBoardTracker:
    """Writes event files in `<run folder>/tensorboard/`.

    The settings are written as hyperparameters into the same event file as the scores.
    `SummaryWriter.add_hparams` would put them into a folder of their own, which TensorBoard shows as a second run
    that has settings and no curves.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._path = folder.path / "tensorboard"
        self._writer: SummaryWriter | None = None

    def open(self) -> set[int]:
        """Writes the settings, or finds the epochs that are there."""
        whole = self._whole_epochs()
        begun = any(self._path.glob("events.out.tfevents.*"))
        # What a stopped process wrote of an epoch that it did not end is not to count.
        after = max(whole, default=0) + 1
        self._writer = SummaryWriter(self._path, purge_step=after if begun else None)
        if not begun:
            experiment, start, _ = hparams(flat_settings(self._folder.record), {HEADLINE: 0.0})
            self._writer.file_writer.add_summary(experiment)
            self._writer.file_writer.add_summary(start)
        self._writer.flush()
        return whole

    def _whole_epochs(self) -> set[int]:
        if not self._path.is_dir():
            return set()
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        events = EventAccumulator(str(self._path), size_guidance={SCALARS: 0}).Reload()
        if LAST_SCALAR not in events.Tags()["scalars"]:
            return set()
        return {event.step for event in events.Scalars(LAST_SCALAR)}

    def epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Keeps an epoch's numbers; they can be seen at once."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()

    def finish(self, end: Conclusion) -> None:
        """Keeps operating points, figures and mistakes at the best epoch, and what the run ended with."""
        for tag, value in end.points.items():
            self._writer.add_scalar(tag, value, end.best_epoch)
        for figure in end.figures:
            self._add_image(f"figures/{figure.stem}", figure.read_bytes(), end.best_epoch)
        for mistake in end.mistakes:
            self._add_image(f"mistakes/{mistake.name}", mistake.jpeg, end.best_epoch)
        lines = [f"| {name} | {value} |" for name, value in end.summary.items()]
        self._writer.add_text("run", "\n".join(["| | |", "|-|-|", *lines]), end.best_epoch)
        _, _, success = hparams({}, {})
        self._writer.file_writer.add_summary(success)
        self._writer.close()

    def _add_image(self, tag: str, encoded: bytes, step: int) -> None:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def fail(self, reason: str) -> None:
        """Keeps the reason as a text. The run's state stays open: it may be taken up again."""
        self._writer.add_text("run", f"stopped: {reason}", self._folder.record.get("epochs_done", 0))
        self._writer.close()
