"""The device of a run, its precision, and several devices that train one model together.

Each process of a data parallel run executes the same program on a part of each batch; gradients are
averaged (torch's DistributedDataParallel through Lightning Fabric, started by torchrun).
"""

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from hilum.errors import HilumError
from hilum.machine import cores

_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def choose_device(name: str) -> torch.device:
    """The device of a run; "auto" takes a GPU if there is one.

    Raises:
        HilumError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HilumError(f"device: {name!r} is not a device. Use auto, cpu, cuda or cuda:N.") from None
    if device.type not in {"cpu", "cuda"}:
        raise HilumError(f"device: {name!r} is not supported. Use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HilumError(
            f"device: there is no {name} here; this machine has {torch.cuda.device_count()} CUDA device(s). "
            "Use auto or cpu."
        )
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """The precision of a run: "32", "bf16" or "16".

    "auto" is bf16 where the device has matrix units for it, else 32. A CPU that emulates bf16 is about ten times
    slower in it; one that has vectors of it only (AVX-512 BF16) is hardly faster, at three digits less.

    Raises:
        HilumError: the device cannot compute in this precision.
    """
    if name == "auto":
        return "bf16" if has_bf16_units(device) else "32"
    if name == "16" and device.type == "cpu":
        raise HilumError("precision: 16 needs a GPU; on the CPU use 32, or bf16 where it is native.")
    return name


def has_bf16_units(device: torch.device) -> bool:
    """Whether the device is fastest in bf16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_amx_tile_supported()


def under_torchrun() -> bool:
    """Whether this process is one of several that torchrun or `train_on_devices` has started."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def is_main_process() -> bool:
    """Whether this process writes and prints: the only one, or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


def make_fabric(device: torch.device, precision: str = "32", *, frozen: bool = False) -> Fabric:
    """The Fabric of this process, launched; under torchrun it has joined the others.

    Args:
        device: where to compute; each of several processes on GPUs has the GPU of its local rank.
        precision: "32", "bf16" or "16", see `choose_precision`.
        frozen: some parameters have no gradient in some epochs.

    Raises:
        HilumError: this machine has fewer GPUs than processes.
    """
    logging.getLogger("lightning_fabric").setLevel(
        logging.WARNING
    )  # it announces the precision and each process
    options = {"accelerator": device.type, "precision": _PRECISIONS[precision]}
    if not under_torchrun():
        return Fabric(devices=[device.index or 0] if device.type == "cuda" else 1, **options)
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    _check_gpu_count(device, local)
    strategy = DDPStrategy(find_unused_parameters=frozen)
    fabric = Fabric(devices=local, num_nodes=world // local, strategy=strategy, **options)
    fabric.launch()
    return fabric


def _check_gpu_count(device: torch.device, devices: int) -> None:
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise HilumError(
            f"devices: {devices} are needed and this machine has {torch.cuda.device_count()} CUDA device(s). "
            "Use fewer devices, or device=cpu."
        )


def train_on_devices(arguments: list[str], devices: int, device: torch.device) -> str:
    """Runs a command of Hilum in several processes that train together.

    Args:
        arguments: of the command line, without the program: ["train", "settings.toml", …].
        devices: number of processes.
        device: "cuda" gives each its own GPU; "cpu" divides the cores among them.

    Returns:
        The id that the run's record has as `launch`.

    Raises:
        HilumError: there are fewer GPUs.
        SystemExit: a process failed, which has printed its error; with its exit code.
    """
    # Slow to import, and only needed here.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _check_gpu_count(device, devices)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // devices))
    launch = uuid.uuid4().hex
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=launch,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    # Its report of a failed process repeats what the process has printed.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", "hilum", *arguments)
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from None
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values() if failure.exitcode > 0]
        raise SystemExit(codes[0] if codes else 1) from None
    return launch


def gathered(batches: list[Any]) -> list[Any]:
    """The batches of all devices, in the order of one device: the first of each, the second of each, …"""
    of_devices: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(of_devices, batches)
    missing = object()
    in_order = chain.from_iterable(zip_longest(*of_devices, fillvalue=missing))
    return [entry for entry in in_order if entry is not missing]


@torch.no_grad()
def share_buffers(net: nn.Module) -> None:
    """Gives every device the buffers of the first: the running statistics of batch normalization."""
    for buffer in net.buffers():
        torch.distributed.broadcast(buffer, 0)


@contextmanager
def deterministic_operators(on: bool, device: torch.device) -> Iterator[None]:
    """Within the block CUDA computes the same each time, as CPUs always do, and warns of operators that cannot."""
    if not on or device.type != "cuda":
        yield
        return
    # cuBLAS reads this at its first use; without it matrix products may differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    benchmark = torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
