"""/v1/runs: the table, the curves, the comparison and the images of a folder of runs.

A run is named by its folder's name, and only names that are listed are known; an image by the ImageID that the
run has evaluated. Nothing that is asked for becomes part of a path.
"""

import dataclasses
import math
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath

from hilum.config import DEFAULTS
from hilum.errors import nearest
from hilum.inference import DEFAULT_METHOD
from hilum.plots.curves import SCORE_WORDS
from hilum.report.differences import WITHOUT_EFFECT
from hilum.report.error_gallery import hardest_images, image_history, radiograph
from hilum.report.terminal import best_means, in_words
from hilum.report.validation import Validation, best_validation
from hilum.run_folder import RunFolder, find_runs
from hilum.service.errors import ServiceError
from hilum.service.model_pool import readable_runs, run_of
from hilum.service.routes_predict import HEATMAP_RESPONSE, Method, ReadingDesk, heatmap_response
from hilum.service.schemas import (
    ComparisonAnswer,
    CurvesAnswer,
    MistakesAnswer,
    RunImageAnswer,
    RunsAnswer,
    refusals,
)
from hilum.service.uploads import png_of

#: What is drawn over the epochs, in the order offered.
CURVES = ("roc_auc", "recall", "precision", "f1", "avg_precision", "loss")

#: Samples of the patients in a comparison.
REPLICATES = 1000

Name = Annotated[str, InPath(description="of the run's folder", examples=["baseline"])]
ImageId = Annotated[int, InPath(description="of the image in its data set", ge=-(2**63), lt=2**63)]
_PNG = {200: {"content": {"image/png": {}}, "description": "the picture"}}
_OF_RUN = refusals(401, 403, 404, 409, 422)


def make_runs_router(folder: Path, desk: ReadingDesk) -> APIRouter:
    """The addresses about a folder of runs.

    Args:
        folder: of run folders.
        desk: makes the heatmaps.
    """
    router = APIRouter(tags=["runs"])
    comparing = threading.Lock()

    @router.get(
        "/v1/runs",
        response_model=RunsAnswer,
        responses=refusals(401, 403, 409),
        summary="All runs, with settings and scores",
    )
    def runs() -> dict[str, Any]:
        """The oldest first; `differing` names the settings that are not the same in all of them."""
        found, problems = find_runs(folder)
        rated = readable_runs(folder)
        return {
            "folder": folder.name,
            "runs": [_summary(run) for run in found],
            "differing": differing_settings(found),
            "best": rated[0].path.name if rated else None,
            "problems": problems,
        }

    @router.get(
        "/v1/runs/{name}/curves",
        response_model=CurvesAnswer,
        responses=_OF_RUN,
        summary="Scores over the epochs",
    )
    def curves(name: Name) -> dict[str, Any]:
        """By part and score: the mean over the targets, and each target's."""
        return _curves(run_of(folder, name))

    @router.get(
        "/v1/runs/{name}/mistakes",
        response_model=MistakesAnswer,
        responses=_OF_RUN,
        summary="The images it is most wrong about",
    )
    def mistakes(
        name: Name,
        kind: Annotated[Literal["missed", "false-alarm"], Query()] = "missed",
        target: Annotated[str | None, Query(description="of one finding only")] = None,
        most: Annotated[int, Query(ge=1, le=500)] = 60,
    ) -> dict[str, Any]:
        """On the validation part, in the best epoch; the worst first, each finding in its turn."""
        return _mistakes(run_of(folder, name), kind == "missed", target, most)

    @router.get(
        "/v1/runs/{name}/images/{image_id}",
        response_model=RunImageAnswer,
        responses=_OF_RUN,
        summary="One validation image",
    )
    def image(name: Name, image_id: ImageId) -> dict[str, Any]:
        """What it is, and for each finding the label, the threshold, and the probability in every epoch."""
        return _image(run_of(folder, name), image_id)

    @router.get(
        "/v1/runs/{name}/images/{image_id}/pixels",
        response_class=Response,
        responses=_PNG | _OF_RUN,
        summary="Its radiograph",
    )
    def pixels(
        name: Name,
        image_id: ImageId,
        side: Annotated[int | None, Query(ge=16, le=4096, description="the longer side at most")] = None,
    ) -> Response:
        """Read from the data set's folder, where that is at hand."""
        return Response(png_of(_pixels(run_of(folder, name), image_id, side)), media_type="image/png")

    @router.get(
        "/v1/runs/{name}/images/{image_id}/heatmap",
        response_class=Response,
        responses=HEATMAP_RESPONSE | _OF_RUN | refusals(503),
        summary="Where the run sees a finding in it",
    )
    async def heatmap(
        name: Name,
        image_id: ImageId,
        target: Annotated[str, Query(description="the finding, by name")],
        method: Annotated[Method, Query()] = DEFAULT_METHOD,
    ) -> Response:
        """As /v1/heatmap, of an image of the run."""
        run = run_of(folder, name)
        _known_target(run, target)
        async with desk.models.using(name) as batcher, desk.admitted():
            levels = await desk.in_decoder(_pixels, run, image_id, None)
            image = await desk.in_decoder(batcher.reader.prepare, png_of(levels), f"{image_id}.png")
            return heatmap_response(*await desk.heatmap(batcher, image, target, method))

    @router.get(
        "/v1/comparison", response_model=ComparisonAnswer, responses=_OF_RUN, summary="Two runs compared"
    )
    def comparison(
        a: Annotated[str, Query(description="the reference")], b: Annotated[str, Query()]
    ) -> dict[str, Any]:
        """What differs, and how the scores differ on the same patients, with intervals; see hilum compare."""
        with comparing:
            return _compared(*_pair(folder, a, b)).as_record()

    @router.get(
        "/v1/comparison.html",
        response_class=Response,
        responses={200: {"content": {"text/html": {}}, "description": "one page that needs no network"}}
        | _OF_RUN,
        summary="The page of a comparison",
    )
    def comparison_page(a: Annotated[str, Query()], b: Annotated[str, Query()]) -> Response:
        """As hilum compare --html writes it."""
        from hilum.report.comparison_page import write_comparison

        with comparing, tempfile.TemporaryDirectory() as temporary:
            page = write_comparison(_compared(*_pair(folder, a, b)), Path(temporary) / "comparison.html")
            return Response(page.read_bytes(), media_type="text/html; charset=utf-8")

    return router


