"""Files from a request's body into memory: nothing is written to disk, and nothing is read past the limits."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from hilum.service.errors import ServiceError, busy
from hilum.service.security import MEBIBYTE, ServiceLimits

_LONGEST_NAME = 200
_MOST_HEADER_BYTES = 8192


@dataclass(frozen=True)
class Upload:
    """A file as it was sent."""

    name: str
    data: bytes = field(repr=False)


class Uploads:
    """Reads the files of requests, which together stay within `limits.upload_bytes`."""

    def __init__(self, limits: ServiceLimits):
        self._limits = limits
        self.bytes_held = 0

    @asynccontextmanager
    async def files(self, request: Request, field_name: str, most: int) -> AsyncIterator[list[Upload]]:
        """The files of a multipart body; they count as held until the block ends.

        Args:
            request: whose body has not been read.
            field_name: what each file's part must be called.
            most: how many there may be; at least one there must.

        Raises:
            ServiceError: 400, 413, 415 or 422 for a body that is not like that, 503 if memory is short.
        """
        boundary = _boundary(request.headers.get("content-type", ""))
        form = _Form(boundary, field_name, most, self._limits)
        before = 0
        try:
            form.refuse_declared(request.headers.get("content-length"))
            async for chunk in request.stream():
                form.feed(chunk)
                self.bytes_held += form.bytes_held - before
                before = form.bytes_held
                if self.bytes_held > self._limits.upload_bytes:
                    raise busy("The service holds as many uploads as it can.")
            yield form.finished()
        except ClientDisconnect:
            raise ServiceError(400, "disconnected", "The upload ended before its end.") from None
        finally:
            self.bytes_held -= before


class _Form:
    """One multipart body, fed piece by piece."""

    def __init__(self, boundary: bytes, field_name: str, most: int, limits: ServiceLimits):
        self._field_name, self._most, self._limits = field_name, most, limits
        self._files: list[tuple[str, bytearray]] = []
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = bytearray(), bytearray()
        self._ended = False
        self._received = self.bytes_held = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def refuse_declared(self, content_length: str | None) -> None:
        if content_length and content_length.isdigit():
            self._refuse_length(int(content_length))

    def feed(self, chunk: bytes) -> None:
        self._received += len(chunk)
        self._refuse_length(self._received)
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _no_form() from None

    def finished(self) -> list[Upload]:
        if not self._ended:
            raise _no_form()
        if not self._files:
            raise ServiceError(422, "no-file", f"Send at least one file, as the field {self._field_name!r}.")
        files = [Upload(name, bytes(data)) for name, data in self._files]
        self._files.clear()
        return files

    def _refuse_length(self, length: int) -> None:
        if length > self._limits.body_bytes:
            raise ServiceError(
                413,
                "too-large",
                f"The request is larger than {_mebibytes(self._limits.body_bytes)}. Send fewer files at once.",
            )

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._refuse_headers()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._refuse_headers()

    def _refuse_headers(self) -> None:
        if len(self._header) + len(self._value) > _MOST_HEADER_BYTES:
            raise _no_form()

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != self._field_name:
            raise ServiceError(
                422,
                "field",
                f"The form has a field {_printable(name)!r}; the only one known is {self._field_name!r}.",
            )
        if len(self._files) == self._most:
            many = "one file" if self._most == 1 else f"{self._most} files"
            raise ServiceError(413, "too-many", f"Send at most {many} in a request.")
        given = options.get(b"filename", b"").decode("utf-8", "replace")
        self._files.append((_base_name(given) or f"file {len(self._files) + 1}", bytearray()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        name, held = self._files[-1]
        if len(held) + end - start > self._limits.file_bytes:
            raise ServiceError(
                413,
                "too-large",
                f"{name}: the file is larger than {_mebibytes(self._limits.file_bytes)}.",
                name,
            )
        held += data[start:end]
        self.bytes_held += end - start

    def _on_end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    try:
        kind, options = parse_options_header(content_type)
    except Exception:  # whatever a header can make it stumble over
        kind, options = b"", {}
    if kind != b"multipart/form-data":
        raise ServiceError(
            415, "content-type", "Send the files as multipart/form-data, as a form or curl --form does."
        )
    if not options.get(b"boundary"):
        raise _no_form()
    return options[b"boundary"]


def _no_form() -> ServiceError:
    return ServiceError(400, "form", "The body is no whole multipart form.")


def _base_name(name: str) -> str:
    return _printable(name.replace("\\", "/").rsplit("/", 1)[-1])


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable()).strip()[:_LONGEST_NAME]


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MiB" if count >= MEBIBYTE else f"{count:,} bytes"


#: Level 1 of zlib: a radiograph hardly gets smaller at higher ones, and the page waits for it.
_QUICK = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def png_of(gray: np.ndarray) -> bytes:
    """A PNG of gray levels.

    Args:
        gray: uint8 (height, width).
    """
    return cv2.imencode(".png", gray, _QUICK)[1].tobytes()


def png_of_heatmap(heatmap: np.ndarray) -> bytes:
    """A PNG whose gray levels 0 to 255 are a heatmap's 0 to 1.

    Args:
        heatmap: float (height, width), 0..1.
    """
    return png_of(np.rint(np.clip(np.nan_to_num(heatmap), 0, 1) * 255).astype(np.uint8))


def data_uri(png: bytes) -> str:
    """Such as `data:image/png;base64,…`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def scaled_shape(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) in the same proportions, the longer side at most so long.

    >>> scaled_shape((2000, 1000), 512)
    (512, 256)
    """
    scale = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
