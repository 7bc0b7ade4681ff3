"""What every request passes: who may ask, the headers of every answer, and the counts for Prometheus.

Any web page that the user opens can reach a service on the loopback address: by a form or a script that posts to it,
or under a name of the attacker that resolves to 127.0.0.1 (DNS rebinding). So the request must name a loopback host,
and must not be from the page of another site.
"""

import hmac
import ipaddress
import logging
import time
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import prometheus_client as prometheus
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.service._errors import FAILURE, error_json

#: What the pages may load: files of the service itself, and pictures that the page makes.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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

#: Paths that need the token: all that is computed or stored. The pages are empty without it.
PROTECTED = ("/v1/", "/metrics")

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


class SecurityMiddleware:
    """The outermost middleware: it checks every request, and adds headers to every answer.

    Args:
        app: what it protects.
        token: must be sent as `Authorization: Bearer <token>`; None needs none.
        loopback_only: the service is bound to a loopback address, so only such hosts are answered.
    """

    def __init__(self, app: ASGIApp, token: str | None, loopback_only: bool):
        self.app = app
        self._token = None if token is None else token.encode()
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses the request, or passes it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        try:
            await (refusal or self.app)(scope, receive, send_with_headers)
        except Exception as error:
            # Its message may hold what was uploaded, so only its type and place are logged.
            logger.error("%s at %s", type(error).__name__, _place(error))
            if not started:
                await error_json(500, "internal", FAILURE)(scope, receive, send_with_headers)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._loopback_only and not is_loopback(_host_name(host)):
            message = "This service answers only to localhost and 127.0.0.1: use one of these names."
            return error_json(403, "host", message)
        if path.startswith(PROTECTED):
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
            if foreign or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
                return error_json(403, "origin", "The page of another site may not use this service.")
            if not self._is_authorized(headers.get("authorization", "")):
                message = "Send the service's token: Authorization: Bearer <token>."
                return error_json(401, "token", message, headers={"WWW-Authenticate": "Bearer"})
        return None

    def _is_authorized(self, authorization: str) -> bool:
        if self._token is None:
            return True
        scheme, _, token = authorization.partition(" ")
        # Header values are Latin-1; a token outside ASCII arrives as its UTF-8 bytes.
        sent = token.strip().encode("latin-1", "replace")
        return hmac.compare_digest(sent, self._token) and scheme.lower() == "bearer"


def _host_name(host: str) -> str:
    """A Host header without its port: `[::1]:8000` is `::1`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(error: BaseException) -> str:
    """Where it was raised, such as `model_pool.py:61`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


class ServiceMetrics:
    """Counts and times for Prometheus, without anything about an image, in a registry per service."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        prometheus.PlatformCollector(registry=self.registry)
        counter = partial(prometheus.Counter, registry=self.registry)
        histogram = partial(prometheus.Histogram, registry=self.registry)
        self.requests = counter("hilum_requests", "Requests answered.", ["endpoint", "status"])
        self.seconds = histogram(
            "hilum_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["endpoint"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        help_text = "Images: read, refused by a quality check, or unusable."
        self.images = counter("hilum_images", help_text, ["outcome"])
        help_text, sizes = "Images in a batch of the model.", (1, 2, 4, 8, 16)
        self.batch = histogram("hilum_batch_images", help_text, buckets=sizes)
        help_text = "Requests admitted and not yet answered."
        self.open_requests = prometheus.Gauge("hilum_requests_in_work", help_text, registry=self.registry)
        for outcome in ("read", "refused", "unusable"):
            self.images.labels(outcome)

    def as_text(self) -> bytes:
        """In Prometheus's text format."""
        return prometheus.generate_latest(self.registry)


class MetricsMiddleware:
    """Counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics):
        self.app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and records the status of its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_record)
        finally:
            # The route, not the address: addresses may hold names, and there may be any number of them.
            endpoint = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - start)
