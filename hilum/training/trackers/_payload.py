"""What trackers get of a run: its settings, the scores of its epochs, and its results."""

import base64
import json
from typing import Any

import numpy as np
import pandas as pd

from hilum.metrics.predictions import Predictions
from hilum.report.error_gallery import RunImages, largest_errors
from hilum.run_folder import RunFolder

#: The scores of a target that trackers get; the counts are in scores.parquet.
TARGET_SCORES = ("recall", "precision", "f1", "roc_auc", "avg_precision")

#: The scalar for comparing runs.
HEADLINE = "mean/val/roc_auc"

#: The last of an epoch's scalars: an epoch that has it is complete.
LAST_SCALAR = "loss/train"

#: Number of images of each kind of mistake.
MISTAKES = 4


class Conclusion:
    """Results of a finished run.

    Args:
        folder: of the run.

    Attributes:
        record: run.json.
        best_epoch: epoch of the operating points.
        points: `operating_point_<value>/<target>` -> the value; without undefined values.
        files: run.json and the report.
        figures: PNG files.
        mistakes: name, such as `missed-1-Edema-0.03-image-1012` with the probability, -> JPEG bytes of a small copy;
            the worst of each kind, if the images can be read.
        summary: the end of the run, as text.

    Raises:
        HilumError: no epoch has ended, or a file is damaged.
    """

    def __init__(self, folder: RunFolder):
        self.record, self.best_epoch = folder.record, folder.best_epoch
        points = self.record.get("operating_points") or {}
        self.points = {
            f"operating_point_{name}/{target}": float(point[name])
            for name in ("threshold", "recall", "precision", "specificity")
            for target, point in points.items()
            if point[name] is not None and np.isfinite(point[name])
        }
        self.files = [path for name in ("run.json", "report.html") if (path := folder.path / name).is_file()]
        self.figures = sorted(folder.figures.glob("*.png"))
        self.mistakes = _worst_mistakes(folder)
        names = ("status", "digest", "best_epoch", "best_roc_auc", "epochs_done", "seconds", "finished")
        self.summary = {name: str(self.record[name]) for name in names if self.record.get(name) is not None}


def _worst_mistakes(folder: RunFolder) -> dict[str, bytes]:
    predictions, images = Predictions.from_run(folder), RunImages(folder)
    mistakes: dict[str, bytes] = {}
    for kind in ("missed", "false-alarm"):
        errors = largest_errors(predictions, images, missed=kind == "missed", most=MISTAKES)
        for place, error in enumerate(errors, 1):
            if error.thumbnail is not None:
                name = f"{kind}-{place}-{error.target}-{error.probability:.2f}-image-{error.image_id}"
                mistakes[name] = base64.b64decode(error.thumbnail.partition(",")[2])
    return mistakes


def flat_settings(record: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """The settings of a run, each as one value: tables and lists are JSON, None is `none`."""
    flat = {}
    for name, value in record["settings"].items():
        text = "none" if value is None else json.dumps(value)
        flat[name] = value if isinstance(value, bool | int | float | str) else text
    return flat


def epoch_scalars(
    scores: pd.DataFrame, combined: pd.DataFrame, epoch: int, learning_rate: float | None
) -> dict[str, float]:
    """An epoch's numbers by name: `roc_auc/val/Edema`, `mean/val/roc_auc`, `combined/val/f1`, `loss/val`.

    Undefined scores, as of a target without a positive image, are left out; a mean is over the targets that have the
    score. `LAST_SCALAR` is the last.

    Args:
        scores: one row per epoch, part and target, as `Metrics.scores`.
        combined: one row per epoch and part, as `Metrics.combined`.
        epoch: its number.
        learning_rate: at its end; None if it is not known.
    """
    named: dict[str, float] = {}
    itemized = scores[scores["epoch"] == epoch]
    for score in TARGET_SCORES:
        for part, target, value in itemized[["part", "target", score]].itertuples(index=False):
            named[f"{score}/{part}/{target}"] = value
        for part, values in itemized.groupby("part", sort=False)[score]:
            named[f"mean/{part}/{score}"] = values.mean()
    if learning_rate is not None:
        named["learning_rate"] = learning_rate
    together = combined[combined["epoch"] == epoch].set_index("part").drop(columns="epoch")
    for score in together.columns.drop("loss"):
        named |= {f"combined/{part}/{score}": value for part, value in together[score].items()}
    named |= {f"loss/{part}": value for part, value in together["loss"][::-1].items()}
    return {name: float(value) for name, value in named.items() if np.isfinite(value)}
