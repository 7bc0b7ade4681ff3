"""Gray levels as PNG."""

import base64

import cv2
import numpy as np

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
