"""Counts of what the images are like, over bootstrap samples of patients.

Images of one patient are alike, so patients are drawn, not images (Field and Welsh 2007, "Bootstrapping
clustered data", J. R. Stat. Soc. B 69, 369-390). An image enters by its cell alone, such as its target
vector: there are few cells, so a replicate costs one row of a sparse product and no pass over the images.
"""

import numpy as np
from scipy import sparse

from hilum.randomness import generator

_ROWS_AT_ONCE = 64


def patient_weights(patient_count: int, replicates: int, seed: int, first: int = 0) -> np.ndarray:
    """How often each patient is drawn: int16 of shape (replicates, patient_count).

    Each row sums to `patient_count`: that many are drawn with replacement. The rows are those of the
    replicates from `first` on, so that many can be had in parts.
    """
    weights = np.empty((replicates, patient_count), dtype=np.int16)
    for replicate in range(replicates):
        draw = generator(seed, "patient bootstrap", first + replicate)
        drawn = draw.integers(patient_count, size=patient_count)
        weights[replicate] = np.bincount(drawn, minlength=patient_count)
    return weights


def cell_counts(weights: np.ndarray, patients: np.ndarray, cells: np.ndarray, cell_count: int) -> np.ndarray:
    """Images in each cell, over the bootstrap samples.

    Args:
        weights: (replicates, patients) of `patient_weights`.
        patients: (images,) position of each image's patient in `weights`' columns.
        cells: (images,) cell of each image, 0 to cell_count - 1.
        cell_count: how many cells there are.

    Returns:
        float64 of shape (replicates, cell_count).
    """
    ones = np.ones(len(patients), dtype=np.float32)  # exact to 16 million images in a cell
    table = sparse.csr_array((ones, (cells, patients)), shape=(cell_count, weights.shape[1]))
    counts = np.empty((len(weights), cell_count))
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        counts[rows] = (table @ np.ascontiguousarray(weights[rows].T, dtype=np.float32)).T
    return counts


def percentile_interval(replicates: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval over the first axis; NaN where fewer than half of the replicates are defined.

    Args:
        replicates: (replicates, ...) of a statistic, NaN where it is not defined.
        confidence: of the interval, 0..1.

    Returns:
        Lower and upper bounds, each of the shape after the first axis.
    """
    defined = np.isfinite(replicates).sum(axis=0) * 2 >= len(replicates)
    # All-NaN columns would warn; they are masked below.
    values = np.where(defined, replicates, 0.0)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail], axis=0)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)
