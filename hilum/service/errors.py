"""Refusals of the service: a status, a code for programs, and a sentence for people."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hilum.errors import HilumError

#: `code` of an image that cannot be read -> status. Whatever is not here is 422: understood, but unusable.
STATUS_OF_IMAGE = {"too-large": 413, "unsupported": 415}

_WORDS_OF_STATUS = {
    404: ("not-found", "There is nothing at this address."),
    405: ("method", "This address does not answer this method."),
}


class ServiceError(HilumError):
    """A request that is not answered with what it asked for.

    Args:
        status: of HTTP.
        code: the kind of reason, for programs.
        message: what is wrong, and what to do.
        file: the name of the file that is meant.
        retry_after: seconds after which the same request may well be answered.
    """

    def __init__(
        self, status: int, code: str, message: str, file: str | None = None, retry_after: int | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.file = status, code, message, file
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


def busy(message: str) -> ServiceError:
    """The service has enough to do for now."""
    return ServiceError(503, "busy", f"{message} Try again in a second.", retry_after=1)


def of_image(error: HilumError, file: str) -> ServiceError:
    """An image that the reader cannot use, as a refusal of the request."""
    code = getattr(error, "code", "unreadable")
    words = getattr(error, "problem", None) or str(error)
    return ServiceError(STATUS_OF_IMAGE.get(code, 422), code, words, file)


def error_body(code: str, message: str, file: str | None = None) -> dict[str, Any]:
    """The JSON of every refusal."""
    return {"error": {"code": code, "message": message, "file": file}}


async def answer_service_error(_: Request, error: ServiceError) -> JSONResponse:
    """A refusal of ours."""
    return JSONResponse(
        error_body(error.code, error.message, error.file), error.status, headers=error.headers
    )


async def answer_hilum_error(_: Request, error: HilumError) -> JSONResponse:
    """Something on disk, a run's table say, that cannot be used: it is there, but not as asked for."""
    return JSONResponse(error_body(getattr(error, "code", "unusable"), str(error)), 409)


async def answer_http_error(_: Request, error: HTTPException) -> JSONResponse:
    """What the framework refuses: an unknown address, a method."""
    code, message = _WORDS_OF_STATUS.get(error.status_code, ("http", str(error.detail)))
    return JSONResponse(error_body(code, message), error.status_code, headers=error.headers)


async def answer_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """A parameter of the address that is not what it should be."""
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"][1:])
    return JSONResponse(error_body("parameter", f"{where}: {first['msg']}."), 422)


async def answer_failure(_: Request, __: Exception) -> JSONResponse:
    """A failure of ours; what it says may hold what was uploaded, so it is not told."""
    return JSONResponse(error_body("internal", "The service has failed at this; its log says where."), 500)
