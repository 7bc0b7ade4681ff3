"""Where the runs of a sweep are trained: in processes of this machine, or as tasks of a Ray cluster.

On a cluster, Hilum is installed on the nodes, and the data are at the same path there. A task trains its run in a
process of its node. The run's folder returns through Ray's object store as one archive, and appears in the
sweep's folder whole or not at all.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hilum.errors import HilumError
from hilum.files import replacing_folder
from hilum.machine import cores, raise_on_sigterm
from hilum.run_folder import RunFolder
from hilum.sweeps._progress import SweepView
from hilum.sweeps._spec import SweepRun
from hilum.sweeps._state import SweepState, as_toml
from hilum.sweeps.process import Child, Command, child_environment, end_reason

_POLL_SECONDS = 0.05
#: An interrupted run ends within one batch; its checkpoint is that of the last epoch.
_GRACE_SECONDS = 30.0
_STOPPED = "stopped with the sweep"
#: Settings that are paths. They are made absolute for Ray, because a task has its own working directory.
_PATHS = ("root", "pack", "hierarchy", "split_file", "init_from")


class _Running(NamedTuple):
    """A run that has started: its slot, its process or Ray task, and its start on the monotonic clock."""

    run: SweepRun
    slot: int
    task: Any
    started: float


@dataclass
class Executor:
    """Trains every pending run of a sweep in a process of this machine, at most one per slot."""

    state: SweepState
    view: SweepView
    command: Command  # how a run is started
    parallel: int | None  # number of slots; None: one per CUDA device, or one
    refill: Callable[[int], None]  # called with the number of free slots; a search adds runs in it
    address: str | None  # of the Ray cluster; None: RAY_ADDRESS, or a new cluster of this machine
    slots: list[str | None] = field(default_factory=list)
    running: list[_Running] = field(default_factory=list)

    def run(self) -> None:
        """Returns when no run is pending or running.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; the running runs were stopped, and are pending again.
        """
        pending = [run.settings for run in self.state.in_state("pending")]
        pending += [self.state.spec["base"]] if self.state.spec["search"] else []
        self.slots = local_slots(pending, self.parallel) if pending else [None]
        on_cpu, available = self.slots.count(None), cores()
        threads = self.state.threads or available
        if on_cpu > 1 and on_cpu * threads > available:
            self.view.print(
                f"note: {on_cpu} runs with {threads} threads each share {available} cores and slow each other down. "
                "The number of threads decides the last bits of a result, so it is not changed; "
                f"`threads = {max(1, available // on_cpu)}` in the sweep file sets it for all of its runs."
            )
        self._train()

    def _train(self) -> None:
        with raise_on_sigterm(KeyboardInterrupt):
            try:
                while True:
                    self._fill()
                    if not self.running:
                        return
                    for ended in self._ended():
                        self.running.remove(ended)
                        self._mark_ended(ended, time.monotonic() - ended.started)
                        self.view.ended(ended.run)
                    self.view.refresh()
            finally:
                if self.running:
                    self.view.print(f"Stopping {len(self.running)} run(s) …")
                    self._stop()

    def _fill(self) -> None:
        """Starts runs in the free slots. A slot can be without a suitable run while another has one."""
        self.refill(len(self.slots) - len(self.running))
        used = {each.slot for each in self.running}
        for slot in (slot for slot in range(len(self.slots)) if slot not in used):
            while (run := next_run(self.state, self.slots[slot], self.slots)) is not None:
                if mark_if_finished(self.state, run):
                    self.view.ended(run)
                    self.refill(len(self.slots) - len(self.running))
                    continue
                folder = self.state.folder_to_resume(run)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                cleared = dict.fromkeys(("failure", "note", "exit_code", "seconds"))
                self.state.mark(run, state="running", started=now, attempts=run.attempts + 1, **cleared)
                task = self._start(run, folder)
                self.running.append(_Running(run, slot, task, time.monotonic()))
                self.view.started(run, resumed=folder is not None)
                break

    def _start(self, run: SweepRun, folder: Path | None) -> Any:
        """Starts the run, or resumes it in `folder`."""
        command = self.command(self.state.settings_file(run), folder)
        return Child(command, self.state.log_file(run), child_environment(self.state.threads))

    def _ended(self) -> list[_Running]:
        time.sleep(_POLL_SECONDS)
        return [each for each in self.running if each.task.poll() is not None]

    def _mark_ended(self, ended: _Running, seconds: float) -> None:
        mark_ended(self.state, ended.run, ended.task.poll(), ended.task.output(), seconds)

    def _stop(self) -> None:
        """Asks the runs to stop, and kills those that do not; a second Ctrl-C does not wait."""
        deadline = time.monotonic() + _GRACE_SECONDS
        try:
            for each in self.running:
                each.task.interrupt()
            for each in self.running:
                each.task.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for each in self.running:
                each.task.kill()
                if not mark_if_finished(self.state, each.run):
                    self.state.mark(each.run, state="pending", note=_STOPPED)


def next_run(state: SweepState, device: str | None, slots: Sequence[str | None]) -> SweepRun | None:
    """The first pending run for a slot with this device.

    A stopped run resumes on its device. If no slot has that device any more it is started all the same, and
    its own error message states what is missing.
    """
    for run in state.in_state("pending"):
        kept = run.device if (state.folder / run.name / "run.json").exists() else None
        if kept is None or kept == device or kept not in slots:
            run.device = kept or (device if _any_device(run.settings) else None)
            return run
    return None


def mark_if_finished(state: SweepState, run: SweepRun) -> bool:
    """Whether a pending run has finished, before the sweep was killed; if so, it is marked."""
    folder = state.run_folder(run)
    if folder is None or folder.record["status"] != "finished":
        return False
    state.mark(run, state="finished", failure=None, exit_code=None, seconds=folder.record.get("seconds"))
    return True


def mark_ended(state: SweepState, run: SweepRun, exit_code: int, output: str, seconds: float) -> None:
    """Marks a run whose process has ended as finished or failed, as its folder's status tells."""
    folder = state.run_folder(run)
    status = folder.record["status"] if folder else "missing"
    reason = None if exit_code == 0 else end_reason(exit_code, output)
    end: dict[str, Any] = {"exit_code": exit_code, "seconds": round(seconds, 1)}
    if status == "finished":
        note = reason and f"the run finished, then: {reason}"
        state.mark(run, state="finished", failure=None, note=note, **end)
    else:
        failure = reason or f"the process ended without an error, but the status in its folder is {status}"
        state.mark(run, state="failed", failure=failure, **end)


