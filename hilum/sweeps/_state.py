"""The state of a sweep: sweep.json in its folder, written whole at every change.

<save_path>/<sweep>/
  sweep.json              what was asked for, and the state of each run
  settings/<run>.toml     the settings that `hilum train` is given
  logs/<run>.log          its output
  <run>/                  the run's folder
  search.db               Optuna's study, of a search
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from hilum import __version__
from hilum.config import with_current_names
from hilum.errors import HilumError
from hilum.files import locked, replacing, write_json
from hilum.run_folder import RunFolder
from hilum.sweeps._spec import SweepRun, SweepSpec, run_key, unused_name

#: Of sweep.json. Format 1 has the plan as `plan`, and settings under older names.
FORMAT_VERSION = 2


@dataclass
class SweepState:
    """A sweep on disk, with its runs in order."""

    folder: Path
    spec: dict[str, Any]  # what was asked for, see `SweepSpec.as_record`
    threads: int | None  # of each run's process; None leaves it to PyTorch
    runs: list[SweepRun] = field(default_factory=list)
    trials: dict[int, list[str]] = field(default_factory=dict)  # of a search: number -> names of its runs
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def run(self, name: str) -> SweepRun:
        """The run of a name."""
        return next(run for run in self.runs if run.name == name)

    def in_state(self, *states: str) -> list[SweepRun]:
        """The runs that are in one of these states."""
        return [run for run in self.runs if run.state in states]

    def add(self, planned: Sequence[SweepRun]) -> list[SweepRun]:
        """Adds the runs that are new, under unused names; gives the entry of each."""
        by_key = {run.key: run for run in self.runs}
        names = {run.name.lower() for run in self.runs}
        for run in planned:
            if run.key not in by_key:
                run.name = unused_name(run.name, names)
                by_key[run.key] = run
                self.runs.append(run)
        return [by_key[run.key] for run in planned]

    def mark(self, run: SweepRun, **changes: Any) -> None:
        """Changes the state of a run, and writes it."""
        for name, value in changes.items():
            setattr(run, name, value)
        self.save()

    def save(self) -> None:
        """Writes sweep.json."""
        record = {
            "format": FORMAT_VERSION,
            "name": self.folder.name,
            "hilum": __version__,
            "started": self.started,
        }
        record |= {"threads": self.threads, "spec": self.spec, "trials": self.trials}
        write_json(self.folder / "sweep.json", record | {"runs": [asdict(run) for run in self.runs]})

    def settings_file(self, run: SweepRun) -> Path:
        """Writes the settings that `hilum train` is given; gives the file's path."""
        path = self.folder / "settings" / f"{run.name}.toml"
        settings = run.settings | {"save_path": str(self.folder), "name": run.name}
        if run.device:
            settings["device"] = run.device
        with replacing(path) as partial:
            partial.write_text(as_toml(settings), encoding="utf-8")
        return path

    def log_file(self, run: SweepRun) -> Path:
        """The file of a run's output."""
        return self.folder / "logs" / f"{run.name}.log"

    def run_folder(self, run: SweepRun) -> RunFolder | None:
        """The run's folder; None if it is missing or cannot be read."""
        try:
            return RunFolder(self.folder / run.name)
        except HilumError:
            return None

    def folder_to_resume(self, run: SweepRun) -> Path | None:
        """The run's folder if `hilum resume` can continue it; None if it must be trained from the start.

        A folder whose process ended before it wrote a run.json is removed.
        """
        path = self.folder / run.name
        if (path / "run.json").exists():
            return path
        shutil.rmtree(path, ignore_errors=True)
        return None


def as_toml(settings: Mapping[str, Any]) -> str:
    """Settings as TOML. A setting that is None is left out, because TOML has no null."""
    return tomli_w.dumps(_without_none(settings))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [*map(_without_none, value)] if isinstance(value, list) else value


