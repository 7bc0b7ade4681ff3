"""The page of a run (one HTML file without other files), and the figures on it."""

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hilum.config import DEFAULTS
from hilum.files import replacing
from hilum.metrics import Metrics
from hilum.metrics.calibration import Calibration, calibration_table, reliability_curves
from hilum.metrics.predictions import Predictions
from hilum.metrics.scores import (
    COMBINED_TITLES,
    SCORE_NAMES,
    combined_with_intervals,
    mean_with_interval,
    score_title,
    scores_with_intervals,
)
from hilum.plots.style import target_colours
from hilum.report.audit import audit_run
from hilum.report.error_gallery import RunImages, largest_errors
from hilum.report.format import data_uri, write_page
from hilum.report.terminal import COMBINED_COLUMNS, COUNT_COLUMNS, MAIN_SCORES
from hilum.run_folder import RunFolder, read_evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The figures shown, in this order, and their titles.
FIGURE_TITLES = {
    "roc": "ROC curves",
    "precision-recall": "Precision and recall",
    "reliability": "Calibration",
    "co-occurrence": "Findings predicted together",
    "progression-recall": "Recall by epoch",
    "progression-roc-auc": "ROC AUC by epoch",
    "progression-precision": "Precision by epoch",
    "progression-f1": "F1 by epoch",
    "progression-avg-precision": "Average precision by epoch",
    "progression-combined": "All targets together by epoch",
}

#: The scores whose progression is drawn, a figure each; the most important first.
PROGRESSIONS = ("recall", "roc_auc", "precision", "f1", "avg_precision")

#: The columns of tables with intervals. A phone shows the first columns only: the most important first.
INTERVAL_COLUMNS = ("recall", "roc_auc", "precision", "specificity", "avg_precision", "f1")
EPOCH_COLUMNS = (*PROGRESSIONS, *COUNT_COLUMNS, "threshold")

#: How many errors of each kind the page shows.
MOST_MISSED, MOST_FALSE_ALARMS = 18, 12


def write_report(folder: RunFolder, path: Path | None = None) -> Path:
    """Writes the page of a run from its tables and figures to `path`, the run's `report.html` if left out.

    Raises:
        HilumError: no epoch has ended yet, or the file cannot be written.
    """
    scores, combined = folder.scores(), folder.combined()
    last = scores[scores["epoch"] == scores["epoch"].max()]
    rule = folder.settings.get("best_rule") or ["roc_auc"]  # runs of older versions have no rule
    table = folder.predictions(folder.best_epoch)
    predictions, images = Predictions.from_run(folder, table=table), RunImages(folder)
    missed = largest_errors(predictions, images, missed=True, most=MOST_MISSED)
    false_alarms = largest_errors(predictions, images, missed=False, most=MOST_FALSE_ALARMS)
    content = {
        "run": folder.record,
        "best": folder.best_epoch,
        "best_rule": ", then ".join(SCORE_NAMES[criterion.partition(":")[0].strip()] for criterion in rule),
        "last": int(scores["epoch"].max()),
        "settings": _settings(folder),
        "colours": target_colours(predictions.targets),
        "interval_columns": INTERVAL_COLUMNS,
        "epoch_columns": EPOCH_COLUMNS,
        "combined_columns": COMBINED_COLUMNS,
        "missed": missed,
        "false_alarms": false_alarms,
        "unread": sum(error.thumbnail is None for error in [*missed, *false_alarms]),
        "points": folder.record.get("operating_points") or {},
        "calibration": _calibration(folder, predictions),
        "audit": None if images.table is None else audit_run(folder, table=table),
        "evaluations": [read_evaluation(folder.path / "evaluations" / name) for name in folder.evaluations()],
        "pointing": _pointing(folder),
        "parts": {part: last[last["part"] == part].to_dict("records") for part in ("val", "train")},
        "combined": combined.to_dict("records"),
        "figures": _figures(folder),
        "prevalence": _prevalence(table, predictions.targets),
    }
    content |= _scores(predictions, images, folder.record["seed"])
    return write_page("run_page.html.jinja", content, path or folder.path / "report.html")


def _settings(folder: RunFolder) -> list[dict[str, Any]]:
    """Name and value of each setting, those that differ from their defaults first."""
    defaults = DEFAULTS.as_record()
    changed = {name: value != defaults.get(name) for name, value in folder.settings.items()}
    return [
        {"name": name, "value": folder.settings[name], "changed": changed[name]}
        for name in sorted(changed, key=changed.__getitem__, reverse=True)
    ]


