"""/v1/runs and /v1/comparison: the table, curves, errors, images and comparison of a folder of runs.

A run is named by its folder's name, an image by the ImageID that the run has evaluated. Only listed names and evaluated
images are accepted: nothing of a request becomes part of a path.
"""

import math
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter

from hilum.config import DEFAULTS
from hilum.inference import DEFAULT_METHOD, HeatmapMethod
from hilum.metrics.predictions import Predictions
from hilum.metrics.scores import score_title
from hilum.metrics.selection import best_epoch_means
from hilum.report.comparison import compare_runs
from hilum.report.comparison_page import write_comparison
from hilum.report.comparison_types import WITHOUT_EFFECT, Comparison
from hilum.report.error_gallery import RunImages, image_history, largest_errors
from hilum.report.format import format_setting
from hilum.report.terminal import MAIN_SCORES
from hilum.run_folder import RunFolder, find_runs
from hilum.service._errors import Responses, ServiceError, error_responses
from hilum.service._model_pool import evaluated_runs, find_run
from hilum.service._routes_predict import HEATMAP_PNG, InPredictor, check_target, encode_png, heatmap_response
from hilum.service._schemas import ComparisonAnswer, CurvesAnswer, MistakesAnswer, RunImageAnswer, RunsAnswer

#: The scores of the curves, in the order of the page's menu.
CURVES = ("roc_auc", "recall", "precision", "f1", "avg_precision", "loss")

#: Bootstrap samples of the patients in a comparison.
REPLICATES = 1000

_ERRORS = error_responses(401, 403, 404, 409, 422)
_PNG: Responses = {200: {"content": {"image/png": {}}, "description": "the picture"}}
_PAGE: Responses = {200: {"content": {"text/html": {}}, "description": "one page that needs no network"}}

#: Comparisons run one at a time.
_comparing = threading.Lock()

router = APIRouter(tags=["runs"])

RunName = Annotated[str, PathParameter(description="of the run's folder", examples=["baseline"])]


def _folder(request: Request) -> Path:
    return request.app.state.runs_folder


Folder = Annotated[Path, Depends(_folder)]


def _run(folder: Folder, name: RunName) -> RunFolder:
    return find_run(folder, name)


Run = Annotated[RunFolder, Depends(_run)]
ImageId = Annotated[int, PathParameter(description="of the image in its data set", ge=-(2**63), lt=2**63)]


@router.get(
    "/v1/runs",
    response_model=RunsAnswer,
    responses=error_responses(401, 403, 409),
    summary="All runs, with settings and scores",
)
def runs(folder: Folder) -> dict[str, Any]:
    """The oldest first; `differing` names the settings that differ between runs."""
    found, problems = find_runs(folder)
    evaluated = evaluated_runs(folder)
    return {
        "folder": folder.name,
        "runs": [_overview(run) for run in found],
        "differing": differing_settings(found),
        "best": evaluated[0].path.name if evaluated else None,
        "problems": problems,
    }


def _overview(run: RunFolder) -> dict[str, Any]:
    record, defaults = run.record, DEFAULTS.as_record()
    means = best_epoch_means(run) if record.get("best_epoch") else {}
    return {
        "name": run.path.name,
        "status": record["status"],
        "started": record["started"],
        "seconds": record.get("seconds"),
        "epochs_done": record.get("epochs_done", 0),
        "best_epoch": record.get("best_epoch"),
        "scores": {name: _number(means.get(name)) for name in MAIN_SCORES},
        "data": (record.get("catalog") or {}).get("name"),
        "targets": run.targets,
        "digest": record.get("digest"),
        "settings": {
            name: {"value": value, "text": format_setting(value), "changed": value != defaults.get(name)}
            for name, value in run.settings.items()
        },
    }


def differing_settings(runs: list[RunFolder]) -> list[str]:
    """The settings that differ between runs, without those that have no effect on the results."""
    defaults = DEFAULTS.as_record()
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in WITHOUT_EFFECT)
    values = {name: {repr(run.settings.get(name, defaults.get(name))) for run in runs} for name in names}
    return [name for name in names if len(values[name]) > 1]


