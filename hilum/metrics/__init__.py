"""How good the predictions of each epoch are: counts, scores, curves and their history."""

from hilum.metrics.display import MetricDataSource
from hilum.metrics.history import Metrics, UndefinedScoreWarning
from hilum.metrics.scores import combined_scores, itemized_scores

__all__ = ["MetricDataSource", "Metrics", "UndefinedScoreWarning", "combined_scores", "itemized_scores"]
