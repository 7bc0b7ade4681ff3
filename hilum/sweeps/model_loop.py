"""Many combinations of settings, each trained in its own process."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from hilum.config import RunConfig, settings_from_toml
from hilum.errors import HilumError
from hilum.sweeps._executors import Executor, RayExecutor
from hilum.sweeps._progress import SweepView
from hilum.sweeps._search import Trials
from hilum.sweeps._spec import SweepSpec, make_spec
from hilum.sweeps._state import open_state, sweep_lock
from hilum.sweeps.process import Command, hilum_command
from hilum.sweeps.results import SweepResult, comparison_table


class ModelLoop:
    """A sweep of runs. Its arguments, checked in `spec`, are the keys of a sweep file, which docs/sweeps.md explains.

    Each run is a process: its memory is free afterwards, and a crash ends only that run.

    Args:
        base: settings of all runs.
        grid: setting -> values, or a range `{"from": 1e-6, "to": 1e-3, "steps": 4, "scale": "log"}`; every
            combination is a run. `"net_kwargs.layers"` is the entry of a table.
        runs: settings of single runs.
        seeds: every combination and every single run is repeated with these.
        repeats: instead of `seeds`, the number of seeds, from the base's on.
        search: what Optuna varies, instead of `grid` and `runs`.
        name: of the sweep's folder.
        save_path: the folder that contains it.
        threads: of each run's process; the same for all runs, because it decides the last bits of a CPU's sums.

    Raises:
        HilumError: a setting cannot be used; the message lists all mistakes.

    Example:
        >>> loop = ModelLoop({"source": "phantom"}, grid={"learning_rate": [1e-4, 1e-3]}, seeds=[0, 1], name="lr")
        >>> [run.name for run in loop.spec.plan_runs()][:2]
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
        varied = {"grid": grid, "runs": runs, "seeds": seeds, "repeats": repeats, "search": search}
        own = {"base": base, "name": name, "save_path": save_path, "threads": threads}
        self.spec: SweepSpec = make_spec(own | varied)

    @classmethod
    def from_toml(cls, path: str | Path, **flags: Any) -> "ModelLoop":
        """The sweep of a TOML file; its name is the file's, unless the file gives one.

        `flags` are settings that overrule its base; `name` and `save_path` are the sweep's.

        Raises:
            HilumError: the file cannot be read, or something in it cannot be used; the message lists all mistakes.
        """
        path, loop = Path(path), cls.__new__(cls)
        loop.spec = make_spec({"name": path.stem} | settings_from_toml(path), origin=str(path), flags=flags)
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
    ) -> SweepResult:
        """Trains the runs that have not finished, and compares all.

        A sweep that was stopped continues, even after SIGKILL: finished runs are kept, and a run that was running
        is resumed.

        Args:
            parallel: number of runs at the same time; None: one per CUDA device, or one.
            executor: "local", processes of this machine; or "ray", tasks of a cluster.
            retry_failed: start failed runs again.
            address: of the Ray cluster; None: RAY_ADDRESS, or a new cluster of this machine.
            console: shows the progress; default: standard output.
            command: how a run is started; for tests.

        Raises:
            HilumError: the sweep's folder is in use, or has a sweep with other settings; a package is missing.
            KeyboardInterrupt: Ctrl-C; the next call continues the sweep.
        """
        _check_call(parallel, executor, self.spec)
        with sweep_lock(self.spec.folder):
            state = open_state(self.spec)
            for run in state.in_state("failed") if retry_failed else ():
                run.state = "pending"
            state.save()
            trials = Trials(self.spec, self.spec.search, state) if self.spec.search else None
            refill, total = (trials.refill, trials.max_runs()) if trials else (lambda free: None, None)
            with SweepView(state, console or Console(file=sys.stdout), total) as view:
                train = RayExecutor if executor == "ray" else Executor
                try:
                    train(state, view, command, parallel, refill, address).run()
                except KeyboardInterrupt:
                    view.print(f"Everything is kept in {state.folder}. The same command continues the sweep.")
                    raise
            return SweepResult(state, comparison_table(state))


def _check_call(parallel: Any, executor: str, spec: SweepSpec) -> None:
    if parallel is not None and (type(parallel) is not int or parallel < 1):
        raise HilumError(f"parallel is {parallel!r}; it must be a whole number, 1 or more.")
    if executor not in ("local", "ray"):
        raise HilumError(f"executor: {executor!r} must be local or ray.")
    for package, extra, user in (("optuna", "sweep", "[search] in a sweep"), ("ray", "ray", "executor ray")):
        needed = spec.search is not None if package == "optuna" else executor == "ray"
        if needed and importlib.util.find_spec(package) is None:
            raise HilumError(f"{user} needs {package}: pip install 'hilum[{extra}]'.")
