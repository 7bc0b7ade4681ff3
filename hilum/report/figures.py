"""The figures of a run, as PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING

from hilum.files import replacing
from hilum.metrics import Metrics
from hilum.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The scores whose progression is drawn, a figure each; the first is what matters most.
PROGRESSIONS = ("recall", "roc_auc", "precision", "f1", "avg_precision")


def write_figures(folder: RunFolder, metrics: Metrics) -> list[Path]:
    """Draws the last epoch's curves and the progression over the epochs into the run's `figures/`."""
    from hilum.metrics.figures import (
        combined_progression_figure,
        precision_recall_figure,
        progression_figure,
        roc_figure,
    )

    epoch = metrics.epochs()[-1]
    rankings = {part: metrics.rankings(epoch, part) for part in ("train", "val")}
    thresholds = dict(zip(metrics.target_columns, metrics.target_thresholds.tolist(), strict=True))
    drawn: dict[str, Figure] = {
        "roc": roc_figure(rankings, thresholds, f"ROC curves, epoch {epoch}"),
        "precision-recall": precision_recall_figure(
            rankings, thresholds, f"Precision and recall, epoch {epoch}"
        ),
        "progression-combined": combined_progression_figure(metrics.combined),
    }
    for score in PROGRESSIONS:
        drawn[f"progression-{score.replace('_', '-')}"] = progression_figure(metrics.scores, score)
    for name, figure in drawn.items():
        with replacing(folder.figures / f"{name}.png") as partial:
            figure.savefig(partial, format="png")
    return [folder.figures / f"{name}.png" for name in drawn]
