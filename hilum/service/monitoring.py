"""What Prometheus is told: counts and times, nothing of any image."""

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ServiceMetrics:
    """The measures of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "hilum_requests", "Requests answered.", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "hilum_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["endpoint"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.images = Counter(
            "hilum_images",
            "Images: read, refused by the reader, or unusable.",
            ["outcome"],
            registry=self.registry,
        )
        self.batch = Histogram(
            "hilum_batch_images",
            "Images that the model was given at once.",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.in_work = Gauge(
            "hilum_requests_in_work", "Requests admitted and not yet answered.", registry=self.registry
        )
        for outcome in ("read", "refused", "unusable"):
            self.images.labels(outcome)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware: counts and times requests.

    Args:
        app: what is measured.
        metrics: told of each request.
    """

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics):
        self.app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on, and looks at the status on the way back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_measured)
        finally:
            # The route, not the address: that may hold names, and there may be any number of them.
            endpoint = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - began)
