"""/v1/predict, /v1/heatmap and /v1/model: files in, findings out; nothing is stored."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic_core import to_json

from hilum.errors import HilumError, ImageError, nearest
from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS, RESEARCH_USE, HeatmapMethod
from hilum.inference.image import PreparedImage
from hilum.inference.overlay import fit_to_image
from hilum.inference.reader import OcclusionCheck, Reader, study_result
from hilum.report.format import data_uri
from hilum.service._errors import Responses, ServiceError, busy, error_responses, image_error
from hilum.service._middleware import ServiceMetrics
from hilum.service._model_pool import Batcher, ModelPool, SingleModel
from hilum.service._schemas import API_FORMAT, ImageAnswer, ModelAnswer, Prediction, RequestLimits
from hilum.service._uploads import ServiceLimits, Upload, Uploads

#: The longer side of a heatmap in an answer: a heatmap has no finer detail than a few dozen cells.
MAX_HEATMAP_SIDE = 512

#: Level 1 of zlib: radiographs hardly get smaller at higher levels, and the page waits for them.
_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]

RunName = Annotated[
    str | None,
    Query(description="for a service of a folder of runs: the run to read with; the best if left out"),
]

_UPLOAD_ERRORS = error_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 503)

#: FastAPI's `responses` of a heatmap.
HEATMAP_PNG: Responses = {
    200: {
        "content": {"image/png": {}},
        "description": "gray levels 0 to 255 for 0 to 1",
        "headers": {
            "Hilum-Occlusion": {
                "description": "the occlusion check as JSON: probability, hidden, lowers, stronger_than",
                "schema": {"type": "string"},
            }
        },
    }
}


class Predictor:
    """Reads the files of requests with the models, within the limits; `metrics` count images and requests."""

    def __init__(self, models: SingleModel | ModelPool, limits: ServiceLimits, metrics: ServiceMetrics):
        self.models, self.limits, self.metrics = models, limits, metrics
        self.uploads = Uploads(limits)
        self._decoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hilum-decode")
        self._image_slots = asyncio.Semaphore(limits.images)
        self._open_requests = 0

    async def close(self) -> None:
        """Closes the models and ends the threads."""
        await self.models.close()
        await asyncio.to_thread(self._decoders.shutdown)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Admits a request and limits its time; ServiceError (503) for too many requests, or when the time is over."""
        if self._open_requests >= self.limits.requests:
            raise busy(f"The service is working on {self._open_requests} requests, its limit.")
        self._open_requests += 1
        self.metrics.open_requests.set(self._open_requests)
        try:
            async with asyncio.timeout(self.limits.seconds):
                yield
        except TimeoutError:
            message = f"The request took longer than {self.limits.seconds:g} seconds."
            message += " Try fewer or smaller files."
            raise ServiceError(503, "timeout", message, retry_after=5) from None
        finally:
            self._open_requests -= 1
            self.metrics.open_requests.set(self._open_requests)

    async def in_decoder(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function in a decoder thread, so that the model's thread and the event loop stay free."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

    async def prepare(self, reader: Reader, upload: Upload) -> PreparedImage:
        """Decodes a file; ServiceError if it cannot be used."""
        try:
            return await self.in_decoder(reader.prepare, upload.data, upload.name, self.limits)
        except ImageError as error:
            self.metrics.images.labels("unusable").inc()
            raise image_error(error, upload.name) from None

    async def read(
        self, batcher: Batcher, upload: Upload, pixels: bool, heatmaps: Sequence[str], method: HeatmapMethod
    ) -> ImageAnswer:
        """Reads a file; the options are those of `predict`."""
        async with self._image_slots:
            image = await self.prepare(batcher.reader, upload)
            result = await batcher.read(image)
            self.metrics.images.labels(result.status).inc()
            pictures, checks = {}, {}
            for each in result.findings:
                if each.finding in heatmaps or (each.suggested and "suggested" in heatmaps):
                    picture, checks[each.finding] = await self.heatmap(batcher, image, each.finding, method)
                    pictures[each.finding] = data_uri(picture)
            decoded = data_uri(await self.in_decoder(encode_png, image.pixels)) if pixels else None
            return ImageAnswer(**vars(result), pixels=decoded, heatmaps=pictures, occlusion=checks)

    async def heatmap(
        self, batcher: Batcher, image: PreparedImage, target: str, method: HeatmapMethod
    ) -> tuple[bytes, OcclusionCheck]:
        """A heatmap as PNG, to be stretched over the whole image, and its occlusion check.

        ServiceError (409) if the model cannot make one.
        """
        reader = batcher.reader
        fit = reader.metadata.get("preprocessing", {}).get("fit", "stretch")
        try:
            heatmap = await batcher.run(lambda: reader.heatmap(image, target, method))
            check = await batcher.run(lambda: reader.occlusion_check(image, target, heatmap))
        except HilumError as error:
            raise ServiceError(409, "no-heatmap", str(error)) from None
        shape = _shrunk_shape(image.pixels.shape, MAX_HEATMAP_SIDE)
        return await self.in_decoder(lambda: _encode_heatmap(fit_to_image(heatmap, shape, fit))), check


def _predictor_of(request: Request) -> Predictor:
    return request.app.state.predictor


InPredictor = Annotated[Predictor, Depends(_predictor_of)]

router = APIRouter(tags=["predict"])


def _form(name: str, many: bool) -> dict[str, Any]:
    """OpenAPI's description of a form with files."""
    file = {"type": "string", "format": "binary", "description": "PNG (8 or 16 bits), JPEG or DICOM"}
    schema = {
        "type": "object",
        "properties": {name: {"type": "array", "items": file, "minItems": 1} if many else file},
        "required": [name],
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post(
    "/v1/predict",
    response_model=Prediction,
    responses=_UPLOAD_ERRORS,
    openapi_extra=_form("files", many=True),
    summary="Findings of one or more files",
)
async def predict(
    request: Request,
    predictor: InPredictor,
    run: RunName = None,
    pixels: Annotated[bool, Query(description="add the decoded images as PNG")] = False,
    heatmaps: Annotated[
        list[str] | None,
        Query(description="add heatmaps of these targets; `suggested` for all suggested ones"),
    ] = None,
    method: Annotated[HeatmapMethod, Query(description="of the heatmaps")] = DEFAULT_METHOD,
) -> Prediction:
    """Reads the files of a multipart form, field `files`, as one study.

    Files are decoded in memory, never written, and discarded after the answer. If one of them cannot be used, the
    whole request is refused and the error names the file.
    """
    async with predictor.models.using(run) as batcher, predictor.admitted():
        targets = heatmaps or []
        for target in targets:
            if target != "suggested":
                check_target(target, batcher.reader.targets)
        async with predictor.uploads.files(request, "files", predictor.limits.files) as files:
            # All begin at once; an error waits for the others, so that it is that of the first file.
            reads = (predictor.read(batcher, file, pixels, targets, method) for file in files)
            outcomes = await asyncio.gather(*reads, return_exceptions=True)
        answers = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            answers.append(outcome)
        name = str(batcher.reader.metadata.get("name", ""))
        return Prediction(research_use=RESEARCH_USE, model=name, images=answers, study=study_result(answers))


@router.post(
    "/v1/heatmap",
    response_class=Response,
    responses=HEATMAP_PNG | _UPLOAD_ERRORS,
    openapi_extra=_form("file", many=False),
    summary="Where in an image the model sees a finding",
)
async def heatmap(
    request: Request,
    predictor: InPredictor,
    target: Annotated[str, Query(description="of the finding", examples=["Cardiomegaly"])],
    run: RunName = None,
    method: Annotated[HeatmapMethod, Query()] = DEFAULT_METHOD,
) -> Response:
    """A PNG of at most 512 pixels a side, to be stretched over the whole image.

    The header `Hilum-Occlusion` has the occlusion check as JSON: the effect of hiding the area around the heatmap's
    maximum. The file is sent again, because nothing of an earlier request is stored.
    """
    async with predictor.models.using(run) as batcher, predictor.admitted():
        check_target(target, batcher.reader.targets)
        async with predictor.uploads.files(request, "file", 1) as files:
            image = await predictor.prepare(batcher.reader, files[0])
            return heatmap_response(*await predictor.heatmap(batcher, image, target, method))


@router.get(
    "/v1/model",
    response_model=ModelAnswer,
    response_model_exclude_unset=True,
    responses=error_responses(401, 403, 404, 409, 422),
    summary="The model's metadata",
)
async def model(predictor: InPredictor, run: RunName = None) -> dict[str, Any]:
    """Targets, thresholds, preprocessing, scores and provenance of the model, and the limits of requests."""
    async with predictor.models.using(run) as batcher:
        metadata = batcher.reader.metadata
    return {
        "format": API_FORMAT,
        "research_use": RESEARCH_USE,
        "metadata": metadata,
        "limits": RequestLimits.model_validate(predictor.limits),
        "heatmaps": {"methods": list(HEATMAP_METHODS), "default": DEFAULT_METHOD},
        "runs": isinstance(predictor.models, ModelPool),
    }


def check_target(target: str, targets: Sequence[str], owner: str = "The model") -> None:
    """Raises ServiceError (404) for a target that the model or run does not have."""
    if target not in targets:
        problem = f"There is no target {target!r}.{nearest(target, targets)}"
        raise ServiceError(404, "no-target", f"{problem} {owner} has {', '.join(targets)}.")


def heatmap_response(png: bytes, check: OcclusionCheck) -> Response:
    """The PNG, with the occlusion check in a header."""
    header = to_json(check, inf_nan_mode="null").decode()
    return Response(png, media_type="image/png", headers={"Hilum-Occlusion": header})


def encode_png(gray: np.ndarray) -> bytes:
    """A PNG of gray levels, uint8 (height, width)."""
    return cv2.imencode(".png", gray, _FAST_PNG)[1].tobytes()


def _encode_heatmap(heatmap: np.ndarray) -> bytes:
    """A PNG whose gray levels 0 to 255 are a heatmap's 0 to 1."""
    return encode_png(np.rint(np.clip(np.nan_to_num(heatmap), 0, 1) * 255).astype(np.uint8))


def _shrunk_shape(shape: tuple[int, ...], max_side: int) -> tuple[int, int]:
    """(height, width) in the same proportions, the longer side at most `max_side`.

    >>> _shrunk_shape((2000, 1000), 512)
    (512, 256)
    """
    scale = min(1.0, max_side / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
