"""Who may ask, and the headers of every answer.

A service on the loopback address can still be reached by any web page that its user opens: by a form or a
script that posts to it, or under a name of the attacker's that comes to point at 127.0.0.1 (DNS rebinding). So
the request must name a loopback host, and must not come from another site's page.
"""

import hmac
import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.inference.image import Limits
from hilum.service.errors import error_body

#: What the pages may load: only what the service itself serves, and pictures that the page makes.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

#: What needs the token: all that is computed or kept. The pages themselves are empty without it.
GUARDED = ("/v1/", "/metrics")

logger = logging.getLogger("hilum.service")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host by this name or address.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware, the outermost: nothing passes by it, and no failure either.

    Args:
        app: what it guards.
        token: to be sent as `Authorization: Bearer <token>`; None asks for none.
        loopback_only: the service is bound to a loopback address, so only such hosts are answered.
    """

    def __init__(self, app: ASGIApp, token: str | None, loopback_only: bool):
        self.app = app
        self._token = None if token is None else token.encode()
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes on; each answer gets its headers."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        try:
            await (refusal or self.app)(scope, receive, send_guarded)
        except Exception as error:
            # Its text may hold what was uploaded, so only its kind and place are told.
            logger.error("%s at %s", type(error).__name__, _place(error))
            if not begun:
                body = error_body("internal", "The service has failed at this; its log says where.")
                await JSONResponse(body, 500)(scope, receive, send_guarded)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._loopback_only and not is_loopback(_name_of(host)):
            return _refused(
                403, "host", "This service answers only to localhost and 127.0.0.1: open it by that name."
            )
        if path.startswith(GUARDED):
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
            if foreign or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
                return _refused(403, "origin", "Another site's page may not use this service.")
            if not self._authorized(headers.get("authorization", "")):
                refused = _refused(401, "token", "Send the service's token: Authorization: Bearer <token>.")
                refused.headers["WWW-Authenticate"] = "Bearer"
                return refused
        return None

    def _authorized(self, given: str) -> bool:
        if self._token is None:
            return True
        scheme, _, token = given.partition(" ")
        # Header values are Latin-1; a token beyond ASCII arrives as its UTF-8 bytes.
        sent = token.strip().encode("latin-1", "replace")
        return hmac.compare_digest(sent, self._token) and scheme.lower() == "bearer"


def _refused(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(error_body(code, message), status)


def _name_of(host: str) -> str:
    """A Host header without its port: `[::1]:8000` is `[::1]`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(error: BaseException) -> str:
    """Such as `batching.py:61`: where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class ServiceLimits(Limits):
    """What a request, and all requests together, may take.

    Those of one file are `hilum.inference.image.Limits`.

    Attributes:
        body_bytes: of one request.
        upload_bytes: of all requests that are in memory at the same time.
        requests: that are worked on at the same time. The next is answered 503 before its body is read. It
            bounds the wait: whoever is admitted has at most so many before it.
        images: decoded and in memory at the same time.
        batch: images that the model is given at once.
        seconds: for an answer, from the first byte of the request on.
    """

    body_bytes: int = 256 * MEBIBYTE
    upload_bytes: int = 512 * MEBIBYTE
    requests: int = 6
    images: int = 16
    batch: int = 8
    seconds: float = 30.0

    def as_record(self) -> dict[str, float]:
        """What a client should know before it sends anything."""
        return {
            "file_bytes": self.file_bytes,
            "pixels": self.pixels,
            "files": self.files,
            "body_bytes": self.body_bytes,
            "seconds": self.seconds,
        }
