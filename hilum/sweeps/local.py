"""The runs of a sweep as processes of this machine."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from hilum.sweeps.child import Child, Command, child_environment, hilum_command
from hilum.sweeps.schedule import already_finished, mark_ended, mark_started, mark_stopped, next_run
from hilum.sweeps.state import SweepRun, SweepState
from hilum.sweeps.view import SweepView

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
