"""One probability per study or per patient instead of one per image.

A radiologist reports a study, not an image: CheXpert's own evaluation takes the maximum over a study's
views (Irvin et al. 2019, arXiv 1901.07031).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.metrics.intervals import scores_with_intervals

#: How the probabilities of a group's images become one.
AGGREGATES = ("mean", "max")


def aggregate(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, how: str = "mean"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images of each group as one row.

    Args:
        labels: (N, T), 1, 0 or NaN (unknown).
        probabilities: (N, T) from 0 to 1.
        groups: (N,) the study or patient of each image.
        how: "mean" or "max" of the probabilities. The mean is of probabilities, not of logits: it is what
            the images say on average, and an image that is sure counts no more than others.

    Returns:
        Labels (G, T) float64, positive if one of the group's known labels is, NaN if none is known;
        probabilities (G, T) of the dtype given; and (G,) the position of each group's first image. Groups are
        sorted.

    Raises:
        HilumError: another way, or arrays of other lengths.
    """
    if how not in AGGREGATES:
        raise HilumError(f"how is {how!r}.{nearest(how, AGGREGATES)} Known: {', '.join(AGGREGATES)}.")
    labels, probabilities = np.asarray(labels, dtype=np.float64), np.asarray(probabilities)
    if labels.shape != probabilities.shape or len(groups) != len(labels):
        raise HilumError(
            f"labels are {labels.shape}, probabilities {probabilities.shape} and groups ({len(groups)},); "
            "expected one row and one group per image."
        )
    distinct, first, group_of = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(len(distinct)))
    # fmax leaves NaN aside, unless there is nothing else.
    grouped_labels = np.fmax.reduceat(labels[order], starts, axis=0)
    if how == "max":
        grouped = np.maximum.reduceat(probabilities[order], starts, axis=0)
    else:
        sums = np.add.reduceat(probabilities[order].astype(np.float64), starts, axis=0)
        counts = np.diff(starts, append=len(order))[:, None]
        grouped = np.clip(sums / counts, 0, 1).astype(probabilities.dtype)
    return grouped_labels, grouped, first


def level_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    patients: np.ndarray,
    targets: Sequence[str],
    thresholds: Sequence[float],
    *,
    how: str = "mean",
    replicates: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The scores of studies or patients, at the thresholds of the images.

    Args:
        labels: (N, T) of the images.
        probabilities: (N, T) of the images.
        groups: (N,) the study or patient of each image. A study must be of one patient.
        patients: (N,) whose image it is: intervals are over patients, as for images.
        targets: (T,) names.
        thresholds: (T,) of the frozen operating points.
        how: see `aggregate`.
        replicates: of the patient bootstrap.
        seed: of its draws.

    Returns:
        As `hilum.metrics.intervals.scores_with_intervals`, a row counted per group.
    """
    grouped_labels, grouped, first = aggregate(labels, probabilities, groups, how)
    return scores_with_intervals(
        grouped_labels,
        grouped,
        np.asarray(patients)[first],
        targets,
        thresholds,
        replicates=replicates,
        seed=seed,
    )