def _scores(predictions: Predictions, images: RunImages, seed: int) -> dict[str, Any]:
    """The scores of each target, their means, those of all targets together, and those by study."""
    scores = scores_with_intervals(predictions, seed=seed)
    replicates = predictions.bootstrap(seed=seed)
    defined = scores[[*MAIN_SCORES]].notna().sum()
    return {
        "scores": scores.to_dict("records"),
        "means": [
            {"name": score, "defined": int(defined[score]), **mean_with_interval(replicates, score)}
            for score in MAIN_SCORES
        ],
        "all_targets": combined_with_intervals(predictions, seed=seed),
        "studies": _by_study(predictions, images, seed),
    }


def _by_study(predictions: Predictions, images: RunImages, seed: int) -> dict[str, Any] | None:
    """The scores by study; None if studies are not recorded, or each has one image."""
    if images.table is None:
        return None
    table = images.table.loc[predictions.image_ids]
    if table["StudyID"].isna().any():
        return None
    studies = table["PatientID"].astype(str) + "/" + table["StudyID"].astype(str)
    if studies.is_unique:
        return None
    scores = scores_with_intervals(predictions.aggregate(studies.to_numpy()), seed=seed)
    return {"studies": studies.nunique(), "images": len(studies), "scores": scores.to_dict("records")}


def _calibration(folder: RunFolder, predictions: Predictions) -> list[dict[str, Any]]:
    """One row per target, with the errors after the run's own calibration if it has one."""
    table = calibration_table(predictions)
    record = folder.record.get("calibration")
    if record:
        after = calibration_table(Calibration.from_record(record).apply_to(predictions))
        table = table.assign(ece_after=after["ece"], brier_after=after["brier"])
        table["note"] = table["target"].map(record["notes"]).fillna("")
    return table.to_dict("records")


def _pointing(folder: RunFolder) -> dict[str, Any] | None:
    """The pointing game of the best epoch, if `hilum.inference.heatmaps` has written it."""
    try:
        game = json.loads((folder.path / "heatmaps" / "pointing.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return game if game.get("epoch") == folder.best_epoch else None


def _prevalence(table: pd.DataFrame, targets: tuple[str, ...]) -> list[dict[str, Any]]:
    """Positive and labelled images of each target in training and validation, each image once."""
    images = table.drop_duplicates(["part", "ImageID"])
    rows: list[dict[str, Any]] = [{"target": target} for target in targets]
    for row, part in itertools.product(rows, ("train", "val")):
        labels = images.loc[images["part"] == part, f"label_{row['target']}"]
        row[part] = {"positives": int((labels == 1).sum()), "known": int(labels.notna().sum())}
    return rows


def _figures(folder: RunFolder) -> dict[str, dict[str, str]]:
    """Title and data URI of each figure of the run."""
    return {
        name: {"title": title, "src": data_uri(path.read_bytes())}
        for name, title in FIGURE_TITLES.items()
        if (path := folder.figures / f"{name}.png").is_file()
    }


def write_figures(folder: RunFolder, metrics: Metrics) -> list[Path]:
    """Draws the best epoch's curves and the progression over the epochs into the run's `figures/`."""
    from hilum.plots import curves, dataset

    predictions, epoch = Predictions.from_run(folder), folder.best_epoch
    rankings = {part: metrics.rankings(epoch, part) for part in ("train", "val")}
    thresholds = dict(zip(predictions.targets, predictions.thresholds.tolist(), strict=True))
    figures: dict[str, Figure] = {
        "roc": curves.roc_figure(rankings, thresholds, f"ROC curves, epoch {epoch}"),
        "precision-recall": curves.precision_recall_figure(
            rankings, thresholds, f"Precision and recall, epoch {epoch}"
        ),
        "reliability": curves.reliability_figure(
            reliability_curves(predictions), f"Calibration on validation, epoch {epoch}"
        ),
        "co-occurrence": dataset.co_prediction_figure(
            predictions.as_table(predictions.y_true), predictions.as_table(predictions.predicted)
        ),
        "progression-combined": curves.combined_progression_figure(metrics.combined, COMBINED_TITLES),
    }
    for score in PROGRESSIONS:
        figure = curves.progression_figure(metrics.scores, score, score_title(score))
        figures[f"progression-{score.replace('_', '-')}"] = figure
    for name, figure in figures.items():
        with replacing(folder.figures / f"{name}.png") as partial:
            figure.savefig(partial, format="png")
    return [folder.figures / f"{name}.png" for name in figures]
