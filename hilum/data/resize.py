"""From an image of any size to the size of a run."""

from typing import Literal, get_args

import cv2
import numpy as np

from hilum.errors import HilumError, nearest

#: How an image of other proportions is fitted: distorted, within black bars, or cut to its center.
Fit = Literal["stretch", "letterbox", "crop"]
#: "area" averages the pixels under each new one when an image shrinks, and is bilinear when it grows.
#: "auto" is "area" for a reduction by two or more, else bilinear: it misses no pixel and is three times as fast.
Interpolation = Literal["auto", "area", "linear", "cubic", "nearest"]

_FLAGS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}


def resize(
    pixels: np.ndarray,
    width: int,
    height: int,
    fit: Fit = "stretch",
    interpolation: Interpolation = "auto",
) -> np.ndarray:
    """An image at another size, uint8 (height, width); the same array if it has that size already.

    Args:
        pixels: uint8 (rows, columns).
        width: pixels, 1 or more.
        height: pixels, 1 or more.
        fit: `"stretch"` scales width and height independently; `"letterbox"` keeps the proportions and fills the rest,
            on both sides equally, with black; `"crop"` keeps them and cuts the longer side, at both ends equally.
        interpolation: `"auto"`, `"area"`, `"linear"`, `"cubic"` or `"nearest"`.

    Raises:
        HilumError: an unknown fit or interpolation.
    """
    check_fit(fit, interpolation)
    if pixels.shape == (height, width):
        return pixels
    shape = pixels.shape[0], pixels.shape[1]
    if fit == "letterbox":
        top, left, inner_height, inner_width = letterbox_place(shape, width, height)
        boxed = np.zeros((height, width), dtype=np.uint8)
        boxed[top : top + inner_height, left : left + inner_width] = _stretch(
            pixels, inner_width, inner_height, interpolation
        )
        return boxed
    if fit == "crop":
        top, left, rows, columns = crop_place(shape, width / height)
        pixels = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return _stretch(pixels, width, height, interpolation)


def check_fit(fit: str, interpolation: str) -> None:
    """Raises HilumError for a fit or an interpolation that `resize` does not know."""
    for setting, value, known in (
        ("fit", fit, get_args(Fit)),
        ("interpolation", interpolation, get_args(Interpolation)),
    ):
        if value not in known:
            hint = nearest(str(value), known)
            raise HilumError(f"{setting} is {value!r}.{hint} It may be {', '.join(known)}.")


def crop_place(shape: tuple[int, int], proportion: float) -> tuple[int, int, int, int]:
    """The largest part of a shape with this ratio of width to height, from the middle: top, left, rows, columns."""
    rows, columns = shape
    kept_rows = max(1, min(rows, round(columns / proportion)))
    kept_columns = max(1, min(columns, round(rows * proportion)))
    return (rows - kept_rows) // 2, (columns - kept_columns) // 2, kept_rows, kept_columns


def letterbox_place(shape: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The place of an image of a shape in its letterbox: top, left, height and width within the bars."""
    rows, columns = shape
    scale = min(width / columns, height / rows)
    inner_width = min(width, max(1, round(columns * scale)))
    inner_height = min(height, max(1, round(rows * scale)))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def _stretch(pixels: np.ndarray, width: int, height: int, interpolation: str) -> np.ndarray:
    rows, columns = pixels.shape
    if (rows, columns) == (height, width):
        return pixels
    if interpolation in _FLAGS:
        flag = _FLAGS[interpolation]
    else:
        grows = rows < height or columns < width  # OpenCV's area mode then repeats pixels
        halves = rows >= 2 * height or columns >= 2 * width
        flag = cv2.INTER_LINEAR if grows or (interpolation == "auto" and not halves) else cv2.INTER_AREA
    return cv2.resize(pixels, (width, height), interpolation=flag)
