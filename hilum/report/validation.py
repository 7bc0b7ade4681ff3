"""What a run gave for its validation images in its best epoch: what everything concluded rests on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.metrics.predictions import labels_of_part, probabilities_of_part, targets_of_ledger
from hilum.run_folder import RunFolder


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation part, one row per image.

    Attributes:
        epoch: the best.
        labels: (N, T) float32, 1, 0 or NaN, indexed by ImageID.
        probabilities: (N, T) float32, indexed as the labels.
        patients: (N,) PatientIDs.
        thresholds: (T,) float64, of the frozen operating points.
        images: (N, …) the rows of images.parquet, indexed as the labels; None for a run without it.
    """

    epoch: int
    labels: pd.DataFrame
    probabilities: pd.DataFrame
    patients: np.ndarray
    thresholds: np.ndarray
    images: pd.DataFrame | None

    @property
    def targets(self) -> list[str]:
        """Their names, in order."""
        return list(self.labels.columns)

    @property
    def predicted(self) -> pd.DataFrame:
        """(N, T) bool: which probabilities reach the threshold, as the scores count them (in float32)."""
        return self.probabilities >= self.thresholds.astype(np.float32)


def best_validation(folder: RunFolder) -> Validation:
    """Reads it from the run's folder.

    Raises:
        HilumError: no epoch has ended yet, or a file is missing.
    """
    table = folder.predictions(folder.best_epoch)
    targets = targets_of_ledger(table)
    probabilities = probabilities_of_part(table, "val", targets)
    labels = labels_of_part([table], "val", targets).loc[probabilities.index]
    try:
        images = folder.images().set_index("ImageID").loc[probabilities.index]
    except HilumError:
        images = None  # a run of an earlier version
    split = folder.split().set_index("ImageID")
    points = folder.operating_thresholds()
    return Validation(
        epoch=folder.best_epoch,
        labels=labels,
        probabilities=probabilities,
        patients=split.loc[probabilities.index, "PatientID"].to_numpy(),
        thresholds=np.array([points[target] for target in targets]),
        images=images,
    )
