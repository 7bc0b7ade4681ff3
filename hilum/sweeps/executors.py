"""The runs of a sweep as processes of this machine."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hilum.sweeps.process import Child, Command, child_environment, hilum_command, why_it_ended
from hilum.sweeps.progress import SweepView
from hilum.sweeps.state import SweepRun, SweepState

_POLL_SECONDS = 0.05
#: An interrupted run ends within a batch, and has written its state with the epoch before.
_GRACE_SECONDS = 30.0


class _Running:
    """A run at a place, in its process."""

    def __init__(self, run: SweepRun, place: int, child: Child):
        self.run, self.place, self.child = run, place, child
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def run_local(
    state: SweepState,
    places: Sequence[str | None],
    view: SweepView,
    refill: Callable[[int], None] = lambda free: None,
    command: Command = hilum_command,
) -> None:
    """Starts every pending run, at most one at each place, until all have ended.

    Args:
        state: the sweep's.
        places: the device of each run that goes at the same time, from `devices.places`.
        view: is told what happens.
        refill: called with the number of free places before runs are taken; a search adds runs in it.
        command: how a run is started.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the runs were stopped, and are pending again.
    """
    running: list[_Running] = []
    with _terminated_as_interrupted():
        try:
            while True:
                _fill(state, places, running, view, refill, command)
                if not running:
                    return
                time.sleep(_POLL_SECONDS)
                for each in list(running):
                    code = each.child.ended()
                    if code is not None:
                        running.remove(each)
                        mark_ended(state, each.run, code, each.child.last_words(), each.seconds)
                        view.ended(each.run)
                view.refresh()
        finally:
            if running:
                _stop(state, running, view)


def _fill(
    state: SweepState,
    places: Sequence[str | None],
    running: list[_Running],
    view: SweepView,
    refill: Callable[[int], None],
    command: Command,
) -> None:
    refill(len(places) - len(running))
    taken = {each.place for each in running}
    free = [place for place in range(len(places)) if place not in taken]
    while free:
        # A place may have nothing for it while another has, so each is asked.
        place = free.pop(0)
        run = next_run(state, places[place], places)
        if run is None:
            continue
        if already_finished(state, run):
            view.ended(run)
            refill(len(places) - len(running))
            free.insert(0, place)
            continue
        take_up = state.to_take_up(run)
        line = command(state.settings_file(run), take_up)
        mark_started(state, run)
        running.append(
            _Running(run, place, Child(line, state.log_file(run), child_environment(state.threads)))
        )
        view.started(run, again=take_up is not None)


def _stop(state: SweepState, running: list[_Running], view: SweepView) -> None:
    """Asks the runs to stop, and ends those that do not; a second Ctrl-C does not wait."""
    view.say(f"Stopping {len(running)} run(s) …")
    deadline = time.monotonic() + _GRACE_SECONDS
    try:
        for each in running:
            each.child.interrupt()
        for each in running:
            each.child.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for each in running:
            each.child.kill()
            if not already_finished(state, each.run):
                mark_stopped(state, each.run, "stopped with the sweep")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, of a cluster's scheduler say, stops the sweep as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def next_run(state: SweepState, place: str | None, places: Sequence[str | None]) -> SweepRun | None:
    """The first pending run that may go to a place.

    A run that was stopped goes on where it was: it cannot change its device. If that is no longer among the
    places it is started all the same, and says itself what is missing.
    """
    for run in state.in_state("pending"):
        kept = run.device if (state.folder / run.name / "run.json").exists() else None
        if kept is None or kept == place or kept not in places:
            run.device = kept or device_for(run.settings, place)
            return run
    return None


def already_finished(state: SweepState, run: SweepRun) -> bool:
    """Whether a run has ended well without the sweep's knowing, which was killed; the table then says so."""
    folder = state.run_folder(run)
    if folder is None or folder.record["status"] != "finished":
        return False
    state.mark(run, state="finished", failure=None, exit_code=None, seconds=folder.record.get("seconds"))
    return True


def mark_started(state: SweepState, run: SweepRun) -> None:
    """The run has been given to a process."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    cleared = {"failure": None, "note": None, "exit_code": None, "seconds": None}
    state.mark(run, state="running", started=now, attempts=run.attempts + 1, **cleared)


def mark_ended(state: SweepState, run: SweepRun, exit_code: int, last_words: str, seconds: float) -> None:
    """The run's process has ended; whether the run has finished is said by its folder."""
    folder = state.run_folder(run)
    status = folder.record["status"] if folder else "not there"
    reason = None if exit_code == 0 else why_it_ended(exit_code, last_words)
    ended = {"exit_code": exit_code, "seconds": round(seconds, 1)}
    if status == "finished":
        note = reason and f"it had finished, then: {reason}"
        state.mark(run, state="finished", failure=None, note=note, **ended)
    else:
        failure = reason or f"its process ended well, but its folder says that the run is {status}"
        state.mark(run, state="failed", failure=failure, **ended)


def mark_stopped(state: SweepState, run: SweepRun, reason: str) -> None:
    """The run was stopped with the sweep, and is to go on when the sweep does."""
    state.mark(run, state="pending", note=reason)


def places(settings: Iterable[Mapping[str, Any]], parallel: int | None) -> list[str | None]:
    """The device of each run that goes at the same time; None leaves it to the run's own settings.

    With more places than devices, runs share them, evenly.

    Args:
        settings: of the runs, or of what is common to them.
        parallel: how many at once; None is one per CUDA device, or one.
    """
    settings = list(settings)
    # A run on several devices, or on one that its settings name, is not moved to another.
    movable = all(each.get("devices", 1) == 1 for each in settings) and any(
        each.get("device", "auto") in ("auto", "cuda") for each in settings
    )
    found = cuda_devices() if movable else 0
    if not found:
        return [None] * (parallel or 1)
    return [f"cuda:{place % found}" for place in range(parallel or found)]


def device_for(settings: Mapping[str, Any], place: str | None) -> str | None:
    """The device that a run is given at a place; None if its settings name one."""
    return place if settings.get("device", "auto") in ("auto", "cuda") else None


def cuda_devices() -> int:
    """How many CUDA devices PyTorch sees here.

    Asked in another process, so that this one holds neither PyTorch nor memory of a device; and not at all
    where there is no sign of one.
    """
    if sys.platform == "linux" and not any(
        [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg"), *Path("/dev").glob("kfd")]
    ):
        return 0
    if sys.platform == "darwin":
        return 0
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"],
        capture_output=True,
        text=True,
        check=False,
    )
    last = asked.stdout.split()[-1:] or ["0"]
    return int(last[0]) if last[0].isdecimal() else 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
