"""Writing a run: the files of each epoch, how the run ends, and its record in run.json."""

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.metrics.selection import BestEpoch
from hilum.run_folder import RunFolder
from hilum.sources import Catalog
from hilum.training._setup import RunSetup
from hilum.training.checkpoints import copy_checkpoint, save_checkpoint
from hilum.training.loop import Callback, TrainingLoop


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). It is not an error, and only the command line catches it."""


class BestEpochUpdate(Callback):
    """Compares each epoch with the best so far; ends the training when the patience is over."""

    def __init__(self, best: BestEpoch):
        self.best = best

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> bool:
        self.best.take(epoch, metrics)
        return self.best.out_of_patience


class EpochWriter(Callback):
    """Writes the files of an epoch: predictions, scores, checkpoints, run.json; `best` is updated before."""

    def __init__(self, folder: RunFolder, loop: TrainingLoop, best: BestEpoch):
        self.folder, self.loop, self.best = folder, loop, best
        self.checkpoints = folder.path / "checkpoints"
        self.started = time.perf_counter() - folder.record.get("seconds", 0.0)

    def on_epoch_end(self, epoch: int, metrics: Metrics) -> None:
        """Writes run.json last."""
        self.folder.write_epoch(epoch, metrics.predictions(epoch), metrics.scores, metrics.combined)
        last = self.checkpoints / "last"
        save_checkpoint(last, self.loop.kept_net, {"epoch": epoch, **self.loop.state_dict()})
        self.write_best(epoch, last, seconds=round(time.perf_counter() - self.started, 1))

    def write_best(self, epoch: int, checkpoint: Path, **changes: Any) -> None:
        """Copies the checkpoint if its epoch is the best; records the epochs that are done, and the best."""
        if self.best.epoch == epoch:
            copy_checkpoint(checkpoint, self.checkpoints / "best")
        scores = {name: None if np.isnan(value) else value for name, value in self.best.scores.items()}
        self.folder.update(
            epochs_done=epoch,
            **changes,
            best_epoch=self.best.epoch,
            best_roc_auc=scores["roc_auc"],
            best_scores={criterion.score: scores[criterion.score] for criterion in self.best.rule},
        )


@contextmanager
def recorded_end(folder: RunFolder, resumed: bool) -> Iterator[None]:
    """Records in run.json if the block fails; removes the folder of a new run that a HilumError ends at once."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, HilumError) and not folder.epochs() and not resumed:
            folder.remove()
        elif folder.record["status"] != "finished":
            reason = failure_text(error)
            folder.end("failed", failure=reason)
            folder.log(f"failed: {reason}")
            if isinstance(error, KeyboardInterrupt | Terminated):
                print(f"All finished epochs are kept. Continue with: hilum resume {folder.path}", flush=True)
        raise


def failure_text(error: BaseException) -> str:
    """Why a run failed, for run.json: "interrupted", "terminated", or the error with its type."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "terminated" if isinstance(error, Terminated) else f"{type(error).__name__}: {error}"


def make_record(
    config: RunConfig,
    setup: RunSetup,
    own_net: nn.Module | None,
    own_catalog: Catalog | None,
    environment: dict[str, Any],
) -> dict[str, Any]:
    """The content of run.json: settings, targets, data, and the `environment` (see `describe_environment`)."""
    data = setup.data
    targets = data.catalog.targets
    record = {
        "settings": config.as_record(),
        "own_net": None if own_net is None else f"{type(own_net).__module__}.{type(own_net).__qualname__}",
        "own_catalog": own_catalog is not None,
        "seed": config.seed,
        "targets": list(targets),
        "multiclass_targets": list(compress(targets, data.classed)),
        "thresholds": dict(zip(targets, setup.metrics.target_thresholds.tolist(), strict=True)),
        "pixel_mean": data.pixel_mean,
        "pixel_sd": data.pixel_sd,
        "catalog": {
            "name": data.catalog.name,
            "fingerprint": data.fingerprint,
            "images": len(data.catalog),
            "origin": None if data.catalog.origin is None else str(data.catalog.origin),
            "image_root": _root_text(data.image_root),
        },
        "split": {
            "fingerprint": data.split.fingerprint,
            "unit": data.split.unit,
            "parts": data.split.counts(),
            "train_images_after_oversampling": data.images["train"][1],
            "imbalance": setup.imbalance.to_dict("records"),
        },
        **environment,
    }
    if setup.transfer is not None:
        record["init_from"] = setup.transfer.as_record()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        record["launch"] = os.environ["TORCHELASTIC_RUN_ID"]
    return record


def _root_text(root: Path | dict[str, Path] | None) -> str | dict[str, str] | None:
    if isinstance(root, dict):
        return {source: str(folder) for source, folder in root.items()}
    return None if root is None else str(root)


def check_same_data(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Differences in versions and device, which may change the digest, as text.

    `before` is the record of the run, `now` the one that it would have if it started now.

    Raises:
        HilumError: the data, the split or the initial weights differ.
    """
    for name in ("catalog", "split"):
        was, is_now = before[name]["fingerprint"], now[name]["fingerprint"]
        if was != is_now:
            raise HilumError(
                f"The {name} differs from that of the run: its fingerprint was {was[:16]} and is {is_now[:16]}. "
                "Use the same data, or train a new run."
            )
    weights = [record.get("init_from", {}).get("weights") for record in (before, now)]
    if all(weights) and weights[0] != weights[1]:
        raise HilumError(
            f"The run started from the weights of {before['init_from']['run']}, which have changed since: its best "
            "epoch is another. Restore them, or train a new run."
        )
    return [
        f"{of}{name} was {before[group].get(name)} and is {value}; the digest may differ."
        for group, of in (("versions", ""), ("device", "the device's "))
        for name, value in now[group].items()
        if before[group].get(name) != value
    ]


_PACKAGES = ("hilum", "torch", "torchvision", "lightning-fabric", "numpy", "pandas", "opencv-python-headless")


def describe_environment(device: torch.device, devices: int = 1) -> dict[str, Any]:
    """Versions, git commit and machine, for run.json.

    The number of threads decides the order of sums, and so their last bits.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
            "torch": str(torch.__version__),  # with its build, which the version of the package lacks
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
    """The commit checked out in a folder, with `+changes` if files differ from it; None without git."""
    git = partial(subprocess.check_output, cwd=folder, stderr=subprocess.DEVNULL, text=True)
    try:
        commit = git(["git", "rev-parse", "HEAD"]).strip()
        return f"{commit}+changes" if git(["git", "status", "--porcelain", "-uno"]) else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
