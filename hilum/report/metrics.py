"""The metrics of a run, read back from its folder."""

from hilum.metrics import Metrics
from hilum.run_folder import RunFolder


def read_metrics(folder: RunFolder) -> Metrics:
    """The Metrics of a run, made from its predictions and its thresholds.

    Raises:
        HilumError: no epoch has ended yet.
    """
    combined = folder.combined()
    predictions = {epoch: folder.predictions(epoch) for epoch in combined["epoch"].unique().tolist()}
    return Metrics.from_predictions(predictions, folder.record["thresholds"], combined)
