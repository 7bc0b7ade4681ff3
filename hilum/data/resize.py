"""From an image of any size to the size of a run."""

from typing import Literal, get_args

import cv2
import numpy as np

from hilum.errors import HilumError, nearest

#: How an image of another shape is fitted: all of it distorted, all of it within black bars, or its centre.
Fit = Literal["stretch", "letterbox", "crop"]
#: "area" averages the pixels under each new one when an image shrinks, and is bilinear when it grows.
#: "auto" does so from half the size on; above, bilinear samples miss no pixel and take a third of the time.
Interpolation = Literal["auto", "area", "linear", "cubic", "nearest"]

_FLAGS = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST,
}


def resize(
    pixels: np.ndarray,
    width: int,
    height: int,
    fit: Fit = "stretch",
    interpolation: Interpolation = "auto",
) -> np.ndarray:
    """An image at another size; the same array if it has that size already.

    Args:
        pixels: uint8 (rows, columns).
        width: pixels, 1 or more.
        height: pixels, 1 or more.
        fit: `"stretch"` takes width and height each by itself; `"letterbox"` keeps the proportions
            and fills what is left, on both sides alike, with black; `"crop"` keeps the proportions and
            cuts from the longer side, at both ends alike.
        interpolation: `"auto"`, `"area"`, `"linear"`, `"cubic"` or `"nearest"`.

    Returns:
        uint8 (height, width).

    Raises:
        HilumError: an unknown fit or interpolation.
    """
    check_fit(fit, interpolation)
    if pixels.shape == (height, width):
        return pixels
    if fit == "crop":
        pixels = _center(pixels, width / height)
    if fit == "letterbox":
        return _letterbox(pixels, width, height, interpolation)
    return _stretch(pixels, width, height, interpolation)


def check_fit(fit: str, interpolation: str) -> None:
    """Refuses a fit or an interpolation that `resize` does not know."""
    for setting, value, known in (
        ("fit", fit, get_args(Fit)),
        ("interpolation", interpolation, get_args(Interpolation)),
    ):
        if value not in known:
            hint = nearest(str(value), known)
            raise HilumError(f"{setting} is {value!r}.{hint} It may be {', '.join(known)}.")


def _stretch(pixels: np.ndarray, width: int, height: int, interpolation: str) -> np.ndarray:
    if pixels.shape == (height, width):
        return pixels
    return cv2.resize(
        pixels, (width, height), interpolation=_flag(interpolation, pixels.shape, height, width)
    )


def _flag(interpolation: str, shape: tuple[int, int], height: int, width: int) -> int:
    if interpolation not in {"auto", "area"}:
        return _FLAGS[interpolation]
    grows = shape[0] < height or shape[1] < width  # OpenCV's area mode then repeats pixels
    shrinks_a_lot = shape[0] >= 2 * height or shape[1] >= 2 * width
    return cv2.INTER_LINEAR if grows or (interpolation == "auto" and not shrinks_a_lot) else cv2.INTER_AREA


def crop_place(shape: tuple[int, int], proportion: float) -> tuple[int, int, int, int]:
    """The largest part of a shape with this ratio of width to height, from the middle: top, left, rows, columns."""
    rows, columns = shape
    kept_rows = max(1, min(rows, round(columns / proportion)))
    kept_columns = max(1, min(columns, round(rows * proportion)))
    return (rows - kept_rows) // 2, (columns - kept_columns) // 2, kept_rows, kept_columns


def letterbox_place(shape: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Where an image of a shape lies in its letterbox: top, left, height and width within the bars."""
    rows, columns = shape
    scale = min(width / columns, height / rows)
    inner_width = min(width, max(1, round(columns * scale)))
    inner_height = min(height, max(1, round(rows * scale)))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def _center(pixels: np.ndarray, proportion: float) -> np.ndarray:
    top, left, rows, columns = crop_place(pixels.shape, proportion)
    return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])


def _letterbox(pixels: np.ndarray, width: int, height: int, interpolation: str) -> np.ndarray:
    top, left, inner_height, inner_width = letterbox_place(pixels.shape, width, height)
    boxed = np.zeros((height, width), dtype=np.uint8)
    boxed[top : top + inner_height, left : left + inner_width] = _stretch(
        pixels, inner_width, inner_height, interpolation
    )
    return boxed