def differing_settings(runs: list[RunFolder]) -> list[str]:
    """The settings that are not the same in all runs, those without any effect aside."""
    defaults = DEFAULTS.as_record()
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in names
        if name not in WITHOUT_EFFECT
        and len({repr(run.settings.get(name, defaults.get(name))) for run in runs}) > 1
    ]


def _summary(run: RunFolder) -> dict[str, Any]:
    record, defaults = run.record, DEFAULTS.as_record()
    return {
        "name": run.path.name,
        "status": record["status"],
        "started": record["started"],
        "seconds": record.get("seconds"),
        "epochs_done": record.get("epochs_done", 0),
        "best_epoch": record.get("best_epoch"),
        "scores": {name: _number(value) for name, value in best_means(run).items()},
        "data": (record.get("catalog") or {}).get("name"),
        "targets": run.targets,
        "digest": record.get("digest"),
        "settings": {
            name: {"value": value, "words": in_words(value), "changed": value != defaults.get(name)}
            for name, value in run.settings.items()
        },
    }


def _curves(run: RunFolder) -> dict[str, Any]:
    scores, combined = run.scores(), run.combined()
    parts: dict[str, Any] = {}
    for part, of_part in scores.groupby("part"):
        by_epoch = of_part.groupby("epoch")
        mean = {name: _numbers(by_epoch[name].mean()) for name in CURVES if name in of_part}
        mean["loss"] = _numbers(combined[combined["part"] == part].set_index("epoch")["loss"])
        targets = {
            target: {name: _numbers(rows.set_index("epoch")[name]) for name in CURVES if name in rows}
            for target, rows in of_part.groupby("target", sort=False)
        }
        parts[part] = {"epochs": sorted(by_epoch.groups), "mean": mean, "targets": targets}
    return {
        "name": run.path.name,
        "best_epoch": run.record.get("best_epoch"),
        "words": {name: SCORE_WORDS[name] for name in CURVES},
        "parts": parts,
    }


