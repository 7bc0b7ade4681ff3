"""Errors of the service: an HTTP status, a code for programs, and a sentence for people."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hilum.errors import HilumError, ImageError
from hilum.service._schemas import Answer

#: FastAPI's `responses`: HTTP status to its description.
Responses = dict[int | str, dict[str, Any]]

FAILURE = "The service failed to answer this request; see its log."

#: `code` of an image that cannot be read -> status; any other code is 422.
_IMAGE_STATUS = {"too-large": 413, "unsupported": 415}

_HTTP_ERRORS = {
    404: ("not-found", "There is nothing at this address."),
    405: ("method", "This address does not allow this method."),
}

_DESCRIPTIONS = {
    400: "The body is not a complete multipart form.",
    401: "The token is missing or wrong.",
    403: "The request names another host or is from the page of another site.",
    404: "No such run, image or target, or no model.",
    408: "The body did not arrive in time.",
    409: "It exists but cannot be used, for example a run without a checkpoint.",
    413: "A file, the request or an image is too large, or there are too many files.",
    415: "The body is not a form, or a file is of an unsupported kind.",
    422: "A file cannot be read as an image, or a parameter is wrong.",
    503: "The service is busy or took too long: repeat the request after Retry-After seconds.",
}


class Error(BaseModel):
    """What is wrong."""

    code: str = Field(description="for programs")
    message: str = Field(description="for people")
    file: str | None = Field(description="name of the file with the error")


class ErrorAnswer(Answer):
    """The body of every answer with a status of 400 or above."""

    error: Error


class ServiceError(HilumError):
    """A request that is refused.

    Args:
        status: HTTP status.
        code, message, file: of the answer, see `Error`.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self, status: int, code: str, message: str, file: str | None = None, retry_after: int | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.file = status, code, message, file
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


def busy(message: str) -> ServiceError:
    """503, for a service that has too much to do at the moment."""
    return ServiceError(503, "busy", f"{message} Try again in a second.", retry_after=1)


def image_error(error: ImageError, file: str) -> ServiceError:
    """The refusal of a request with an image that cannot be read."""
    return ServiceError(_IMAGE_STATUS.get(error.code, 422), error.code, error.problem, file)


def error_responses(*statuses: int) -> Responses:
    """FastAPI's `responses` for these statuses."""
    return {status: {"model": ErrorAnswer, "description": _DESCRIPTIONS[status]} for status in statuses}


def error_json(
    status: int, code: str, message: str, file: str | None = None, headers: Any = None
) -> JSONResponse:
    """The JSON response of an error."""
    answer = ErrorAnswer(error=Error(code=code, message=message, file=file))
    return JSONResponse(answer.model_dump(), status, headers=headers)


async def answer_error(_: Request, error: Exception) -> JSONResponse:
    """The response to any exception. An unexpected one is not shown: its message may hold what was uploaded."""
    if isinstance(error, ServiceError):
        return error_json(error.status, error.code, error.message, error.file, error.headers)
    if isinstance(error, HilumError):  # a damaged table of a run, for example
        return error_json(409, getattr(error, "code", "unusable"), str(error))
    if isinstance(error, HTTPException):  # of the framework: an unknown address or method
        code, message = _HTTP_ERRORS.get(error.status_code, ("http", str(error.detail)))
        return error_json(error.status_code, code, message, headers=error.headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        parameter = " ".join(str(part) for part in first["loc"][1:])
        return error_json(422, "parameter", f"{parameter}: {first['msg']}.")
    return error_json(500, "internal", FAILURE)
