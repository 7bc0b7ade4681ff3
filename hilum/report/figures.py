"""The figures of a run, as PNG files."""

from pathlib import Path

from hilum.metrics import Metrics
from hilum.run_folder import RunFolder


def write_figures(folder: RunFolder, metrics: Metrics) -> list[Path]:
    """Draws the last epoch's curves and the progression over the epochs into the run's `figures/`."""
    written = metrics.display_metrics(
        show_combined_metrics=False, show_metric_data_frame=False, figures_to=folder.figures
    )
    return [*written, *metrics.display_epoch_progression(figures_to=folder.figures)]