def local_slots(settings: Iterable[Mapping[str, Any]], parallel: int | None) -> list[str | None]:
    """The device of each slot; None leaves it to the run's settings.

    If there are more slots than devices, runs share them evenly. `settings` are of the runs, or their common part.
    """
    settings = list(settings)
    # A run on several devices, or on a device that its settings name, is not moved to another.
    movable = all(each.get("devices", 1) == 1 for each in settings) and any(map(_any_device, settings))
    found = cuda_devices() if movable else 0
    if not found:
        return [None] * (parallel or 1)
    return [f"cuda:{slot % found}" for slot in range(parallel or found)]


def _any_device(settings: Mapping[str, Any]) -> bool:
    return settings.get("device", "auto") in ("auto", "cuda")


def cuda_devices() -> int:
    """Number of CUDA devices that PyTorch finds here.

    Another process counts them, if this machine has device files: this one does not load PyTorch or use their memory.
    """
    has_files = any(any(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "dxg", "kfd"))
    if sys.platform == "darwin" or (sys.platform == "linux" and not has_files):
        return 0
    code = "import torch; print(torch.cuda.device_count())"
    counted = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = counted.stdout.split()[-1:] or ["0"]
    return int(last[0]) if last[0].isdecimal() else 0


class NodeResult(NamedTuple):
    """What a run's node returns: the exit code, the end of the output, the log, and the folder as a tar, if any."""

    exit_code: int
    output: str
    log: bytes
    archive: bytes | None


