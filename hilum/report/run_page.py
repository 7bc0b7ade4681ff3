"""The report: one HTML file that needs nothing beside it."""

import base64
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from hilum.config import DEFAULTS
from hilum.errors import HilumError
from hilum.files import replacing
from hilum.metrics import Metrics
from hilum.metrics.bootstrap import score_replicates
from hilum.metrics.calibration import Calibration, calibration_table
from hilum.metrics.intervals import combined_with_intervals, mean_with_interval, scores_with_intervals
from hilum.metrics.study_level import level_scores
from hilum.plots.curves import target_colours
from hilum.report.audit import Audit, audit_run
from hilum.report.error_gallery import hardest_images, missing_thumbnails
from hilum.report.evaluations import read_evaluations
from hilum.report.terminal import COMBINED_HEADINGS, SCORE_HEADINGS, in_words, threshold_in_words
from hilum.report.validation import Validation, best_validation
from hilum.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The figures shown, in this order, and what each is called.
FIGURE_TITLES = {
    "roc": "ROC curves",
    "precision-recall": "Precision and recall",
    "reliability": "Calibration",
    "co-occurrence": "What is predicted together",
    "progression-recall": "Recall, epoch by epoch",
    "progression-roc-auc": "ROC AUC, epoch by epoch",
    "progression-precision": "Precision, epoch by epoch",
    "progression-f1": "F1, epoch by epoch",
    "progression-avg-precision": "Average precision, epoch by epoch",
    "progression-combined": "All targets together, epoch by epoch",
}

#: What matters first stands first: a phone shows the first columns only.
INTERVAL_HEADINGS = {
    "recall": "recall",
    "roc_auc": "ROC AUC",
    "precision": "precision",
    "specificity": "specificity",
    "avg_precision": "average precision",
    "f1": "F1",
}
EPOCH_COLUMNS = (
    "recall",
    "roc_auc",
    "precision",
    "f1",
    "avg_precision",
    "positives",
    "predicted_positives",
    "true_positives",
    "threshold",
)

#: How many mistakes of each kind the page shows.
MOST_MISSED, MOST_FALSE_ALARMS = 18, 12


def write_report(folder: RunFolder, path: Path | None = None) -> Path:
    """Writes the run's page from its tables and figures.

    Args:
        folder: of the run.
        path: where to; the run's `report.html` if left out.

    Raises:
        HilumError: no epoch has ended yet, or the file cannot be written.
    """
    return write_html("page.html.jinja", _content(folder), path or folder.path / "report.html")


def _content(folder: RunFolder) -> dict[str, Any]:
    scores, combined = folder.scores(), folder.combined()
    validation = best_validation(folder)
    last = int(scores["epoch"].max())
    defaults = DEFAULTS.as_record()
    seed = folder.record["seed"]
    found = scores_with_intervals(*_given(validation), validation.targets, validation.thresholds, seed=seed)
    audit = _audit(folder, validation)
    root = folder.record["catalog"].get("image_root")
    missed = hardest_images(validation, root, missed=True, most=MOST_MISSED)
    false_alarms = hardest_images(validation, root, missed=False, most=MOST_FALSE_ALARMS)
    return {
        "run": folder.record,
        "best": validation.epoch,
        "best_by": _best_by(folder),
        "last": last,
        "settings": sorted(
            (
                {"name": name, "value": value, "changed": value != defaults.get(name)}
                for name, value in folder.settings.items()
            ),
            key=lambda setting: not setting["changed"],
        ),
        "colours": target_colours(validation.targets),
        "means": _means(validation, found, seed),
        "combined_now": combined_with_intervals(*_given(validation), validation.thresholds, seed=seed),
        "scores": found.to_dict("records"),
        "interval_headings": INTERVAL_HEADINGS,
        "points": folder.record.get("operating_points") or {},
        "studies": _by_study(validation, seed),
        "calibration": _calibration(folder, validation),
        "missed": missed,
        "false_alarms": false_alarms,
        "unread": missing_thumbnails([*missed, *false_alarms]),
        "audit": audit,
        "metadata_alone": {} if audit is None else audit.metadata.set_index("target")["auc"].to_dict(),
        "evaluations": read_evaluations(folder),
        "pointing": _pointing(folder),
        "parts": {
            part: scores[(scores["epoch"] == last) & (scores["part"] == part)].to_dict("records")
            for part in ("val", "train")
        },
        "score_headings": {name: SCORE_HEADINGS[name] for name in EPOCH_COLUMNS},
        "combined": combined.to_dict("records"),
        "combined_headings": COMBINED_HEADINGS,
        "figures": _figures(folder),
        "prevalence": _prevalence(folder, validation),
    }


def _best_by(folder: RunFolder) -> str:
    """The scores that chose the best epoch, the most important first."""
    rule = folder.settings.get("best_rule") or ["roc_auc"]  # the only one there was
    scores = [INTERVAL_HEADINGS[criterion.partition(":")[0].strip()] for criterion in rule]
    return "validation " + ", then ".join(scores)


def _given(validation: Validation) -> tuple:
    return validation.labels.to_numpy(), validation.probabilities.to_numpy(), validation.patients