def open_state(spec: SweepSpec) -> SweepState:
    """The state of a new sweep, or of the one in the folder of `spec`, with all runs of `spec`.

    Nothing is written yet. Runs that a killed sweep left running are pending again.

    Raises:
        HilumError: the folder has other content, or its sweep was written by a newer version or differs from
            `spec` in more than added runs.
    """
    folder = spec.folder
    if not (folder / "sweep.json").exists():
        content = [path.name for path in folder.iterdir() if path.name != ".lock"] if folder.is_dir() else []
        if content or (folder.exists() and not folder.is_dir()):
            raise HilumError(
                f"{folder}: this is not the folder of a sweep: it contains {content[0] if content else 'a file'}. "
                "Give the sweep another name, or remove the folder."
            )
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdecimal() else 0
        state = SweepState(folder, spec.as_record(), spec.threads or threads or None)
    else:
        state = read_state(folder)
        _check_unchanged(state, spec)
        state.spec = spec.as_record()
    state.add(spec.plan_runs())
    for run in state.in_state("running"):
        run.state = "pending"
    return state


def read_state(folder: str | Path) -> SweepState:
    """The sweep in a folder.

    Raises:
        HilumError: sweep.json is missing or damaged, or was written by a newer version.
    """
    folder, file = Path(folder), Path(folder) / "sweep.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["format"] <= FORMAT_VERSION:
            if record["format"] == 1:
                _upgrade(record)
            runs = [SweepRun(**run | {"key": run_key(json.loads(run["key"]))}) for run in record["runs"]]
            trials = {int(number): names for number, names in record["trials"].items()}
            return SweepState(folder, record["spec"], record["threads"], runs, trials, record["started"])
    except FileNotFoundError:
        raise HilumError(f"{folder}: this is not the folder of a sweep: sweep.json is missing.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HilumError(f"{file}: the file is damaged: {type(error).__name__}: {error}.") from None
    raise HilumError(f"{file}: the sweep was written by a newer Hilum ({record.get('hilum')}). Update hilum.")


def _upgrade(record: dict[str, Any]) -> None:
    """Brings a record of format 1 to format 2."""
    spec = record["spec"] = record.pop("plan")
    spec |= {name: with_current_names(spec[name]) for name in ("base", "grid")}
    spec["runs"] = [with_current_names(run) for run in spec["runs"]]
    if spec["search"] is not None:
        spec["search"]["settings"] = with_current_names(spec["search"]["settings"])
    for run in record["runs"]:
        run |= {name: with_current_names(run[name]) for name in ("overrides", "settings")}


def _check_unchanged(state: SweepState, spec: SweepSpec) -> None:
    """Raises HilumError unless `spec` only adds runs to those of a sweep; the message names what changed."""
    now = spec.as_record()
    changes = [*_changes(state.spec, now, "threads", "search")]
    if spec.search is not None:
        changes += _changes(state.spec, now, "base", "grid", "runs", "seeds")
    elif not {run.key for run in state.runs} <= {run.key for run in spec.plan_runs()}:
        tables = [*_changes(state.spec, now, "base", "grid", "runs", "seeds")]
        changes += tables or ["the default of a setting, in another version of Hilum"]
    if changes:
        raise HilumError(
            f"{state.folder}: this sweep was started with other settings: {'; '.join(changes)}. "
            "Only runs may be added. Undo the change, or give the sweep another name."
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], *tables: str) -> Iterator[str]:
    """Entries of these tables that were changed or removed; values that were added to a list are not listed."""
    for table in tables:
        old, new = before[table], now[table]
        pairs: dict[str, tuple[Any, Any]]
        if isinstance(old, dict) and isinstance(new, dict):
            pairs = {f"[{table}] {name}": (old.get(name), new.get(name)) for name in old | new}
        else:
            pairs = {f"[{table}]" if table == "search" else table: (old, new)}
        for name, (was, is_now) in pairs.items():
            lists = isinstance(was, list) and isinstance(is_now, list)
            more_trials = name == "[search] trials" and is_now >= was
            if was != is_now and not more_trials and not (lists and all(value in is_now for value in was)):
                was, is_now = ("absent" if value is None else value for value in (was, is_now))
                yield f"{name} was {was}, is {is_now}"


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Keeps other processes from running the same sweep; the lock is free when this process ends, however it ends.

    Raises:
        HilumError: another process has the lock, or the folder cannot be written.
    """
    with ExitStack() as stack:
        if not folder.exists():
            stack.callback(_remove_if_empty, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            busy = f"{folder}: another process runs this sweep. Wait for it, or stop it."
            stack.enter_context(locked(folder / ".lock", busy))
        except OSError as error:
            raise HilumError(f"save_path {folder.parent}: it cannot be written: {error.strerror}.") from None
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
