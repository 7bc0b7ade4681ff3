"""Experiment trackers get a copy of what is in the run folder. A tracker that fails does not stop the run."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import pandas as pd

from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.run_folder import RunFolder
from hilum.training.loop import Callback, TrainingLoop
from hilum.training.run_writer import failure_text
from hilum.training.trackers._payload import Conclusion, epoch_scalars


class Tracker(Protocol):
    """What TensorBoard and MLflow have in common here."""

    def open(self) -> set[int]:
        """Starts or continues the run in the tracker; returns the epochs that are complete there."""

    def epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Stores an epoch's numbers."""

    def finish(self, end: Conclusion) -> None:
        """Stores the results of the run, and closes."""

    def fail(self, reason: str) -> None:
        """Stores why the run stopped, and closes."""


class Trackers(Callback):
    """All trackers of one run, within a `with` block that tells them of a failure.

    A tracker that fails is reported once and left out until the end; the run and the other trackers continue.

    Args:
        folder: of the run.
        trackers: by name; may be empty.

    Raises:
        HilumError: a tracker cannot be opened.
    """

    def __init__(self, folder: RunFolder, trackers: Mapping[str, Tracker]):
        self._folder, self._trackers = folder, dict(trackers)
        self._logged: dict[str, set[int]] = {}
        self._failed: set[str] = set()
        self._learning_rates: dict[int, float] = {}
        for name in trackers:
            try:
                self._open(name)
            except HilumError:
                raise
            except Exception as error:
                raise HilumError(
                    f"loggers: {name} cannot be opened: {_first_line(error)} Correct it, or leave {name} out."
                ) from error

    def _open(self, name: str) -> None:
        self._logged[name] = self._trackers[name].open()

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is not None and self._folder.record["status"] != "finished":
            self.fail(failure_text(error))

    def on_train_begin(self, loop: TrainingLoop) -> None:
        """Keeps the loop, which knows the learning rate."""
        self._loop = loop

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        """Sends an epoch, and earlier ones that a tracker does not have."""
        self._learning_rates[epoch] = self._loop.learning_rate
        if self._trackers:
            self._send(metrics.scores, metrics.combined, epoch)

    def finish(self) -> None:
        """Sends the results; called when the run folder is complete, figures and report included.

        A tracker that failed is tried once more, with all epochs that it does not have.
        """
        for name in sorted(self._failed):
            if self._try(name, partial(self._open, name)):
                self._failed.discard(name)
                self._folder.print_and_log(f"{name} can be reached again; it gets the epochs that it missed.")
        if self._working():
            self._send(self._folder.scores(), self._folder.combined())
            end = Conclusion(self._folder)
            for name, tracker in self._working().items():
                self._try(name, partial(tracker.finish, end))

    def fail(self, reason: str) -> None:
        """Sends why the run stopped, such as "interrupted"; never raises."""
        for name, tracker in self._working().items():
            self._try(name, partial(tracker.fail, reason))

    def _working(self) -> dict[str, Tracker]:
        return {name: tracker for name, tracker in self._trackers.items() if name not in self._failed}

    def _send(self, scores: pd.DataFrame, combined: pd.DataFrame, last: int | None = None) -> None:
        for epoch in sorted(combined["epoch"].unique().tolist()):
            if last is not None and epoch > last:
                break
            waiting = [name for name in self._working() if epoch not in self._logged[name]]
            if not waiting:
                continue
            scalars = epoch_scalars(scores, combined, epoch, self._learning_rates.get(epoch))
            for name in waiting:
                if self._try(name, partial(self._trackers[name].epoch, epoch, scalars)):
                    self._logged[name].add(epoch)

    def _try(self, name: str, action: Callable[[], None]) -> bool:
        """Whether the action succeeded; the first error of a tracker is printed."""
        try:
            action()
        except Exception as error:
            if name not in self._failed:
                self._failed.add(name)
                self._folder.print_and_log(
                    f"warning: {name} has failed: {_first_line(error)} The training continues, and the run folder is "
                    f"complete; {name} is tried again at the end."
                )
            return False
        return True


def check_trackers(loggers: Sequence[str]) -> None:
    """Checks that the packages of trackers, which have the same names, are installed, before anything is read.

    Raises:
        HilumError: with the missing package and how to install it.
    """
    missing = [name for name in loggers if importlib.util.find_spec(name) is None]
    if missing:
        packages = "the package is" if len(missing) == 1 else "the packages are"
        raise HilumError(
            f"loggers: {' and '.join(missing)} cannot be used: {packages} not installed. "
            "Type: pip install 'hilum[track]'; or leave it out of loggers."
        )


def open_trackers(loggers: Sequence[str], folder: RunFolder, mlflow_uri: str | None = None) -> Trackers:
    """The trackers of a run, with its settings; a resumed run continues in them.

    Args:
        loggers: of `tensorboard` and `mlflow`.
        folder: of the run.
        mlflow_uri: MLflow's tracking store; None for `mlflow.db` next to the run folder.

    Raises:
        HilumError: a package is missing, or a tracker cannot be opened.
    """
    check_trackers(loggers)
    opened: dict[str, Tracker] = {}
    if "tensorboard" in loggers:
        from hilum.training.trackers.tensorboard import TensorBoardTracker

        opened["tensorboard"] = TensorBoardTracker(folder)
    if "mlflow" in loggers:
        from hilum.training.trackers.mlflow import MLflowTracker

        opened["mlflow"] = MLflowTracker(folder, mlflow_uri)
    return Trackers(folder, opened)


def _first_line(error: Exception) -> str:
    """The first line of an error's message, as a sentence."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith((".", "!", "?")) else f"{line}."