@router.get(
    "/v1/runs/{name}/curves", response_model=CurvesAnswer, responses=_ERRORS, summary="Scores over the epochs"
)
def curves(run: Run) -> dict[str, Any]:
    """By part and score: the mean over the targets, and each target's."""
    scores, combined = run.scores(), run.combined()
    parts: dict[str, Any] = {}
    for part, rows in scores.groupby("part"):
        by_epoch = rows.groupby("epoch")
        mean = {name: _series(by_epoch[name].mean()) for name in CURVES if name in rows}
        mean["loss"] = _series(combined[combined["part"] == part].set_index("epoch")["loss"])
        targets = {
            target: {name: _series(table.set_index("epoch")[name]) for name in CURVES if name in table}
            for target, table in rows.groupby("target", sort=False)
        }
        parts[str(part)] = {"epochs": sorted(by_epoch.groups), "mean": mean, "targets": targets}
    return {
        "name": run.path.name,
        "best_epoch": run.record.get("best_epoch"),
        "labels": {name: score_title(name) for name in CURVES},
        "parts": parts,
    }


@router.get(
    "/v1/runs/{name}/mistakes",
    response_model=MistakesAnswer,
    responses=_ERRORS,
    summary="The findings with the worst errors",
)
def mistakes(
    run: Run,
    kind: Annotated[Literal["missed", "false-alarm"], Query()] = "missed",
    target: Annotated[str | None, Query(description="of one finding only")] = None,
    most: Annotated[int, Query(ge=1, le=500)] = 60,
) -> dict[str, Any]:
    """On the validation part in the best epoch: the worst of each target first, then the second worst of each."""
    (predictions, images), missed = _validation_of(run.path, _version(run)), kind == "missed"
    if target is not None:
        check_target(target, run.targets, run.path.name)
        predictions = predictions.select(targets=[target])
    y_true, predicted = predictions.y_true, predictions.predicted
    wrong = (y_true == 1) & ~predicted if missed else (y_true == 0) & predicted
    errors = largest_errors(predictions, images, missed=missed, most=most, with_thumbnails=False)
    return {
        "name": run.path.name,
        "epoch": run.best_epoch,
        "targets": run.targets,
        "count": int(wrong.sum()),
        "images_available": images.root is not None and images.table is not None,
        "mistakes": [
            {
                "image_id": error.image_id,
                "finding": error.target,
                "probability": error.probability,
                "threshold": error.threshold,
                "file": None if error.path is None else Path(error.path).name,
            }
            for error in errors
        ],
    }


@router.get(
    "/v1/runs/{name}/images/{image_id}",
    response_model=RunImageAnswer,
    responses=_ERRORS,
    summary="One validation image",
)
def image(run: Run, image_id: ImageId) -> dict[str, Any]:
    """What is known about it, and for each target the label, the threshold and the probability in each epoch."""
    predictions, images, row = _validation_with(run, image_id)
    history = image_history(run, image_id)
    return {
        "name": run.path.name,
        "image_id": image_id,
        "best_epoch": run.best_epoch,
        "about": {} if images.table is None else _as_text(images.table.loc[image_id].to_dict()),
        "epochs": [int(epoch) for epoch in history.index],
        "findings": [
            {
                "finding": target,
                "label": _number(predictions.y_true[row, column]),
                "probability": float(predictions.y_score[row, column]),
                "threshold": float(predictions.thresholds[column]),
                "suggested": bool(predictions.predicted[row, column]),
                "history": _series(history[target]),
            }
            for column, target in enumerate(predictions.targets)
        ],
    }


def _as_text(row: dict[str, Any]) -> dict[str, str]:
    """The known facts in a row of images.parquet, for people."""
    about = {}
    if (age := _number(row.get("Age"))) is not None:
        about["Age"] = f"{age:.0f}"
    if _number(row.get("Sex_Unknown")) != 1 and (male := _number(row.get("Sex_Male"))) is not None:
        about["Sex"] = "male" if male == 1 else "female"
    if (pa := _number(row.get("Orientation_PA"))) is not None:
        about["View"] = "PA" if pa == 1 else "AP"
    if (devices := _number(row.get("Support Devices"))) is not None:
        about["Devices"] = "yes" if devices == 1 else "no"
    if row.get("Image_Path"):
        about["File"] = Path(str(row["Image_Path"])).name
    return about


@router.get(
    "/v1/runs/{name}/images/{image_id}/pixels",
    response_class=Response,
    responses=_PNG | _ERRORS,
    summary="Its radiograph",
)
def pixels(
    run: Run,
    image_id: ImageId,
    side: Annotated[int | None, Query(ge=16, le=4096, description="the longer side at most")] = None,
) -> Response:
    """Read from the data set's folder, where it is available."""
    return Response(encode_png(_pixels(run, image_id, side)), media_type="image/png")


