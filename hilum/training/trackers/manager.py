"""The trackers of a run: opened before it trains, told of each epoch, never in its way."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pandas as pd

from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.run_folder import RunFolder
from hilum.training.trackers.payload import Conclusion, conclusion, epoch_scalars

#: Tracker -> the package that must be there.
_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}


class Tracker(Protocol):
    """What TensorBoard and MLflow have in common here."""

    def open(self) -> set[int]:
        """Begins the run there, or takes it up; the epochs that it has whole."""

    def epoch(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Keeps an epoch's numbers."""

    def finish(self, end: Conclusion) -> None:
        """Keeps what the run came to, and closes."""

    def fail(self, reason: str) -> None:
        """Keeps why the run stopped, and closes."""


class Trackers:
    """All trackers of one run. What goes wrong with one is said once; neither run nor other trackers mind.

    Args:
        folder: of the run.
        trackers: by name; none at all is fine.

    Raises:
        HilumError: a tracker cannot be begun with.
    """

    def __init__(self, folder: RunFolder, trackers: Mapping[str, Tracker]):
        self._folder, self._trackers = folder, dict(trackers)
        self._logged: dict[str, set[int]] = {}
        self._failed: set[str] = set()
        self._learning_rates: dict[int, float | None] = {}
        for name, tracker in self._trackers.items():
            try:
                self._logged[name] = tracker.open()
            except HilumError:
                raise
            except Exception as error:
                raise HilumError(
                    f"loggers: {name} cannot be begun with: {_in_words(error)} Set it right, or leave {name} out."
                ) from error

    def epoch(self, epoch: int, metrics: Metrics, *, learning_rate: float | None) -> None:
        """Tells of an ended epoch, and of those before it that a tracker has not got.

        Args:
            epoch: its number.
            metrics: of the run; all its epochs up to this one are closed.
            learning_rate: at the end of the epoch; None if there is no one rate.
        """
        self._learning_rates[epoch] = learning_rate
        if self._trackers:
            self._catch_up(metrics.scores, metrics.combined, epoch)

    def finish(self) -> None:
        """Tells what the run came to; called when its folder is complete, figures and report included.

        A tracker that failed on the way is tried once more, with all epochs that it lacks.
        """
        for name in sorted(self._failed):
            if self._guarded(name, self._reopen):
                self._failed.discard(name)
                self._say(f"{name} can be reached again; it is told of the epochs that it missed.")
        if not self._working():
            return
        self._catch_up(self._folder.scores(), self._folder.combined())
        end = conclusion(self._folder)
        for name in self._working():
            self._guarded(name, lambda tracker: tracker.finish(end))

    def fail(self, reason: str) -> None:
        """Tells why the run stopped; never raises.

        Args:
            reason: `interrupted`, or what was raised.
        """
        for name in self._working():
            self._guarded(name, lambda tracker: tracker.fail(reason))

    def _working(self) -> list[str]:
        return [name for name in self._trackers if name not in self._failed]

    def _reopen(self, tracker: Tracker) -> None:
        name = next(name for name, known in self._trackers.items() if known is tracker)
        self._logged[name] = tracker.open()

    def _catch_up(self, scores: pd.DataFrame, combined: pd.DataFrame, last: int | None = None) -> None:
        for epoch in sorted(combined["epoch"].unique().tolist()):
            if last is not None and epoch > last:
                break
            waiting = [name for name in self._working() if epoch not in self._logged[name]]
            if not waiting:
                continue
            scalars = epoch_scalars(scores, combined, epoch, self._learning_rates.get(epoch))
            for name in waiting:
                if self._guarded(name, lambda tracker: tracker.epoch(epoch, scalars)):  # noqa: B023
                    self._logged[name].add(epoch)

    def _guarded(self, name: str, action: Callable[[Tracker], None]) -> bool:
        """Whether it went well; what went wrong is said, the first time."""
        try:
            action(self._trackers[name])
        except Exception as error:
            if name not in self._failed:
                self._failed.add(name)
                self._say(
                    f"warning: {name} is told no more: {_in_words(error)} The training goes on; all is in the run "
                    "folder, and the tracker is tried again at the end."
                )
            return False
        return True

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self._folder.log(line)


def check_trackers(loggers: Sequence[str]) -> None:
    """Refuses trackers whose packages are missing; called before anything is read or drawn.

    Raises:
        HilumError: naming the package and how to have it.
    """
    missing = [name for name in loggers if importlib.util.find_spec(_PACKAGES[name]) is None]
    if missing:
        raise HilumError(
            f"loggers: {' and '.join(missing)} cannot be used: "
            f"{'the package is' if len(missing) == 1 else 'the packages are'} not installed. "
            "Type: pip install 'hilum[track]'; or leave it out of loggers."
        )


def open_trackers(loggers: Sequence[str], folder: RunFolder, *, mlflow_uri: str | None) -> Trackers:
    """The trackers of a run, with its settings told; of a run taken up again they go on where they were.

    Args:
        loggers: of `tensorboard` and `mlflow`.
        folder: of the run.
        mlflow_uri: MLflow's tracking store; None for `mlflow.db` beside the run folder.

    Raises:
        HilumError: a package is missing, or a tracker cannot be begun with.
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


def _in_words(error: Exception) -> str:
    """The first line of what was raised, as a sentence."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return said if said.endswith((".", "!", "?")) else said + "."
