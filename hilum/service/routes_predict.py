"""/v1/predict, /v1/heatmap, /v1/model: files in, findings out, nothing kept."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from hilum.errors import HilumError, ImageError, nearest
from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS, RESEARCH_USE
from hilum.inference.image import PreparedImage
from hilum.inference.overlay import fit_to_image
from hilum.inference.reader import ImageResult, Reader, study_result
from hilum.service.batching import Batcher
from hilum.service.errors import ServiceError, busy, of_image
from hilum.service.monitoring import ServiceMetrics
from hilum.service.schemas import (
    ImageAnswer,
    ModelAnswer,
    OcclusionAnswer,
    Prediction,
    image_answer,
    occlusion_answer,
    refusals,
    study_answer,
)
from hilum.service.security import ServiceLimits
from hilum.service.uploads import Upload, Uploads, data_uri, png_of, png_of_heatmap, scaled_shape

if TYPE_CHECKING:
    from hilum.service.model_pool import ModelsOfRuns, OneModel

#: Of what is sent: a heatmap has no finer detail than a few dozen cells.
LONGEST_HEATMAP = 512

Method = Literal[HEATMAP_METHODS]
RunName = Annotated[
    str | None,
    Query(description="of a service for a folder of runs: the run to read with; the best if left out"),
]

_OF_UPLOADS = refusals(400, 401, 403, 404, 408, 409, 413, 415, 422, 503)


def _form(name: str, several: bool) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "PNG (8 or 16 bits), JPEG or DICOM"}
    schema = {"type": "array", "items": file, "minItems": 1} if several else file
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {name: schema},
                        "required": [name],
                        "additionalProperties": False,
                    }
                }
            },
        }
    }


#: FastAPI's `responses` of a heatmap.
HEATMAP_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {}},
        "description": "gray levels 0 to 255 for 0 to 1",
        "headers": {
            "Hilum-Occlusion": {
                "description": "what hiding the hottest place does, as JSON: "
                "probability, hidden, lowers, stronger_than",
                "schema": {"type": "string"},
            }
        },
    }
}


def heatmap_response(picture: bytes, check: OcclusionAnswer) -> Response:
    """The PNG, with the check in a header."""
    return Response(picture, media_type="image/png", headers={"Hilum-Occlusion": check.model_dump_json()})


class ReadingDesk:
    """Takes the files of requests to the model, within limits.

    Args:
        models: to read with.
        limits: of requests.
        metrics: told of images and requests.
    """

    def __init__(self, models: "OneModel | ModelsOfRuns", limits: ServiceLimits, metrics: ServiceMetrics):
        self.models, self.limits, self.metrics = models, limits, metrics
        self._uploads = Uploads(limits)
        self._decoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hilum-decode")
        self._places = asyncio.Semaphore(limits.images)
        self._in_work = 0

    async def close(self) -> None:
        """Ends the models and the threads."""
        await self.models.close()
        await asyncio.to_thread(self._decoders.shutdown)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """A place among the requests that are worked on, and the time for one of them.

        Raises:
            ServiceError: 503: all places are taken, or the time is over.
        """
        if self._in_work >= self.limits.requests:
            raise busy(f"The service works on {self._in_work} requests, which is as many as it does.")
        self._in_work += 1
        self.metrics.in_work.set(self._in_work)
        try:
            async with asyncio.timeout(self.limits.seconds):
                yield
        except TimeoutError:
            raise ServiceError(
                503,
                "timeout",
                f"It was not done within {self.limits.seconds:g} seconds. Try again, with fewer or smaller files.",
                retry_after=5,
            ) from None
        finally:
            self._in_work -= 1
            self.metrics.in_work.set(self._in_work)

    @asynccontextmanager
    async def files(self, request: Request, field: str, most: int) -> AsyncIterator[list[Upload]]:
        """The files of the request's body, which must arrive in time.

        Raises:
            ServiceError: as `Uploads.files`, or 408.
        """
        held = self._uploads.files(request, field, most)
        try:
            async with asyncio.timeout(self.limits.seconds / 2):
                files = await held.__aenter__()
        except TimeoutError:
            raise ServiceError(408, "slow", "The upload took too long.") from None
        try:
            yield files
        finally:
            await held.__aexit__(None, None, None)

    async def in_decoder(self, work: Any, *arguments: Any) -> Any:
        """Calls a function in a thread beside the model's."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)

    async def prepare(self, reader: Reader, upload: Upload) -> PreparedImage:
        """A file, decoded.

        Raises:
            ServiceError: it cannot be used.
        """
        try:
            return await self.in_decoder(reader.prepare, upload.data, upload.name, self.limits)
        except ImageError as error:
            self.metrics.images.labels("unusable").inc()
            raise of_image(error, upload.name) from None

    async def image(
        self, batcher: Batcher, upload: Upload, with_pixels: bool, heatmaps: "list[str]", method: Method
    ) -> tuple[ImageResult, ImageAnswer]:
        """A file, read."""
        async with self._places:
            image = await self.prepare(batcher.reader, upload)
            result = await batcher.read(image)
            self.metrics.images.labels(result.status).inc()
            maps, checks = {}, {}
            for target in _wanted(result, heatmaps):
                picture, checks[target] = await self.heatmap(batcher, image, target, method)
                maps[target] = data_uri(picture)
            pixels = data_uri(await self.in_decoder(png_of, image.pixels)) if with_pixels else None
            return result, image_answer(result, image, pixels, maps, checks)

    async def heatmap(
        self, batcher: Batcher, image: PreparedImage, target: str, method: Method
    ) -> tuple[bytes, OcclusionAnswer]:
        """A heatmap as PNG, to be stretched over the whole image, and what hiding its hottest place does.

        Raises:
            ServiceError: 409: the model cannot give one.
        """
        fit = batcher.reader.metadata.get("preprocessing", {}).get("fit", "stretch")
        try:
            heat = await batcher.run(lambda: batcher.reader.heatmap(image, target, method))
            check = await batcher.run(lambda: batcher.reader.occlusion_check(image, target, heat))
        except HilumError as error:
            raise ServiceError(409, "no-heatmap", str(error)) from None
        shape = scaled_shape(image.pixels.shape, LONGEST_HEATMAP)
        picture = await self.in_decoder(lambda: png_of_heatmap(fit_to_image(heat, shape, fit)))
        return picture, occlusion_answer(check)


