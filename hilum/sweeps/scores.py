"""What a run is worth in one line: its validation scores at the best epoch, means over the targets."""

import math

import pandas as pd

from hilum.run_folder import RunFolder
from hilum.sweeps.search_space import SEARCH_METRICS


def validation_means(folder: RunFolder) -> dict[str, float]:
    """Each of `SEARCH_METRICS`: the mean over the targets that have it, NaN where none has.

    Recall and precision are those of the frozen operating points; until a run has them, and for the other
    scores that need a threshold, those at the thresholds of its settings.

    Raises:
        HilumError: no epoch has ended, or a file is missing or damaged.
    """
    best = folder.best_epoch
    scores, combined = folder.scores(), folder.combined()
    at_best = scores[(scores["epoch"] == best) & (scores["part"] == "val")]
    means = {name: _mean(at_best, name) for name in SEARCH_METRICS if name != "loss"}
    means["loss"] = _mean(combined[(combined["epoch"] == best) & (combined["part"] == "val")], "loss")
    points = folder.record.get("operating_points")
    if points:
        frozen = pd.DataFrame(points.values(), dtype=object)
        means |= {name: _mean(frozen, name) for name in ("recall", "precision")}
    return means


def policies(folder: RunFolder) -> set[str]:
    """How the thresholds of the frozen operating points were chosen."""
    return {point["policy"] for point in (folder.record.get("operating_points") or {}).values()}


def _mean(table: pd.DataFrame, column: str) -> float:
    return float(table[column].astype(float).mean()) if column in table and len(table) else math.nan
