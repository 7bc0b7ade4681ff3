"""What a run is worth in one line: its validation scores at the best epoch, means over the targets."""

import math

import pandas as pd

from hilum.run_folder import RunFolder
from hilum.sweeps.search_space import SEARCH_METRICS


def validation_scores(folder: RunFolder) -> pd.DataFrame:
    """One row per target, a column for each of `SEARCH_METRICS` but the loss; NaN where a score does not exist.

    Recall and precision are those of the frozen operating points; until a run has them, and for the other
    scores that need a threshold, those at the thresholds of its settings.

    Raises:
        HilumError: no epoch has ended, or a file is missing or damaged.
    """
    scores = folder.scores()
    at_best = scores[(scores["epoch"] == folder.best_epoch) & (scores["part"] == "val")].set_index("target")
    found = at_best.reindex(columns=[name for name in SEARCH_METRICS if name != "loss"]).astype(float)
    points = folder.record.get("operating_points")
    if points:
        frozen = pd.DataFrame.from_dict(points, orient="index")
        for name in ("recall", "precision"):
            found[name] = frozen[name].astype(float).reindex(found.index)
    return found


def validation_means(folder: RunFolder) -> dict[str, float]:
    """Each of `SEARCH_METRICS`: the mean over the targets that have it, NaN where none has.

    Raises:
        HilumError: no epoch has ended, or a file is missing or damaged.
    """
    combined = folder.combined()
    at_best = combined[(combined["epoch"] == folder.best_epoch) & (combined["part"] == "val")]
    loss = float(at_best["loss"].mean()) if len(at_best) else math.nan
    return {**{name: float(value) for name, value in validation_scores(folder).mean().items()}, "loss": loss}


def policies(folder: RunFolder) -> set[str]:
    """How the thresholds of the frozen operating points were chosen."""
    return {point["policy"] for point in (folder.record.get("operating_points") or {}).values()}