def make_router(desk: ReadingDesk) -> APIRouter:
    """The addresses for reading."""
    router = APIRouter(tags=["reading"])

    @router.post(
        "/v1/predict",
        response_model=Prediction,
        responses=_OF_UPLOADS,
        openapi_extra=_form("files", several=True),
        summary="Findings of one or more files",
    )
    async def predict(
        request: Request,
        run: RunName = None,
        pixels: Annotated[bool, Query(description="give the decoded images back as PNG")] = False,
        heatmaps: Annotated[
            list[str] | None,
            Query(description="give heatmaps of these targets; `suggested` stands for all suggested ones"),
        ] = None,
        method: Annotated[Method, Query(description="of the heatmaps")] = DEFAULT_METHOD,
    ) -> Prediction:
        """Reads the files of a multipart form, field `files`, as one study.

        Files are decoded in memory, never written, and forgotten once the answer is sent. If one of them cannot
        be used, the whole request is refused and the error names it.
        """
        async with desk.models.using(run) as batcher, desk.admitted():
            wanted = heatmaps or []
            for target in wanted:
                _known(batcher.reader, target, "suggested")
            async with desk.files(request, "files", desk.limits.files) as files:
                # Each begins at once; a refusal waits for the others, so that the first file's is told.
                asked = (desk.image(batcher, file, pixels, wanted, method) for file in files)
                answered = await asyncio.gather(*asked, return_exceptions=True)
            for outcome in answered:
                if isinstance(outcome, BaseException):
                    raise outcome
            return Prediction(
                research_use=RESEARCH_USE,
                model=str(batcher.reader.metadata.get("name", "")),
                images=[answer for _, answer in answered],
                study=study_answer(study_result([result for result, _ in answered])),
            )

    @router.post(
        "/v1/heatmap",
        response_class=Response,
        responses=HEATMAP_RESPONSE | _OF_UPLOADS,
        openapi_extra=_form("file", several=False),
        summary="Where in an image the model sees a finding",
    )
    async def heatmap(
        request: Request,
        target: Annotated[str, Query(description="the finding, by name", examples=["Cardiomegaly"])],
        run: RunName = None,
        method: Annotated[Method, Query()] = DEFAULT_METHOD,
    ) -> Response:
        """A PNG of at most some 512 pixels a side, to be stretched over the whole image.

        The header `Hilum-Occlusion` says, as JSON, what hiding its hottest place does to the probability.
        The file is sent again: nothing of an earlier request is kept.
        """
        async with desk.models.using(run) as batcher, desk.admitted():
            _known(batcher.reader, target)
            async with desk.files(request, "file", 1) as files:
                image = await desk.prepare(batcher.reader, files[0])
                return heatmap_response(*await desk.heatmap(batcher, image, target, method))

    @router.get(
        "/v1/model",
        response_model=ModelAnswer,
        response_model_exclude_unset=True,
        responses=refusals(401, 403, 404, 409, 422),
        summary="What the model is",
    )
    async def model(run: RunName = None) -> dict[str, Any]:
        """Targets, thresholds, preprocessing, scores and provenance of the model, and the service's limits."""
        async with desk.models.using(run) as batcher:
            card = batcher.reader.metadata
        return {
            "research_use": RESEARCH_USE,
            "card": card,
            "limits": desk.limits.as_record(),
            "heatmaps": {"methods": list(HEATMAP_METHODS), "default": DEFAULT_METHOD},
            "runs": desk.models.runs_folder is not None,
        }

    return router


def _known(reader: Reader, target: str, *others: str) -> None:
    if target not in (*reader.targets, *others):
        raise ServiceError(
            404,
            "no-target",
            f"There is no target {target!r}.{nearest(target, reader.targets)} "
            f"The model has {', '.join(reader.targets)}.",
        )


def _wanted(result: ImageResult, asked: list[str]) -> list[str]:
    """The targets whose heatmaps are due, once each, in the findings' order."""
    suggested = "suggested" in asked
    return [
        finding.finding
        for finding in result.findings
        if finding.finding in asked or (suggested and finding.suggested)
    ]