@router.get(
    "/v1/runs/{name}/images/{image_id}/heatmap",
    response_class=Response,
    responses=HEATMAP_PNG | _ERRORS | error_responses(503),
    summary="Where the run sees a finding in it",
)
async def heatmap(
    run: Run,
    image_id: ImageId,
    predictor: InPredictor,
    target: Annotated[str, Query(description="of the finding")],
    method: Annotated[HeatmapMethod, Query()] = DEFAULT_METHOD,
) -> Response:
    """As /v1/heatmap, for an image of the run."""
    check_target(target, run.targets, run.path.name)
    async with predictor.models.using(run.path.name) as batcher, predictor.admitted():
        levels = await predictor.in_decoder(_pixels, run, image_id, None)
        prepared = await predictor.in_decoder(batcher.reader.prepare, encode_png(levels), f"{image_id}.png")
        return heatmap_response(*await predictor.heatmap(batcher, prepared, target, method))


def _pixels(run: RunFolder, image_id: int, side: int | None) -> np.ndarray:
    """The gray levels of a validation image; ServiceError if there is no such image, or its file cannot be read."""
    _, images, _ = _validation_with(run, image_id)
    path = images.path(image_id)
    if path is not None and (path.startswith("/") or ".." in Path(path).parts):
        raise ServiceError(409, "no-image", f"Image {image_id}: its path is outside the data set.")
    levels = images.pixels(image_id, side)
    if levels is None:
        problem = f"The radiograph of image {image_id} is not available"
        raise ServiceError(404, "no-image", f"{problem}: the data set is not where the run read it.")
    return levels


def _validation_with(run: RunFolder, image_id: int) -> tuple[Predictions, RunImages, int]:
    """The run's validation part, its images, and the row of an image; ServiceError (404) if it has no such image."""
    predictions, images = _validation_of(run.path, _version(run))
    rows = np.flatnonzero(predictions.image_ids == image_id)
    if not len(rows):
        raise ServiceError(404, "no-image", f"{run.path.name} has no validation image {image_id}.")
    return predictions, images, int(rows[0])


def _version(run: RunFolder) -> int:
    """Changes whenever the run has been written."""
    return (run.path / "run.json").stat().st_mtime_ns


@lru_cache(maxsize=4)
def _validation_of(path: Path, _version: int) -> tuple[Predictions, RunImages]:
    folder = RunFolder(path)
    return Predictions.from_run(folder), RunImages(folder)


RunA = Annotated[str, Query(description="the reference run")]
RunB = Annotated[str, Query(description="the other run")]


@router.get("/v1/comparison", response_model=ComparisonAnswer, responses=_ERRORS, summary="Two runs compared")
def comparison(folder: Folder, a: RunA, b: RunB) -> dict[str, Any]:
    """What differs, and the scores' differences on the same patients, with intervals; see hilum compare."""
    return _comparison_of(folder, a, b).as_record()


@router.get(
    "/v1/comparison.html",
    response_class=Response,
    responses=_PAGE | _ERRORS,
    summary="The page of a comparison",
)
def comparison_page(folder: Folder, a: RunA, b: RunB) -> Response:
    """As hilum compare --html writes it."""
    compared = _comparison_of(folder, a, b)
    with _comparing, tempfile.TemporaryDirectory() as temporary:
        page = write_comparison(compared, Path(temporary) / "comparison.html")
        return Response(page.read_bytes(), media_type="text/html; charset=utf-8")


def _comparison_of(folder: Path, a: str, b: str) -> Comparison:
    run_a, run_b = find_run(folder, a), find_run(folder, b)
    if a == b:
        raise ServiceError(422, "parameter", "a and b are the same run; a comparison needs two.")
    with _comparing:
        return _compare(run_a.path, run_b.path, (_version(run_a), _version(run_b)))


@lru_cache(maxsize=8)
def _compare(a: Path, b: Path, _versions: tuple[int, int]) -> Comparison:
    return compare_runs([RunFolder(a), RunFolder(b)], replicates=REPLICATES)


def _series(values: pd.Series) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    """A JSON number; None for NaN and for missing values."""
    return None if value is None or not math.isfinite(value) else float(value)
