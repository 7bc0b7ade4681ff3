"""The state table of a sweep: sweep.json in its folder, written whole at every change.

<save_path>/<sweep>/
  sweep.json              what was asked for, and each run's state
  settings/<run>.toml     what `hilum train` is given
  logs/<run>.log          what it said
  <run>/                  the run's folder
  search.db               Optuna's study, of a search
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hilum import __version__
from hilum.errors import HilumError
from hilum.files import replacing
from hilum.run_folder import RunFolder
from hilum.sweeps.changes import refuse_changes
from hilum.sweeps.plan import PlannedRun, SweepPlan
from hilum.sweeps.toml import as_toml

#: Of the layout above; a reader refuses a folder that is newer.
FORMAT_VERSION = 1

STATES = ("pending", "running", "finished", "failed")


@dataclass
class SweepRun:
    """A run's line in the state table.

    Attributes:
        name, overrides, settings, key: as in `PlannedRun`.
        state: one of `STATES`.
        attempts: how often it was started.
        device: that the sweep gave it; None if its settings decide.
        started: UTC, ISO 8601, of the last attempt.
        seconds: of the last attempt.
        exit_code: of its process; negative is the signal that ended it.
        failure: why it failed.
        note: what else there is to say of a run that has finished.
    """

    name: str
    overrides: dict[str, Any]
    settings: dict[str, Any]
    key: str
    state: str = "pending"
    attempts: int = 0
    device: str | None = None
    started: str | None = None
    seconds: float | None = None
    exit_code: int | None = None
    failure: str | None = None
    note: str | None = None


@dataclass
class SweepState:
    """A sweep on disk.

    Attributes:
        folder: of the sweep.
        plan: what was asked for, as JSON values.
        threads: of each run's process; None leaves it to PyTorch.
        runs: the table, in order.
        trials: of a search, number -> the names of its runs.
        started: UTC, ISO 8601.
    """

    folder: Path
    plan: dict[str, Any]
    threads: int | None
    runs: list[SweepRun] = field(default_factory=list)
    trials: dict[int, list[str]] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def name(self) -> str:
        """Of the sweep."""
        return self.folder.name

    def run(self, name: str) -> SweepRun:
        """The line of a name."""
        return next(run for run in self.runs if run.name == name)

    def in_state(self, *states: str) -> list[SweepRun]:
        """The runs that are in one of these states."""
        return [run for run in self.runs if run.state in states]

    def add(self, planned: Iterable[PlannedRun]) -> list[SweepRun]:
        """Adds the runs that are not there yet; gives the line of each."""
        by_key = {run.key: run for run in self.runs}
        lines = []
        for run in planned:
            if run.key not in by_key:
                by_key[run.key] = SweepRun(run.name, run.overrides, run.settings, run.key)
                self.runs.append(by_key[run.key])
            lines.append(by_key[run.key])
        return lines

    def mark(self, run: SweepRun, **changes: Any) -> None:
        """Changes a run's line, and writes the table."""
        for name, value in changes.items():
            setattr(run, name, value)
        self.save()

    def save(self) -> None:
        """Writes sweep.json, whole."""
        record = {"format": FORMAT_VERSION, "name": self.name, "hilum": __version__, "started": self.started}
        record |= {"threads": self.threads, "plan": self.plan, "trials": self.trials}
        record["runs"] = [asdict(run) for run in self.runs]
        with replacing(self.folder / "sweep.json") as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def settings_file(self, run: SweepRun) -> Path:
        """Writes what `hilum train` is to be given; where it is."""
        path = self.folder / "settings" / f"{run.name}.toml"
        own = {"save_path": self.folder, "name": run.name, "device": run.device}
        own = {name: value for name, value in own.items() if value is not None}
        with replacing(path) as partial:
            partial.write_text(as_toml(run.settings | own), encoding="utf-8")
        return path

    def log_file(self, run: SweepRun) -> Path:
        """Where what it says is kept."""
        return self.folder / "logs" / f"{run.name}.log"

    def run_folder(self, run: SweepRun) -> RunFolder | None:
        """What it has left, if anything that can be read."""
        try:
            return RunFolder(self.folder / run.name)
        except HilumError:
            return None

    def to_take_up(self, run: SweepRun) -> Path | None:
        """The run's folder if `hilum resume` is to go on with it; None if it must be trained from the beginning.

        A folder that was made and then lost its process before it had a run.json is removed.
        """
        path = self.folder / run.name
        if (path / "run.json").exists():
            return path
        shutil.rmtree(path, ignore_errors=True)
        return None


def begin(plan: SweepPlan) -> SweepState:
    """The state of a new sweep, or of the one that lies in the plan's folder, with the runs of the plan.

    Nothing is written yet. Runs that a killed sweep left running are pending again.

    Raises:
        HilumError: the folder holds something else, was written by a newer version, or by a sweep that was
            asked for otherwise.
    """
    folder = plan.folder
    if not (folder / "sweep.json").exists():
        kept = [path for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else []
        if kept or (folder.exists() and not folder.is_dir()):
            raise HilumError(
                f"{folder}: at the sweep's place is something else, such as {kept[0].name if kept else 'a file'}. "
                "Give the sweep another name, or remove it."
            )
        threads = plan.threads or _threads_of_environment()
        state = SweepState(folder, plan.as_record(), threads)
        state.add(plan.runs)
        return state
    state = read_state(folder)
    refuse_changes(state.plan, plan, {run.key for run in state.runs})
    state.plan = plan.as_record()
    state.add(_with_free_names(plan.runs, state.runs))
    for run in state.in_state("running"):
        run.state = "pending"
    return state


def read_state(folder: str | Path) -> SweepState:
    """The sweep in a folder.

    Raises:
        HilumError: there is none, it is damaged, or it was written by a newer version.
    """
    file = Path(folder) / "sweep.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        newer = record["format"] > FORMAT_VERSION
        if not newer:
            runs = [SweepRun(**run) for run in record["runs"]]
            trials = {int(number): names for number, names in record["trials"].items()}
            return SweepState(
                Path(folder), record["plan"], record["threads"], runs, trials, record["started"]
            )
    except FileNotFoundError:
        raise HilumError(f"{folder}: this is no folder of a sweep: sweep.json is missing.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HilumError(f"{file}: the file is damaged: {type(error).__name__}: {error}.") from None
    raise HilumError(f"{file}: the sweep was written by a newer Hilum ({record.get('hilum')}). Update hilum.")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a second sweep away from a folder; the hold ends with the process, however it ends.

    Raises:
        HilumError: another process holds it, or the folder cannot be written.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise HilumError(f"{folder}: another process runs this sweep. Wait for it, or stop it.") from None
    except OSError as error:
        raise HilumError(f"save_path {folder.parent}: it cannot be written: {error.strerror}.") from None
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)
        lock.release()
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _threads_of_environment() -> int | None:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else None


def _with_free_names(planned: Iterable[PlannedRun], there: Iterable[SweepRun]) -> Iterator[PlannedRun]:
    """Runs that were added to a file, under names that no former run has."""
    taken, keys = {run.name.lower() for run in there}, {run.key for run in there}
    for run in planned:
        name, number = run.name, 1
        while run.key not in keys and name.lower() in taken:
            number += 1
            name = f"{run.name}-{number}"
        taken.add(name.lower())
        yield PlannedRun(name, run.overrides, run.settings, run.key)
