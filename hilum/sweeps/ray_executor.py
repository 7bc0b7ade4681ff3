"""The runs of a sweep as tasks of a Ray cluster: each is a process on its node, and its folder comes back.

Hilum must be installed on the nodes, and the data lie at the same path there. What a run leaves behind travels
through Ray's object store as one archive, and appears in the sweep's folder whole or not at all.
"""

import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import HilumError
from hilum.files import replacing_folder
from hilum.run_folder import RunFolder
from hilum.sweeps.executors import already_finished, mark_ended, mark_started, mark_stopped, next_run
from hilum.sweeps.extras import require
from hilum.sweeps.process import Child, Command, child_environment
from hilum.sweeps.progress import SweepView
from hilum.sweeps.state import SweepRun, SweepState
from hilum.sweeps.toml import as_toml

#: Settings that are paths: a task has a working directory of its own, so they are made whole.
_PATHS = ("root", "pack", "hierarchy", "split_file", "init_from")
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Gathered:
    """What comes back from a node.

    Attributes:
        exit_code: of the run's process.
        last_words: the end of what it said.
        log: all that it said, UTF-8.
        archive: its folder as an uncompressed tar; None if it left none.
        node: the host's name.
    """

    exit_code: int
    last_words: str
    log: bytes
    archive: bytes | None
    node: str


def require_ray() -> None:
    """Raises a HilumError if Ray is not installed."""
    require("ray", "ray", "executor ray")


