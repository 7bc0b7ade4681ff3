"""Files from a request's body into memory: nothing is written to disk, and nothing is read past the limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from hilum.inference.image import Limits
from hilum.service._errors import ServiceError, busy

_MAX_NAME = 200
_MAX_HEADER_BYTES = 8192
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class ServiceLimits(Limits):
    """Limits of one request and of all requests together; see `hilum.inference.image.Limits` for one file.

    Attributes:
        body_bytes: of one request.
        upload_bytes: of all requests in memory at the same time.
        requests: admitted at the same time, which limits the wait; the next is answered 503 before its body is read.
        images: decoded and in memory at the same time.
        batch: images in one pass of the model.
        seconds: from the first byte of the request to the answer.
    """

    body_bytes: int = 256 * _MEBIBYTE
    upload_bytes: int = 512 * _MEBIBYTE
    requests: int = 6
    images: int = 16
    batch: int = 8
    seconds: float = 30.0


@dataclass(frozen=True)
class Upload:
    """A file of a request."""

    name: str
    data: bytes = field(repr=False)


class Uploads:
    """Reads the files of requests: together at most `limits.upload_bytes`, each in half of `limits.seconds`."""

    def __init__(self, limits: ServiceLimits):
        self._limits = limits
        self.bytes_held = 0

    @asynccontextmanager
    async def files(self, request: Request, field_name: str, max_files: int) -> AsyncIterator[list[Upload]]:
        """The files of a multipart body; they count as held until the block ends.

        Args:
            request: its body has not been read.
            field_name: of each file's part.
            max_files: at most this many; at least one is required.

        Raises:
            ServiceError: 400, 413, 415 or 422 for any other body, 408 if it takes too long, 503 if memory is short.
        """
        boundary = _boundary(request.headers.get("content-type", ""))
        form = _Form(boundary, field_name, max_files, self._limits)
        declared, counted = request.headers.get("content-length", ""), 0
        try:
            if declared.isdigit():
                form.check_length(int(declared))
            try:
                async with asyncio.timeout(self._limits.seconds / 2):
                    async for chunk in request.stream():
                        form.feed(chunk)
                        self.bytes_held += form.bytes_held - counted
                        counted = form.bytes_held
                        if self.bytes_held > self._limits.upload_bytes:
                            raise busy("The service holds as many uploads as it can.")
            except TimeoutError:
                raise ServiceError(408, "slow", "The upload took too long.") from None
            except ClientDisconnect:
                raise ServiceError(400, "disconnected", "The upload was interrupted.") from None
            yield form.files()
        finally:
            self.bytes_held -= counted


class _Form:
    """One multipart body, parsed piece by piece."""

    def __init__(self, boundary: bytes, field_name: str, max_files: int, limits: ServiceLimits):
        self._field_name, self._max_files, self._limits = field_name, max_files, limits
        self._files: list[tuple[str, bytearray]] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = bytearray(), bytearray()
        self._ended = False
        self._received = self.bytes_held = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": partial(self._on_header, self._header),
                "on_header_value": partial(self._on_header, self._value),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        self._received += len(chunk)
        self.check_length(self._received)
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _incomplete_form() from None

    def files(self) -> list[Upload]:
        if not self._ended:
            raise _incomplete_form()
        if not self._files:
            raise ServiceError(422, "no-file", f"Send at least one file, as the field {self._field_name!r}.")
        files = [Upload(name, bytes(data)) for name, data in self._files]
        self._files.clear()
        return files

    def check_length(self, length: int) -> None:
        if length > self._limits.body_bytes:
            size = _size(self._limits.body_bytes)
            raise ServiceError(
                413, "too-large", f"The request is larger than {size}. Send fewer files at once."
            )

    def _on_header(self, text: bytearray, data: bytes, start: int, end: int) -> None:
        """Adds a piece of a header's name or value to its text."""
        text += data[start:end]
        if len(self._header) + len(self._value) > _MAX_HEADER_BYTES:
            raise _incomplete_form()

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != self._field_name:
            message = f"The form has a field {_printable(name)!r}; only {self._field_name!r} is allowed."
            raise ServiceError(422, "field", message)
        if len(self._files) == self._max_files:
            limit = "one file" if self._max_files == 1 else f"{self._max_files} files"
            raise ServiceError(413, "too-many", f"Send at most {limit} in a request.")
        path = options.get(b"filename", b"").decode("utf-8", "replace").replace("\\", "/")
        file_name = _printable(path.rsplit("/", 1)[-1]) or f"file {len(self._files) + 1}"
        self._files.append((file_name, bytearray()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        name, content = self._files[-1]
        if len(content) + end - start > self._limits.file_bytes:
            message = f"{name}: the file is larger than {_size(self._limits.file_bytes)}."
            raise ServiceError(413, "too-large", message, name)
        content += data[start:end]
        self.bytes_held += end - start

    def _on_end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    try:
        kind, options = parse_options_header(content_type)
    except Exception:  # a hostile header may raise anything
        kind, options = b"", {}
    if kind != b"multipart/form-data":
        message = "Send the files as multipart/form-data, as a form or curl --form does."
        raise ServiceError(415, "content-type", message)
    if not options.get(b"boundary"):
        raise _incomplete_form()
    return options[b"boundary"]


def _incomplete_form() -> ServiceError:
    return ServiceError(400, "form", "The body is not a complete multipart form.")


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable()).strip()[:_MAX_NAME]


def _size(count: int) -> str:
    return f"{count / _MEBIBYTE:,.0f} MiB" if count >= _MEBIBYTE else f"{count:,} bytes"
