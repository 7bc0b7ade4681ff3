"""Many combinations of settings, each trained in a process of its own: what a sweep file says, in Python."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.sweeps import executors
from hilum.sweeps.plan import SweepPlan, make_plan, read_plan
from hilum.sweeps.process import Command, hilum_command
from hilum.sweeps.state import SweepState, begin, held

if TYPE_CHECKING:
    from hilum.sweeps.results import SweepResult

EXECUTORS = ("local", "ray")


class ModelLoop:
    """A sweep of runs. The arguments are the parts of a sweep file; `docs/sweeps.md` tells of each.

    Each run is a process of its own: its memory goes back to the system, and one that crashes spoils one run.

    Args:
        base: settings that all runs have.
        grid: setting -> values, or a range `{"from": 1e-6, "to": 1e-3, "steps": 4, "scale": "log"}`; every
            combination is a run. `"net_kwargs.layers"` is the entry of a table.
        runs: settings of single runs.
        seeds: every combination is repeated with these.
        repeats: or with so many seeds, from the base's on.
        search: what Optuna looks for, in place of grid and runs.
        name: of the sweep's folder.
        save_path: the folder of that.
        threads: of each run's process; they decide the last bits of a CPU's sums, so all runs have the same.

    Raises:
        HilumError: a setting cannot be used; all mistakes are named at once.

    Example:
        >>> loop = ModelLoop({"source": "phantom"}, grid={"learning_rate": [1e-4, 1e-3]}, seeds=[0, 1], name="lr")
        >>> [run.name for run in loop.plan.runs][:2]
        ['lr-learning_rate-0.0001-seed-0', 'lr-learning_rate-0.0001-seed-1']
    """

    def __init__(
        self,
        base: Mapping[str, Any] | RunConfig | None = None,
        *,
        grid: Mapping[str, Any] | None = None,
        runs: Sequence[Mapping[str, Any]] | None = None,
        seeds: Sequence[int] | None = None,
        repeats: int | None = None,
        search: Mapping[str, Any] | None = None,
        name: str = "sweep",
        save_path: str | Path = "runs",
        threads: int | None = None,
    ):
        self.plan = make_plan(
            base,
            grid=grid,
            runs=runs,
            seeds=seeds,
            repeats=repeats,
            search=search,
            name=name,
            save_path=save_path,
            threads=threads,
        )

    @classmethod
    def from_toml(cls, path: str | Path, **flags: Any) -> "ModelLoop":
        """The sweep of a file.

        Args:
            path: of the file.
            flags: settings that win over those of its base; name and save_path are the sweep's.

        Raises:
            HilumError: the file cannot be read, or what is in it cannot be used.
        """
        loop = cls.__new__(cls)
        loop.plan = read_plan(path, flags)
        return loop

    def run(
        self,
        parallel: int | None = None,
        executor: Literal["local", "ray"] = "local",
        *,
        retry_failed: bool = False,
        address: str | None = None,
        console: Console | None = None,
        command: Command = hilum_command,
    ) -> "SweepResult":
        """Trains what has not finished yet, and compares all.

        A sweep that was stopped, even by SIGKILL, goes on: finished runs are kept, one that was under way is
        resumed. Failed runs are started again only if asked.

        Args:
            parallel: runs at once; None is one per CUDA device, or one.
            executor: "local", processes of this machine; or "ray", tasks of a cluster.
            retry_failed: start failed runs again.
            address: of the Ray cluster; None is the one of this machine's surroundings, or a new local one.
            console: to show the course on; standard output if left out.
            command: how a run is started; for tests.

        Raises:
            HilumError: the sweep's folder is taken, or was begun with another file; a package is missing.
            KeyboardInterrupt: Ctrl-C; what was running goes on the next time.
        """
        _check_call(parallel, executor)
        if self.plan.search is not None:
            from hilum.sweeps.search import require_optuna

            require_optuna()
        if executor == "ray":
            from hilum.sweeps.ray_executor import require_ray

            require_ray()
        console = console or Console(file=sys.stdout)
        with held(self.plan.folder):
            state = begin(self.plan)
            if retry_failed:
                for run in state.in_state("failed"):
                    run.state = "pending"
            state.save()
            self._run(state, parallel, executor, address, console, command)
            from hilum.sweeps.results import SweepResult

            return SweepResult.of(state)

    def _run(
        self,
        state: SweepState,
        parallel: int | None,
        executor: str,
        address: str | None,
        console: Console,
        command: Command,
    ) -> None:
        from hilum.sweeps.progress import SweepView

        refill, total = (lambda free: None), None
        if self.plan.search is not None:
            from hilum.sweeps.search import Search

            search = Search(self.plan, state)
            refill, total = search.refill, search.total()
        with SweepView(state, console, total) as view:
            _say_where_it_stands(state, view.say)
            try:
                if executor == "ray":
                    from hilum.sweeps.ray_executor import run_on_ray

                    run_on_ray(state, parallel, view, refill, command, address)
                else:
                    places = _local_places(self.plan, state, parallel)
                    _say_of_threads(state, places, view.say)
                    from hilum.sweeps.executors import run_local

                    run_local(state, places, view, refill, command)
            except KeyboardInterrupt:
                view.say(f"Everything is kept in {state.folder}. Go on with the same command.")
                raise
            refill(0)


def _check_call(parallel: Any, executor: Any) -> None:
    if parallel is not None and (isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1):
        raise HilumError(f"parallel is {parallel!r}; it must be a whole number from 1 on.")
    if executor not in EXECUTORS:
        raise HilumError(f"executor: {executor!r} is none; it must be {' or '.join(EXECUTORS)}.")


def _local_places(plan: SweepPlan, state: SweepState, parallel: int | None) -> list[str | None]:
    pending = [run.settings for run in state.in_state("pending")]
    if plan.search is not None:
        pending.append(plan.base)
    return executors.places(pending, parallel) if pending else [None] * (parallel or 1)


def _say_where_it_stands(state: SweepState, say: Any) -> None:
    counts = {name: len(state.in_state(name)) for name in ("finished", "failed", "pending")}
    if counts["finished"] or counts["failed"]:
        say(
            f"Sweep {state.name} goes on: "
            + ", ".join(f"{count} {name}" for name, count in counts.items())
            + "."
        )
    if counts["failed"]:
        say("Failed runs are left alone; --retry-failed starts them again.")


def _say_of_threads(state: SweepState, places: Sequence[str | None], say: Any) -> None:
    """Their number decides the last bits of a sum: it is never changed for the sake of speed."""
    on_cpu, cores = len([place for place in places if place is None]), executors.cores()
    each = state.threads or cores
    if on_cpu > 1 and on_cpu * each > cores:
        say(
            f"note: {on_cpu} runs at once with {each} threads each on {cores} cores will be in each other's way. "
            f"The number of threads decides the last bits of a result, so it is not changed for you; "
            f"`threads = {max(1, cores // on_cpu)}` in the sweep file sets it for all of its runs."
        )
