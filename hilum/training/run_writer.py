"""What a run leaves behind while it goes on, and when it ends."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.metrics.calibration import fit_calibration
from hilum.metrics.predictions import Predictions
from hilum.metrics.selection import BestEpoch
from hilum.metrics.thresholds import Policy, freeze_operating_points
from hilum.models.transfer import Transfer
from hilum.run_folder import RunFolder
from hilum.training.checkpoints import copy_checkpoint, save_checkpoint
from hilum.training.loop import TrainingLoop
from hilum.training.setup import PreparedData
from hilum.training.trackers import Trackers


class Terminated(BaseException):
    """The process was asked to end (SIGTERM): no error, and to be caught by nothing on the way out."""


class EpochKeeper:
    """Writes what an epoch leaves behind: predictions, scores, checkpoints, the state of the run.

    Args:
        folder: of the run.
        metrics: of the run.
        loop: that trains it.
        best: that has looked at each epoch before it is kept.
    """

    def __init__(self, folder: RunFolder, metrics: Metrics, loop: TrainingLoop, best: BestEpoch):
        self.folder, self.metrics, self.loop, self.best = folder, metrics, loop, best
        self.checkpoints = folder.path / "checkpoints"
        self.started = time.perf_counter() - folder.record.get("seconds", 0.0)

    def keep(self, epoch: int) -> None:
        """Writes an epoch that has ended."""
        self.folder.write_epoch(
            epoch, self.metrics.predictions(epoch), self.metrics.scores, self.metrics.combined
        )
        save_checkpoint(
            self.checkpoints / "last", self.loop.kept_net, {"epoch": epoch, **self.loop.state_dict()}
        )
        if self.best.epoch == epoch:
            copy_checkpoint(self.checkpoints / "last", self.checkpoints / "best")
        self.folder.update(
            epochs_done=epoch, seconds=round(time.perf_counter() - self.started, 1), **self._of_the_best()
        )

    def take_up(self, checkpoint: Path, done: int) -> None:
        """Brings the folder up to the epochs that had ended; the last is in `checkpoint`."""
        if self.best.epoch == done:
            # The run may have been stopped after the checkpoint was written, and before it was copied.
            copy_checkpoint(checkpoint, self.checkpoints / "best")
        self.folder.update(epochs_done=done, **self._of_the_best())

    def _of_the_best(self) -> dict[str, object]:
        scores = {name: None if np.isnan(value) else value for name, value in self.best.scores.items()}
        return {
            "best_epoch": self.best.epoch,
            "best_roc_auc": scores["roc_auc"],
            "best_scores": {criterion.score: scores[criterion.score] for criterion in self.best.rule},
        }


class EndOfRun:
    """Sees to it that run.json says how the run ended, and keeps no folder of a run that never began.

    Args:
        folder: of the run.
        resumed: whether it had begun before.

    Attributes:
        trackers: to be told as well, once they are there.
    """

    def __init__(self, folder: RunFolder, resumed: bool):
        self.folder, self.resumed = folder, resumed
        self.trackers: Trackers | None = None

    def __enter__(self) -> "EndOfRun":
        return self

    def finished(self, digest: str) -> None:
        """The run has all that it was to have."""
        self.folder.update(status="finished", digest=digest, finished=_now())

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or self.folder.record["status"] == "finished":
            return
        if isinstance(error, HilumError) and not self.folder.epochs() and not self.resumed:
            self.folder.remove()
            return
        stopped = isinstance(error, KeyboardInterrupt | Terminated)
        reason = f"{kind.__name__}: {error}"
        if stopped:
            reason = "terminated" if isinstance(error, Terminated) else "interrupted"
        self.folder.update(status="failed", failure=reason, finished=_now())
        self.folder.log(f"failed: {reason}")
        if self.trackers:
            self.trackers.fail(reason)
        if stopped:
            print(
                f"Everything up to the last ended epoch is kept. Go on with: hilum resume {self.folder.path}",
                flush=True,
            )


def epoch_in_words(metrics: Metrics, epoch: int) -> str:
    """Losses, and the mean validation scores at the thresholds of the settings."""
    combined = metrics.combined[metrics.combined["epoch"] == epoch].set_index("part")
    scores = metrics.scores
    scores = scores[(scores["epoch"] == epoch) & (scores["part"] == "val")]
    return (
        f"loss {combined.at['train', 'loss']:.4f} train, {combined.at['val', 'loss']:.4f} val; "
        f"val {_mean_in_words('recall', scores['recall'])}, {_mean_in_words('ROC AUC', scores['roc_auc'])}, "
        f"{_mean_in_words('precision', scores['precision'])}"
    )


def best_in_words(best: BestEpoch) -> str:
    """Why the best epoch is the best so far."""
    names: Sequence[str] = [criterion.score for criterion in best.rule]
    values = [
        f"{name.replace('_', ' ').replace('roc auc', 'ROC AUC')} {best.scores[name]:.3f}" for name in names
    ]
    return f"the best so far: {', '.join(values)} at the thresholds of the policy"


def _mean_in_words(name: str, values: pd.Series) -> str:
    """The mean over the targets that have the score, saying how many these are unless it is all."""
    defined = int(values.notna().sum())
    if not defined:
        return f"{name} n/a"
    return f"{name} {values.mean():.3f}" + ("" if defined == len(values) else f" (of {defined} targets)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_of(
    config: RunConfig,
    data: PreparedData,
    metrics: Metrics,
    imbalance: pd.DataFrame,
    *,
    own_net: nn.Module | None,
    own_catalog: bool,
    environment: dict[str, Any],
    transfer: Transfer | None,
) -> dict[str, Any]:
    """Settings, targets, what the data are and where, and what it is made with.

    Args:
        config: of the run.
        data: its images.
        metrics: for the thresholds of its settings.
        imbalance: see `hilum.data.split.check_balance`.
        own_net: the network that was given in place of a named one.
        own_catalog: whether the images were given.
        environment: see `hilum.training.run_writer.describe_environment`.
        transfer: what was taken from a former run.
    """
    targets, split = data.catalog.targets, data.split
    record = {
        "settings": config.as_record(),
        "own_net": None if own_net is None else f"{type(own_net).__module__}.{type(own_net).__qualname__}",
        "own_catalog": own_catalog,
        "seed": config.seed,
        "targets": list(targets),
        "multiclass_targets": [target for target, many in zip(targets, data.classed, strict=True) if many],
        "thresholds": dict(zip(targets, metrics.target_thresholds.tolist(), strict=True)),
        "pixel_mean": data.pixel_mean,
        "pixel_sd": data.pixel_sd,
        "catalog": {
            "name": data.catalog.name,
            "fingerprint": data.fingerprint,
            "images": len(data.catalog),
            "origin": None if data.catalog.origin is None else str(data.catalog.origin),
            "image_root": _as_text(data.image_root),
        },
        "split": {
            "fingerprint": split.fingerprint,
            "unit": split.unit,
            "parts": split.counts(),
            "train_images_after_oversampling": len(data.train_loader.dataset),
            "imbalance": imbalance.to_dict("records"),
        },
        **environment,
    }
    if transfer is not None:
        record["init_from"] = transfer.as_record()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        record["launch"] = os.environ["TORCHELASTIC_RUN_ID"]
    return record


def _as_text(root: Path | dict[str, Path] | None) -> str | dict[str, str] | None:
    if isinstance(root, dict):
        return {source: str(folder) for source, folder in root.items()}
    return None if root is None else str(root)


def conclusions(
    folder: RunFolder, metrics: Metrics, policies: dict[str, Policy], config: RunConfig
) -> dict[str, Any]:
    """`operating_points` and `calibration` for run.json, chosen on the validation part of the best epoch.

    Args:
        folder: of the run, with its split.
        metrics: of the run.
        policies: target -> how its threshold is chosen.
        config: of the run.
    """
    y_score = metrics.val_probability_hx[folder.best_epoch]
    predictions = Predictions(
        y_true=metrics.actual(folder.best_epoch, "val").to_numpy(),
        y_score=y_score.to_numpy(),
        image_ids=y_score.index.to_numpy(),
        patients=folder.split().set_index("ImageID").loc[y_score.index, "PatientID"].to_numpy(),
        targets=metrics.target_columns,
        thresholds=metrics.target_thresholds,
    )
    points = freeze_operating_points(predictions, policies, seed=config.seed)
    calibration = None
    if config.calibration != "none":
        calibration = fit_calibration(predictions, config.calibration).as_record()
    return {"operating_points": points, "calibration": calibration}


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
