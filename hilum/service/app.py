"""The application: pages, routes and middleware."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from hilum import __version__
from hilum.errors import HilumError
from hilum.inference import RESEARCH_USE
from hilum.inference.reader import Reader, open_reader
from hilum.service import _routes_predict, _routes_runs
from hilum.service._errors import Responses, answer_error, error_responses
from hilum.service._middleware import MetricsMiddleware, SecurityMiddleware, ServiceMetrics
from hilum.service._model_pool import Batcher, ModelPool, SingleModel
from hilum.service._routes_predict import Predictor
from hilum.service._schemas import API_FORMAT, Health
from hilum.service._uploads import ServiceLimits

WEB = Path(__file__).parent / "web"

_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HTML = "text/html; charset=utf-8"
_METRICS_TEXT: Responses = {200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}}

#: The files of the pages by name: no path is made of what is requested.
_PAGE_FILES = {path.name: path for path in WEB.iterdir() if path.suffix in _MEDIA_TYPES}

DESCRIPTION = f"""
Findings of chest radiographs, suggested by a model. **{RESEARCH_USE}** This is format {API_FORMAT} of the answers.

Files are sent as multipart forms, decoded in memory, never written to disk or logged, and discarded after the answer.
Every error is JSON, `{{"error": {{"code", "message", "file"}}}}`. 503 means that the service is busy;
Retry-After states when to ask again.

    curl --form files=@chest.png http://127.0.0.1:8000/v1/predict
"""


def make_app(
    model: Reader | Path,
    *,
    open_reader: Callable[[Path], Reader] = open_reader,
    token: str | None = None,
    loopback_only: bool = True,
    limits: ServiceLimits | None = None,
) -> SecurityMiddleware:
    """The service as an ASGI application.

    Args:
        model: to read with, or a folder of runs.
        open_reader: opens a run of the folder.
        token: required in every request; None requires none.
        loopback_only: answer only requests that name a loopback host.
        limits: of requests.
    """
    limits, metrics = limits or ServiceLimits(), ServiceMetrics()
    make_batcher = partial(Batcher, max_batch=limits.batch, observe=metrics.batch.observe)
    models: SingleModel | ModelPool
    if isinstance(model, Path):
        models = ModelPool(model, open_reader, make_batcher)
    else:
        models = SingleModel(make_batcher(model))
    predictor = Predictor(models, limits, metrics)
    api = FastAPI(
        title="Hilum service",
        version=__version__,
        summary="Research use only.",
        description=DESCRIPTION,
        docs_url=None,  # its page loads scripts from other sites
        redoc_url=None,
        lifespan=_lifespan,
    )
    api.state.predictor, api.state.metrics, api.state.runs_folder = predictor, metrics, model
    for kind in (HilumError, HTTPException, RequestValidationError, Exception):
        api.add_exception_handler(kind, answer_error)
    api.add_middleware(MetricsMiddleware, metrics=metrics)
    api.include_router(_routes_predict.router)
    if isinstance(model, Path):
        api.include_router(_routes_runs.router)
        api.include_router(_runs_page)
    api.include_router(_router)
    if token is not None:
        _describe_token(api)
    return SecurityMiddleware(api, token, loopback_only)


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Opens the model before the first request waits for it, and closes the models in the end."""
    predictor: Predictor = api.state.predictor

    async def open_best() -> None:
        with suppress(HilumError):  # the first request gets the error
            async with predictor.models.using():
                pass

    opening = asyncio.create_task(open_best())
    yield
    opening.cancel()
    await predictor.close()


_router = APIRouter(tags=["service"])
_runs_page = APIRouter()


@_router.get("/healthz", response_model=Health, summary="Whether the service answers")
async def health() -> Health:
    """Needs no token."""
    return Health(status="ok")


@_router.get(
    "/metrics",
    response_class=Response,
    responses=_METRICS_TEXT | error_responses(401, 403),
    summary="Counts and times for Prometheus",
)
async def prometheus(request: Request) -> Response:
    """Requests, seconds, images, batch sizes, memory: nothing about any image."""
    text = request.app.state.metrics.as_text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@_router.get("/", include_in_schema=False)
async def predict_page() -> Response:
    """The page for reading images."""
    return FileResponse(WEB / "predict_page.html", media_type=_HTML)


@_runs_page.get("/runs", include_in_schema=False)
async def runs_page() -> Response:
    """The page of runs."""
    return FileResponse(WEB / "runs_page.html", media_type=_HTML)


@_router.get("/page/{name}", include_in_schema=False)
async def page_file(name: str) -> Response:
    """A script, style sheet or icon of the pages."""
    if name not in _PAGE_FILES:
        raise HTTPException(404)
    path = _PAGE_FILES[name]
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix])


def _describe_token(api: FastAPI) -> None:
    """States in OpenAPI that all paths but /healthz need a token."""
    schema = api.openapi()
    schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, methods in schema["paths"].items():
        if path != "/healthz":
            for operation in methods.values():
                operation["security"] = [{"token": []}]