def run_on_ray(
    state: SweepState,
    parallel: int | None,
    view: SweepView,
    refill: Callable[[int], None],
    command: Command,
    address: str | None = None,
) -> None:
    """Runs every pending run on a cluster.

    A run takes a GPU if the cluster has any and its settings do not say otherwise, and as many CPUs as it has
    threads. A run that another stop had left in the sweep's folder is sent along and goes on; one that is
    stopped on a node begins anew.

    Args:
        state: the sweep's.
        parallel: tasks at once; None is as many as the cluster's resources allow.
        view: is told what happens.
        refill: as in `run_local`.
        command: how a run is started on its node.
        address: of the cluster; None connects as `ray.init` does, to RAY_ADDRESS or a new local one.

    Raises:
        HilumError: there is no such cluster, or it has not the resources for a single run.
        KeyboardInterrupt: the runs were stopped, and are pending again.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        _connect(address)
    try:
        _Tasks(state, view, refill, command, parallel).run()
    finally:
        if ours:
            ray.shutdown()


class _Tasks:
    """The runs that are on their nodes."""

    def __init__(
        self,
        state: SweepState,
        view: SweepView,
        refill: Callable[[int], None],
        command: Command,
        parallel: int | None,
    ):
        import ray

        self.ray, self.state, self.view, self.refill, self.command = ray, state, view, refill, command
        self.resources, self.most = _resources(ray.cluster_resources(), state, parallel)
        self.running: dict[Any, tuple[SweepRun, float]] = {}
        # A run that takes its node with it must not be tried again behind the sweep's back.
        self.task = ray.remote(max_retries=0, **self.resources)(train_on_node)

    def run(self) -> None:
        """Until nothing is left."""
        try:
            while True:
                self._fill()
                if not self.running:
                    return
                ended, _ = self.ray.wait(list(self.running), num_returns=1, timeout=_POLL_SECONDS)
                for reference in ended:
                    self._gather(reference)
                self.view.refresh()
        finally:
            self._stop()

    def _fill(self) -> None:
        self.refill(self.most - len(self.running))
        while len(self.running) < self.most:
            run = next_run(self.state, None, [None])
            if run is None:
                return
            if already_finished(self.state, run):
                self.view.ended(run)
                self.refill(self.most - len(self.running))
                continue
            take_up = self.state.to_take_up(run)
            archive = None if take_up is None else _packed(take_up)
            settings = _with_whole_paths(run.settings)
            mark_started(self.state, run)
            reference = self.task.remote(run.name, settings, archive, self.state.threads, self.command)
            self.running[reference] = (run, time.monotonic())
            self.view.started(run, again=take_up is not None)

    def _gather(self, reference: Any) -> None:
        run, began = self.running.pop(reference)
        seconds = time.monotonic() - began
        try:
            gathered = self.ray.get(reference)
            _keep(self.state, run, gathered)
        except self.ray.exceptions.RayError as error:
            # The run's own process cannot cause this: a node or a worker was lost, or memory ran out on it.
            reason = f"Ray: {str(error).strip().splitlines()[0]}"
            self.state.mark(run, state="failed", failure=reason, seconds=round(seconds, 1))
        except (OSError, tarfile.TarError) as error:
            reason = f"its folder could not be brought back: {error}"
            self.state.mark(run, state="failed", failure=reason, seconds=round(seconds, 1))
        else:
            mark_ended(self.state, run, gathered.exit_code, gathered.last_words, seconds)
        self.view.ended(run)

    def _stop(self) -> None:
        if self.running:
            self.view.say(f"Stopping {len(self.running)} run(s) …")
        for reference, (run, _) in self.running.items():
            self.ray.cancel(reference)
            mark_stopped(self.state, run, "stopped with the sweep")
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=_GRACE_SECONDS)


def train_on_node(
    name: str, settings: dict[str, Any], archive: bytes | None, threads: int | None, command: Command
) -> Gathered:
    """Trains a run in a folder of the node that is gone afterwards; what it left is in what is given back.

    Args:
        name: of the run.
        settings: for `hilum train`, paths whole.
        archive: the run's folder, if it is to go on with it.
        threads: of the process.
        command: (settings file, run folder to resume or None) -> the command line.
    """
    with tempfile.TemporaryDirectory(prefix="hilum-sweep-") as place:
        folder = Path(place) / "runs" / name
        if archive is not None:
            folder.mkdir(parents=True)
            _unpack(archive, folder)
        file = Path(place) / "run.toml"
        file.write_text(as_toml(settings | {"save_path": folder.parent, "name": name}), encoding="utf-8")
        log = Path(place) / "log.txt"
        child = Child(command(file, folder if archive is not None else None), log, child_environment(threads))
        try:
            while child.ended() is None:
                time.sleep(_POLL_SECONDS)
        finally:
            child.kill()
        left = _packed(folder) if folder.is_dir() else None
        words = child.last_words().replace(place, "<node>")
        return Gathered(child.process.returncode, words, log.read_bytes(), left, os.uname().nodename)


def _keep(state: SweepState, run: SweepRun, gathered: Gathered) -> None:
    log = state.log_file(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(gathered.log)
    if gathered.archive is None:
        shutil.rmtree(state.folder / run.name, ignore_errors=True)
        return
    with replacing_folder(state.folder / run.name) as partial:
        _unpack(gathered.archive, partial)
        if (partial / "run.json").exists():
            # The run has moved: its record says where it lies now.
            folder = RunFolder(partial)
            folder.update(settings=folder.settings | {"save_path": str(state.folder)})


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, ".", filter=lambda member: None if member.name == "./.lock" else member)
    return buffer.getvalue()


def _unpack(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r") as packed:
        packed.extractall(folder, filter="data")


def _with_whole_paths(settings: dict[str, Any]) -> dict[str, Any]:
    whole = {
        name: str(Path(settings[name]).absolute())
        for name in _PATHS
        if settings.get(name) is not None and "://" not in str(settings[name])
    }
    return settings | whole


def _connect(address: str | None) -> None:
    import ray

    # Ray reports its use to its makers unless told not to; Hilum speaks to no network of its own accord.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise HilumError(
            f"There is no Ray cluster at {where}: {str(error).strip().splitlines()[0]} "
            "Give the address that `ray start --head` printed."
        ) from None


def _resources(
    cluster: dict[str, float], state: SweepState, parallel: int | None
) -> tuple[dict[str, float], int]:
    """What a task asks for, and how many fit at once."""
    runs = [run.settings for run in state.in_state("pending")] or [state.plan["base"]]
    on_gpu = cluster.get("GPU", 0) >= 1 and any(run.get("device", "auto") != "cpu" for run in runs)
    cpus = state.threads or 1
    if cluster.get("CPU", 0) < cpus:
        raise HilumError(
            f"A run has {cpus} threads, and the Ray cluster has {cluster.get('CPU', 0):g} CPUs; give fewer threads."
        )
    fit = int(cluster["CPU"] // cpus)
    wanted: dict[str, float] = {"num_cpus": cpus}
    if on_gpu:
        each = max(run.get("devices", 1) for run in runs)
        wanted["num_gpus"] = each
        fit = min(fit, int(cluster["GPU"] // each))
        if not fit:
            raise HilumError(f"A run asks for {each} GPUs, and the Ray cluster has {cluster['GPU']:g}.")
    return wanted, min(parallel or fit, fit)
