"""Oversampling of rare combinations of findings."""

import numpy as np

from hilum.randomness import generator


def oversample(labels: np.ndarray, min_count: int, seed: int) -> np.ndarray:
    """Rows of the training part, with repeats until every target vector occurs `min_count` times.

    Rows are grouped by their whole target vector; a group that is too small gets more rows, drawn from it
    with replacement. It is called after the split, on the training part alone, so no image is in two parts.

    Args:
        labels: (rows, targets) of 1.0, 0.0 or NaN (NaN is a value of its own here).
        min_count: 1 or more.
        seed: of the draws.

    Returns:
        int64 positions into `labels`: every row once, in order, then the repeats.
    """
    group_of, counts = _groups(labels)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(counts)[:-1])
    repeats = [
        generator(seed, "oversample", group).choice(rows, size=min_count - len(rows))
        for group, rows in enumerate(members)
        if len(rows) < min_count
    ]
    return np.concatenate([np.arange(len(labels)), *repeats])


def oversampling_weights(labels: np.ndarray, min_count: int) -> np.ndarray:
    """Weights that give every target vector the expected share that `oversample`, of the same arguments, gives it.

    They are float64 (rows,): the mean number of times that `oversample` has the row, 1 or more.
    """
    group_of, counts = _groups(labels)
    return np.maximum(1.0, min_count / counts)[group_of]


def _groups(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's group of equal target vectors (rows,), and the groups' sizes (groups,)."""
    codes = np.where(np.isnan(labels), 2, labels).astype(np.int8)
    _, group_of, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return group_of.ravel(), counts