class RayExecutor(Executor):
    """Trains every pending run of a sweep in a task of a Ray cluster.

    A run takes as many CPUs as it has threads, and a GPU if the cluster has any and its settings allow it. The
    folder of a stopped run is sent to its node and the run resumes there; a run that is stopped on a node starts
    again from the beginning. `parallel` None is as many tasks as the cluster's resources allow.
    """

    def run(self) -> None:
        """As `Executor.run`; connects to the cluster first, unless this process is connected to one.

        Raises:
            HilumError: there is no such cluster, or its resources do not suffice for one run.
        """
        import ray

        self.ray: Any = ray
        if connect := not ray.is_initialized():
            # By default Ray reports its use to its makers; Hilum does not connect to any network by itself.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            dashboard = None if self.address else False
            try:
                ray.init(address=self.address, include_dashboard=dashboard, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
                raise HilumError(
                    f"There is no Ray cluster at {where}: {str(error).strip().splitlines()[0]} "
                    "Give the address that `ray start --head` printed."
                ) from None
        try:
            resources, fit = _resources(ray.cluster_resources(), self.state)
            self.slots = [None] * min(self.parallel or fit, fit)
            # Ray must not start a run again by itself when the node is lost.
            self.remote = self.ray.remote(max_retries=0, **resources)(train_on_node)
            self._train()
        finally:
            if connect:
                ray.shutdown()

    def _start(self, run: SweepRun, folder: Path | None) -> Any:
        archive = None if folder is None else _packed(folder)
        paths = {name: str(run.settings[name]) for name in _PATHS if run.settings.get(name) is not None}
        absolute = {name: str(Path(path).absolute()) for name, path in paths.items() if "://" not in path}
        settings = run.settings | absolute
        return self.remote.remote(run.name, settings, archive, self.state.threads, self.command)

    def _ended(self) -> list[_Running]:
        tasks = [each.task for each in self.running]
        ended, _ = self.ray.wait(tasks, num_returns=1, timeout=_POLL_SECONDS)
        return [each for each in self.running if each.task in ended]

    def _mark_ended(self, ended: _Running, seconds: float) -> None:
        try:
            result = self.ray.get(ended.task)
            self._keep(ended.run, result)
        except self.ray.exceptions.RayError as error:
            # The run's process cannot cause this: a node or a worker was lost, or its memory ran out.
            failure = f"Ray: {str(error).strip().splitlines()[0]}"
        except (OSError, tarfile.TarError) as error:
            failure = f"its folder could not be returned: {error}"
        else:
            mark_ended(self.state, ended.run, result.exit_code, result.output, seconds)
            return
        self.state.mark(ended.run, state="failed", failure=failure, seconds=round(seconds, 1))

    def _keep(self, run: SweepRun, result: NodeResult) -> None:
        """Writes a run's log and folder to the sweep's folder."""
        log = self.state.log_file(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(result.log)
        if result.archive is None:
            shutil.rmtree(self.state.folder / run.name, ignore_errors=True)
            return
        with replacing_folder(self.state.folder / run.name) as partial:
            _unpack(result.archive, partial)
            if (partial / "run.json").exists():
                folder = RunFolder(partial)
                folder.update(settings=folder.settings | {"save_path": str(self.state.folder)})

    def _stop(self) -> None:
        for each in self.running:
            self.ray.cancel(each.task)
            self.state.mark(each.run, state="pending", note=_STOPPED)
        tasks = [each.task for each in self.running]
        self.ray.wait(tasks, num_returns=len(tasks), timeout=_GRACE_SECONDS)


def train_on_node(
    name: str, settings: Mapping[str, Any], archive: bytes | None, threads: int | None, command: Command
) -> NodeResult:
    """Trains a run with these settings, whose paths are absolute, in a temporary folder of the node.

    A run whose folder is in `archive` is resumed.
    """
    with tempfile.TemporaryDirectory(prefix="hilum-sweep-") as place:
        folder = Path(place) / "runs" / name
        if archive is not None:
            folder.mkdir(parents=True)
            _unpack(archive, folder)
        file, log = Path(place) / "run.toml", Path(place) / "log.txt"
        file.write_text(
            as_toml({**settings, "save_path": str(folder.parent), "name": name}), encoding="utf-8"
        )
        child = Child(command(file, folder if archive is not None else None), log, child_environment(threads))
        try:
            while child.poll() is None:
                time.sleep(_POLL_SECONDS)
        finally:
            child.kill()
        packed = _packed(folder) if folder.is_dir() else None
        output = child.output().replace(place, "<node>")
        return NodeResult(child.process.returncode, output, log.read_bytes(), packed)


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, ".", filter=lambda member: None if member.name == "./.lock" else member)
    return buffer.getvalue()


def _unpack(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r") as packed:
        packed.extractall(folder, filter="data")


def _resources(cluster: Mapping[str, float], state: SweepState) -> tuple[dict[str, float], int]:
    """The resources of one task, and how many tasks fit on the cluster at the same time."""
    runs = [run.settings for run in state.in_state("pending")] or [state.spec["base"]]
    cpus = state.threads or 1
    if cluster.get("CPU", 0) < cpus:
        available = f"the Ray cluster has {cluster.get('CPU', 0):g} CPUs"
        raise HilumError(f"A run has {cpus} threads, and {available}; give fewer threads.")
    if cluster.get("GPU", 0) < 1 or all(run.get("device", "auto") == "cpu" for run in runs):
        return {"num_cpus": cpus}, int(cluster["CPU"] // cpus)
    gpus = max(run.get("devices", 1) for run in runs)
    if cluster["GPU"] < gpus:
        raise HilumError(f"A run needs {gpus} GPUs, and the Ray cluster has {cluster['GPU']:g}.")
    return {"num_cpus": cpus, "num_gpus": gpus}, int(min(cluster["CPU"] // cpus, cluster["GPU"] // gpus))
