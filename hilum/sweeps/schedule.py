"""Which run is next, and what becomes of it in the state table: the same on one machine and on a cluster."""

from collections.abc import Sequence
from datetime import UTC, datetime

from hilum.sweeps.child import why_it_ended
from hilum.sweeps.devices import device_for
from hilum.sweeps.state import SweepRun, SweepState


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
