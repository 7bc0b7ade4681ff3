"""What a run was made with: versions, code, machine."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from hilum.errors import HilumError

_PACKAGES = ("hilum", "torch", "torchvision", "lightning-fabric", "numpy", "pandas", "opencv-python-headless")


def describe_environment(device: torch.device) -> dict:
    """Versions, git commit and machine, for run.json.

    The number of threads is part of it: it decides in which order a sum is taken, and so its last bits.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
            "torch": str(torch.__version__),  # with its build, which the package's own version leaves out
        },
        "git_commit": git_commit(Path.cwd()),
        "device": {
            "type": str(device),
            "name": name or platform.machine(),
            "threads": torch.get_num_threads(),
        },
        "platform": platform.platform(),
    }


def git_commit(folder: Path) -> str | None:
    """The commit checked out around a folder, with `+changes` if files differ from it; None if there is none."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(folder, "status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def choose_device(name: str) -> torch.device:
    """The device of a run.

    Args:
        name: "auto" takes a GPU if there is one.

    Raises:
        HilumError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HilumError(f"device: {name!r} is no device. Use auto, cpu, cuda or cuda:N.") from None
    if device.type not in {"cpu", "cuda"}:
        raise HilumError(f"device: {name!r} is not supported. Use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HilumError(
            f"device: there is no {name} here; this machine has {torch.cuda.device_count()} CUDA device(s). "
            "Use auto or cpu."
        )
    return device


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
