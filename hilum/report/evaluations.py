"""What a run's evaluations on other images found, read from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from hilum.errors import HilumError
from hilum.report.terminal import new_table, score_and_interval, standard_console, threshold_in_words
from hilum.run_folder import RunFolder

_ALWAYS_THERE = ("name", "run", "epoch", "images", "patients", "remarks", "left_out", "evaluated")


@dataclass(frozen=True, eq=False)
class EvaluationFolder:
    """The tables of one evaluation.

    Attributes:
        record: `evaluation.json`.
        scores: by image, see `hilum.metrics.intervals.scores_with_intervals`.
        study_scores: the same by study; None if the data set has no studies.
        calibration: see `hilum.metrics.calibration.calibration_table`; `calibrated` tells the rows before
            and after the run's own calibration apart.
    """

    record: dict[str, Any]
    scores: pd.DataFrame
    study_scores: pd.DataFrame | None
    calibration: pd.DataFrame


def read_evaluation(path: Path) -> EvaluationFolder:
    """Reads the folder of an evaluation.

    Raises:
        HilumError: a file is missing or damaged.
    """
    try:
        by_study = path / "study_scores.parquet"
        record = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
        missing = [name for name in _ALWAYS_THERE if name not in record]
        if missing:
            raise ValueError(f"evaluation.json lacks {', '.join(missing)}")
        return EvaluationFolder(
            record=record,
            scores=pd.read_parquet(path / "scores.parquet"),
            study_scores=pd.read_parquet(by_study) if by_study.is_file() else None,
            calibration=pd.read_parquet(path / "calibration.parquet"),
        )
    except (OSError, ValueError) as error:
        raise HilumError(f"{path}: the evaluation cannot be read: {error}. Evaluate the run again.") from None


def read_evaluations(folder: RunFolder) -> list[EvaluationFolder]:
    """All evaluations of a run, by name."""
    return [read_evaluation(folder.path / "evaluations" / name) for name in folder.evaluations()]


def evaluation_json(path: Path) -> str:
    """The record and the scores as one JSON object; undefined scores are null."""
    found = read_evaluation(path)
    tables = {"scores": found.scores, "study_scores": found.study_scores, "calibration": found.calibration}
    return json.dumps(
        found.record
        | {
            name: None if table is None else json.loads(table.to_json(orient="records"))
            for name, table in tables.items()
        },
        indent=2,
    )


def show_evaluation(path: Path, console: Console | None = None) -> None:
    """Prints the scores with their intervals, by image and by study."""
    console = console or standard_console()
    found = read_evaluation(path)
    record = found.record
    console.print(
        f"[bold]{escape(record['run'])}[/], epoch {record['epoch']}, on {escape(record['name'])}: "
        f"{record['images']:,} images of {record['patients']:,} patients; thresholds as frozen in the run",
        highlight=False,
        soft_wrap=True,
    )
    for remark in record["remarks"]:
        console.print(f"[yellow]note:[/] {escape(remark)}", highlight=False, soft_wrap=True)
    for level, scores in (("image", found.scores), ("study", found.study_scores)):
        if scores is not None:
            console.print(f"\n[bold]by {level}[/]  score (95 % interval over patients)")
            console.print(interval_table(scores))
    for target, reason in record["left_out"].items():
        console.print(f"{escape(target)}: n/a, {escape(reason)}", highlight=False)
    for row in found.scores.itertuples():
        if row.lack:
            console.print(f"{escape(row.target)}: n/a where {escape(row.lack)}", highlight=False)
    console.print(f"Kept in {escape(str(path))}", highlight=False, soft_wrap=True)


def interval_table(scores: pd.DataFrame) -> Any:
    """Recall first, and beside it what it costs."""
    headings = {
        "recall": "recall",
        "roc_auc": "ROC AUC",
        "precision": "precision",
        "specificity": "specificity",
        "avg_precision": "average precision",
    }
    table = new_table("target", "positives", *headings.values(), "predicted\npositive", "threshold", text=1)
    for row in scores.to_dict("records"):
        table.add_row(
            escape(row["target"]),
            f"{row['positives']:,}",
            *(score_and_interval(row, name) for name in headings),
            "n/a"
            if row["predicted_positive_rate"] != row["predicted_positive_rate"]
            else f"{row['predicted_positive_rate']:.0%}",
            threshold_in_words(row["threshold"]),
        )
    return table