def _mistakes(run: RunFolder, missed: bool, target: str | None, most: int) -> dict[str, Any]:
    validation = _validation_of(run)
    if target is not None:
        _known_target(run, target)
        validation = dataclasses.replace(
            validation,
            labels=validation.labels[[target]],
            probabilities=validation.probabilities[[target]],
            thresholds=validation.thresholds[[validation.targets.index(target)]],
        )
    labels, called = validation.labels.to_numpy(), validation.predicted.to_numpy()
    wrong = (labels == 1) & ~called if missed else (labels == 0) & called
    found = hardest_images(validation, None, missed=missed, most=most, with_thumbnails=False)
    root = run.record["catalog"].get("image_root")
    return {
        "name": run.path.name,
        "epoch": validation.epoch,
        "targets": run.targets,
        "count": int(wrong.sum()),
        "images_here": root is not None and validation.images is not None,
        "mistakes": [
            {
                "image_id": image.image_id,
                "target": image.target,
                "probability": image.probability,
                "threshold": image.threshold,
                "file": None if image.path is None else Path(image.path).name,
            }
            for image in found
        ],
    }


def _image(run: RunFolder, image_id: int) -> dict[str, Any]:
    validation = _validation_of(run)
    _known_image(validation, run, image_id)
    history = image_history(run, image_id)
    about = {} if validation.images is None else validation.images.loc[image_id].to_dict()
    return {
        "name": run.path.name,
        "image_id": image_id,
        "best_epoch": validation.epoch,
        "about": _about(about),
        "epochs": [int(epoch) for epoch in history.index],
        "findings": [
            {
                "target": target,
                "label": _number(validation.labels.at[image_id, target]),
                "probability": float(validation.probabilities.at[image_id, target]),
                "threshold": float(threshold),
                "suggested": bool(validation.predicted.at[image_id, target]),
                "history": _numbers(history[target]),
            }
            for target, threshold in zip(validation.targets, validation.thresholds, strict=True)
        ],
    }


def _about(row: dict[str, Any]) -> dict[str, str]:
    """What a reader of the image wants to know, in words; what is unknown is left out."""
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


def _pixels(run: RunFolder, image_id: int, side: int | None) -> np.ndarray:
    """The gray levels of a validation image.

    Raises:
        ServiceError: it is none of the run's, or its file cannot be read here.
    """
    validation = _validation_of(run)
    _known_image(validation, run, image_id)
    path = None if validation.images is None else str(validation.images.at[image_id, "Image_Path"])
    if path is not None and (path.startswith("/") or ".." in Path(path).parts):
        raise ServiceError(409, "no-image", f"Image {image_id}: its path leads out of the data set.")
    levels = radiograph(run.record["catalog"].get("image_root"), path, side)
    if levels is None:
        raise ServiceError(
            404,
            "no-image",
            f"The radiograph of image {image_id} is not at hand: the data set is not where the run read it.",
        )
    return levels


def _known_image(validation: Validation, run: RunFolder, image_id: int) -> None:
    if image_id not in validation.labels.index:
        raise ServiceError(404, "no-image", f"{run.path.name} has no validation image {image_id}.")


def _known_target(run: RunFolder, target: str) -> None:
    if target not in run.targets:
        raise ServiceError(
            404,
            "no-target",
            f"{run.path.name} has no target {target!r}.{nearest(target, run.targets)} "
            f"It has {', '.join(run.targets)}.",
        )


def _validation_of(run: RunFolder) -> Validation:
    written = (run.path / "run.json").stat().st_mtime_ns
    return _kept_validation(run.path, written)


@lru_cache(maxsize=4)
def _kept_validation(path: Path, _written: int) -> Validation:
    return best_validation(RunFolder(path))


def _pair(folder: Path, a: str, b: str) -> tuple[Path, int, Path, int]:
    runs = run_of(folder, a), run_of(folder, b)
    if a == b:
        raise ServiceError(422, "parameter", "a and b are the same run; a comparison needs two.")
    return tuple(part for run in runs for part in (run.path, (run.path / "run.json").stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _compared(a: Path, _a_written: int, b: Path, _b_written: int) -> Any:
    from hilum.report.comparison import compare_runs

    return compare_runs([RunFolder(a), RunFolder(b)], replicates=REPLICATES)


def _numbers(values: pd.Series) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    """A JSON number; None for NaN and for what is not there."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)
