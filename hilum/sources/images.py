"""From an image file to 8-bit gray pixels, with nothing unreadable passed on."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from hilum.errors import HilumError

_PNG_SIGNATURE, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_SIGNATURE, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_gray(path: str | Path) -> np.ndarray:
    """Decodes a PNG or JPEG into gray levels.

    Color is weighted to luma (ITU-R BT.601) and an alpha channel is ignored. 16-bit samples are
    scaled by their full range, 65535 to 255, as the PNG specification scales sample depths.

    Returns:
        uint8 array of shape (height, width).

    Raises:
        HilumError: the file is missing, unreadable, truncated, or no PNG or JPEG; it is named.
    """
    data = _read_bytes(path)
    _refuse_truncated(data, path)
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise HilumError(
            f"{path}: the image cannot be decoded; the file is damaged. Restore it from the data set."
        )
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] < 3 else cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    return pixels


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise HilumError(
            f"{path}: the image is missing. Check that root is the data set's own folder and that its "
            "download is complete."
        ) from None
    except OSError as error:
        raise HilumError(f"{path}: the image cannot be read: {error.strerror}.") from None


def _refuse_truncated(data: bytes, path: str | Path) -> None:
    """OpenCV fills what is missing of a truncated file with gray, so the end mark is looked for first."""
    if data.startswith(_PNG_SIGNATURE):
        end = _PNG_END
    elif data.startswith(_JPEG_SIGNATURE):
        end = _JPEG_END
    else:
        kind = "empty" if not data else "neither a PNG nor a JPEG"
        raise HilumError(f"{path}: the file is {kind}. Restore it from the data set.")
    if end not in data[-512:]:  # some writers pad the file after its end mark
        raise HilumError(
            f"{path}: the image is truncated ({len(data):,} bytes without an end mark). "
            "Restore it from the data set."
        )


def check_images(paths: Iterable[str], progress: Callable[[], None] | None = None) -> None:
    """Decodes every image once.

    Raises:
        HilumError: some cannot be read; the message has their number and names the first ten.
    """

    def problem_of(path: str) -> str | None:
        try:
            read_gray(path)
        except HilumError as error:
            return str(error)
        return None

    problems = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for problem in pool.map(problem_of, paths):
            if problem:
                problems.append(problem)
            if progress:
                progress()
    if problems:
        more = f"\n  … and {len(problems) - 10:,} more" if len(problems) > 10 else ""
        raise HilumError(
            f"{len(problems):,} image(s) cannot be used:\n  " + "\n  ".join(problems[:10]) + more
        )
