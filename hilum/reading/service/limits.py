"""How much the service takes on."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class ServiceLimits:
    """What a request, and all requests together, may take.

    A detector gives 10 to 20 megapixels at 16 bits, so a file is at most some 40 MiB.

    Attributes:
        file_bytes: of one file.
        pixels: of one image, read from its header before anything is decoded.
        files: in one request.
        body_bytes: of one request.
        upload_bytes: of all requests that are in memory at the same time.
        requests: that are worked on at the same time. The next is answered 503 before its body is read. It
            bounds the wait: whoever is admitted has at most so many before it.
        images: decoded and in memory at the same time.
        batch: images that the model is given at once.
        seconds: for an answer, from the first byte of the request on.
    """

    file_bytes: int = 64 * MEBIBYTE
    pixels: int = 40_000_000
    files: int = 16
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
