"""The report: one HTML file that needs nothing beside it."""

import base64
import math
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from hilum.config import DEFAULTS
from hilum.files import replacing
from hilum.report.tables import COMBINED_HEADINGS, SCORE_HEADINGS, in_words
from hilum.run_folder import RunFolder

#: The figures shown, in this order, and what each is called.
FIGURE_TITLES = {
    "roc": "ROC curves",
    "precision-recall": "Precision and recall",
    "progression-recall": "Recall, epoch by epoch",
    "progression-roc-auc": "ROC AUC, epoch by epoch",
    "progression-precision": "Precision, epoch by epoch",
    "progression-f1": "F1, epoch by epoch",
    "progression-avg-precision": "Average precision, epoch by epoch",
    "progression-combined": "All targets together, epoch by epoch",
}


#: What matters first stands first: a phone shows the first columns only.
COLUMN_ORDER = (
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


def write_report(folder: RunFolder) -> Path:
    """Writes the run's `report.html` from its tables and figures.

    Raises:
        HilumError: no epoch has ended yet.
    """
    template = _environment().get_template("page.html.jinja")
    with replacing(folder.path / "report.html") as partial:
        partial.write_text(template.render(_content(folder)), encoding="utf-8")
    return folder.path / "report.html"


def _content(folder: RunFolder) -> dict[str, Any]:
    scores, combined = folder.scores(), folder.combined()
    last = int(scores["epoch"].max())
    defaults = DEFAULTS.as_record()
    parts = {
        part: scores[(scores["epoch"] == last) & (scores["part"] == part)].to_dict("records")
        for part in ("val", "train")
    }
    return {
        "run": folder.record,
        "last": last,
        "settings": [
            {"name": name, "value": value, "changed": value != defaults.get(name)}
            for name, value in folder.settings.items()
        ],
        "means": _means(pd.DataFrame(parts["val"])),
        "parts": parts,
        "score_headings": {name: SCORE_HEADINGS[name] for name in COLUMN_ORDER},
        "combined": combined.to_dict("records"),
        "combined_headings": COMBINED_HEADINGS,
        "figures": _figures(folder),
    }


def _means(val: pd.DataFrame) -> list[dict[str, Any]]:
    """The three scores that matter, recall first, with the number of targets that have one."""
    names = {"recall": "Recall", "roc_auc": "ROC AUC", "precision": "Precision"}
    return [
        {"name": words, "value": val[name].mean(), "defined": int(val[name].notna().sum()), "of": len(val)}
        for name, words in names.items()
    ]


def _figures(folder: RunFolder) -> list[dict[str, str]]:
    found = []
    for name, title in FIGURE_TITLES.items():
        path = folder.figures / f"{name}.png"
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            found.append({"title": title, "src": f"data:image/png;base64,{data}"})
    return found


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hilum", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["score"] = lambda value: (
        f"{value:,}" if isinstance(value, int) else "n/a" if math.isnan(value) else f"{value:.3f}"
    )
    environment.filters["words"] = in_words
    return environment