def _means(validation: Validation, scores: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """The three scores that matter, recall first, with the number of targets that have one."""
    names = {"recall": "Recall", "roc_auc": "ROC AUC", "precision": "Precision"}
    bootstrap = score_replicates(*_given(validation), validation.thresholds, seed=seed)
    return [
        {
            "name": words,
            **mean_with_interval(bootstrap, name),
            "defined": int(scores[name].notna().sum()),
            "of": len(scores),
        }
        for name, words in names.items()
    ]


def _by_study(validation: Validation, seed: int) -> dict[str, Any] | None:
    """The scores by study; None where studies are not recorded, or each has one image."""
    images = validation.images
    if images is None or images["StudyID"].isna().any():
        return None
    studies = images["PatientID"].astype(str) + "/" + images["StudyID"].astype(str)
    if studies.is_unique:
        return None
    labels, probabilities, patients = _given(validation)
    scores = level_scores(
        labels,
        probabilities,
        studies.to_numpy(),
        patients,
        validation.targets,
        validation.thresholds,
        seed=seed,
    )
    return {"studies": studies.nunique(), "images": len(studies), "scores": scores.to_dict("records")}


def _calibration(folder: RunFolder, validation: Validation) -> list[dict[str, Any]]:
    """One row per target, with the errors after the run's own calibration if it has one."""
    labels, probabilities, _ = _given(validation)
    table = calibration_table(labels, probabilities, validation.targets)
    record = folder.record.get("calibration")
    if record:
        fitted = Calibration.from_record(record)
        after = calibration_table(labels, fitted.apply(probabilities), validation.targets)
        table = table.assign(ece_after=after["ece"], brier_after=after["brier"])
        table["note"] = table["target"].map(record["notes"]).fillna("")
    return table.to_dict("records")


def _audit(folder: RunFolder, validation: Validation) -> Audit | None:
    return None if validation.images is None else audit_run(folder)


def _pointing(folder: RunFolder) -> dict[str, Any] | None:
    """The pointing game of the best epoch, where `hilum.inference.heatmaps` has left one."""
    try:
        found = json.loads((folder.path / "heatmaps" / "pointing.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("epoch") == folder.best_epoch else None


def _prevalence(folder: RunFolder, validation: Validation) -> list[dict[str, Any]]:
    """Positives of each target among the labelled images of training and validation, each image once."""
    ledger = folder.predictions(validation.epoch).drop_duplicates(["part", "ImageID"])
    rows = []
    for target in validation.targets:
        row: dict[str, Any] = {"target": target}
        for part in ("train", "val"):
            labels = ledger.loc[ledger["part"] == part, f"label_{target}"]
            row[part] = {"positives": int((labels == 1).sum()), "known": int(labels.notna().sum())}
        rows.append(row)
    return rows


def _figures(folder: RunFolder) -> dict[str, dict[str, str]]:
    found = {}
    for name, title in FIGURE_TITLES.items():
        path = folder.figures / f"{name}.png"
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            found[name] = {"title": title, "src": f"data:image/png;base64,{data}"}
    return found


def write_html(template: str, content: dict[str, Any], path: Path) -> Path:
    """Writes a page; names and values in `content` are escaped.

    Raises:
        HilumError: the file cannot be written.
    """
    html = _environment().get_template(template).render(content)
    try:
        with replacing(path) as partial:
            partial.write_text(html, encoding="utf-8")
    except OSError as error:
        raise HilumError(f"{path}: it cannot be written: {error.strerror}.") from None
    return path


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("hilum", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["score"] = _score
    made.filters["share"] = threshold_in_words
    made.filters["percent"] = lambda value: "n/a" if math.isnan(value) else f"{100 * value:.0f} %"
    made.filters["signed"] = lambda value: "n/a" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")
    made.filters["words"] = in_words
    made.globals["nan"] = math.nan
    made.filters["plain"] = lambda name: str(name).replace("_", " ")
    return made


def _score(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else "n/a" if math.isnan(value) else f"{value:.3f}"


#: The scores whose progression is drawn, a figure each; the first is what matters most.
PROGRESSIONS = ("recall", "roc_auc", "precision", "f1", "avg_precision")


def write_figures(folder: RunFolder, metrics: Metrics) -> list[Path]:
    """Draws the best epoch's curves and the progression over the epochs into the run's `figures/`."""
    from hilum.plots.calibration import reliability_figure
    from hilum.plots.curves import (
        combined_progression_figure,
        precision_recall_figure,
        progression_figure,
        roc_figure,
    )
    from hilum.plots.dataset import co_prediction_figure

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
        "co-occurrence": co_prediction_figure(validation.labels, validation.predicted),
        "progression-combined": combined_progression_figure(metrics.combined),
    }
    for score in PROGRESSIONS:
        drawn[f"progression-{score.replace('_', '-')}"] = progression_figure(metrics.scores, score)
    for name, figure in drawn.items():
        with replacing(folder.figures / f"{name}.png") as partial:
            figure.savefig(partial, format="png")
    return [folder.figures / f"{name}.png" for name in drawn]
