"""The application: pages, reading, runs, and what watches over them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from hilum import __version__
from hilum.errors import HilumError
from hilum.inference import RESEARCH_USE
from hilum.service import errors
from hilum.service.batching import Batcher
from hilum.service.model_pool import ModelsOfRuns, OneModel
from hilum.service.monitoring import Measured, ServiceMetrics
from hilum.service.routes_predict import ReadingDesk, make_router
from hilum.service.routes_runs import make_runs_router
from hilum.service.schemas import Health, refusals
from hilum.service.security import Guard, ServiceLimits

if TYPE_CHECKING:
    from hilum.inference.reader import Reader

PAGE = Path(__file__).parent / "web"

_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

DESCRIPTION = f"""
Findings of chest radiographs, suggested by a model. **{RESEARCH_USE}**

Files are sent as multipart forms, decoded in memory, never written to disk or logged, and forgotten with the
answer. Every refusal is JSON, `{{"error": {{"code", "message", "file"}}}}`. 503 says that the service is busy and
when to ask again.

    curl --form files=@chest.png http://127.0.0.1:8000/v1/predict
"""


def make_app(
    reader: "Reader | None" = None,
    *,
    runs: Path | None = None,
    open_reader: "Callable[[Path], Reader] | None" = None,
    token: str | None = None,
    loopback_only: bool = True,
    limits: ServiceLimits | None = None,
) -> Guard:
    """The service as an ASGI application.

    Args:
        reader: to read with.
        runs: a folder of runs, in place of a reader.
        open_reader: opens one of them; `hilum.inference.reader.open_reader` if left out.
        token: that every request must bring; None asks for none.
        loopback_only: answer only requests that name a loopback host.
        limits: of requests.

    Returns:
        The guarded application; `.api` is the FastAPI within.
    """
    limits, metrics = limits or ServiceLimits(), ServiceMetrics()

    def make_batcher(of_reader: "Reader") -> Batcher:
        return Batcher(of_reader, limits.batch, metrics.batch.observe)

    if runs is not None:
        if open_reader is None:
            from hilum.inference.reader import open_reader
        models: OneModel | ModelsOfRuns = ModelsOfRuns(runs, open_reader, make_batcher)
    else:
        models = OneModel(make_batcher(reader))
    desk = ReadingDesk(models, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(_open_best(models))
        yield
        opening.cancel()
        await desk.close()

    api = FastAPI(
        title="Hilum reading service",
        version=__version__,
        summary="Research use only.",
        description=DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    api.add_exception_handler(errors.ServiceError, errors.answer_service_error)
    api.add_exception_handler(HilumError, errors.answer_hilum_error)
    api.add_exception_handler(HTTPException, errors.answer_http_error)
    api.add_exception_handler(RequestValidationError, errors.answer_invalid)
    api.add_exception_handler(Exception, errors.answer_failure)
    api.add_middleware(Measured, metrics=metrics)
    api.include_router(make_router(desk))
    if runs is not None:
        api.include_router(make_runs_router(runs, desk))
    _add_health(api, metrics)
    _add_pages(api, with_runs=runs is not None)
    _describe_token(api, token is not None)
    guard = Guard(api, token, loopback_only)
    guard.api, guard.desk = api, desk
    return guard


async def _open_best(models: "OneModel | ModelsOfRuns") -> None:
    """Opens the model before somebody waits for it; if there is none, whoever asks is told."""
    with contextlib.suppress(HilumError):
        async with models.using():
            pass


def _add_health(api: FastAPI, metrics: ServiceMetrics) -> None:
    @api.get("/healthz", response_model=Health, tags=["service"], summary="Whether the service answers")
    async def healthz() -> Health:
        """Needs no token."""
        return Health(status="ok")

    @api.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}}
        | refusals(401, 403),
        tags=["service"],
        summary="Counts and times for Prometheus",
    )
    async def prometheus() -> Response:
        """Requests, seconds, images, batch sizes, memory: nothing of any image."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(api: FastAPI, with_runs: bool) -> None:
    """The pages' files, by their names: no path is made of what is asked for."""
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in _MEDIA_TYPES}

    @api.get("/", include_in_schema=False)
    async def reading_page() -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")

    if with_runs:

        @api.get("/runs", include_in_schema=False)
        async def runs_page() -> Response:
            return FileResponse(PAGE / "runs.html", media_type="text/html; charset=utf-8")

    @api.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return FileResponse(files[name], media_type=_MEDIA_TYPES[files[name].suffix])


def _describe_token(api: FastAPI, needed: bool) -> None:
    """Says in OpenAPI that a token is needed, for all but /healthz."""
    if not needed:
        return
    described = api.openapi()
    described.setdefault("components", {})["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"}
    }
    for path, methods in described["paths"].items():
        if path != "/healthz":
            for operation in methods.values():
                operation["security"] = [{"token": []}]
