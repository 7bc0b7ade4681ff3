"""Where runs may go: one at a time on the CPU, or one on each CUDA device."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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
