"""The figures of a run, as PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING

from hilum.files import replacing
from hilum.metrics import Metrics
from hilum.report.validation import best_validation
from hilum.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The scores whose progression is drawn, a figure each; the first is what matters most.
PROGRESSIONS = ("recall", "roc_auc", "precision", "f1", "avg_precision")


def write_figures(folder: RunFolder, metrics: Metrics) -> list[Path]:
    """Draws the best epoch's curves and the progression over the epochs into the run's `figures/`."""
    from hilum.metrics.calibration_figures import reliability_figure
    from hilum.metrics.figures import (
        combined_progression_figure,
        precision_recall_figure,
        progression_figure,
        roc_figure,
    )
    from hilum.report.cooccurrence import co_occurrence_figure

    validation = best_validation(folder)
    epoch = validation.epoch
    rankings = {part: metrics.rankings(epoch, part) for part in ("train", "val")}
    thresholds = dict(zip(validation.targets, validation.thresholds.tolist(), strict=True))
    drawn: dict[str, Figure] = {
        "roc": roc_figure(rankings, thresholds, f"ROC curves, epoch {epoch}"),
        "precision-recall": precision_recall_figure(
            rankings, thresholds, f"Precision and recall, epoch {epoch}"
        ),
        "reliability": reliability_figure(
            validation.labels.to_numpy(),
            validation.probabilities.to_numpy(),
            validation.targets,
            f"Calibration on validation, epoch {epoch}",
        ),
        "co-occurrence": co_occurrence_figure(validation.labels, validation.predicted),
        "progression-combined": combined_progression_figure(metrics.combined),
    }
    for score in PROGRESSIONS:
        drawn[f"progression-{score.replace('_', '-')}"] = progression_figure(metrics.scores, score)
    for name, figure in drawn.items():
        with replacing(folder.figures / f"{name}.png") as partial:
            figure.savefig(partial, format="png")
    return [folder.figures / f"{name}.png" for name in drawn]
