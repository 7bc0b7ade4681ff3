"""The bytes of an image file, whatever its format."""

from pathlib import Path

from hilum.errors import ImageError


def read_bytes(path: str | Path) -> bytes:
    """An image file's content.

    Raises:
        ImageError: it is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(
            "missing",
            f"{path}: the image is missing.",
            "Check that root is the data set's own folder and that its download is complete.",
        ) from None
    except OSError as error:
        raise ImageError("unreadable", f"{path}: the image cannot be read: {error.strerror}.") from None
