"""What a run was made with: versions, code, machine."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("hilum", "torch", "torchvision", "lightning-fabric", "numpy", "pandas", "opencv-python-headless")


def describe_environment(device: torch.device, devices: int = 1) -> dict:
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
            "devices": devices,
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


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
