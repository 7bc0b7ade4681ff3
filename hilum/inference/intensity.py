"""How the training images of a model look, in a few numbers, and how another image compares.

Two things are kept: the range of some statistics of gray levels, and the mean image, coarse and free of brightness
and contrast. An image's correlation with the mean image says whether it is a frontal chest the right way round: it
is near 0 for a chest on its side, and the very negative of itself for an inverted one.
"""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from hilum.data.resize import resize

#: The mean image is of so many pixels a side: lungs, heart and diaphragm, and nothing of a patient.
_SIDE = 16

#: The lowest 0.5 %, the middle, and the highest 0.5 % of the training images.
QUANTILES = (0.005, 0.5, 0.995)


def measure_reference(images: Iterable[np.ndarray], preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The reference of a model, as JSON values.

    Args:
        images: uint8 (rows, columns) each, as decoded; one or more.
        preprocessing: of the model's card: `width`, `height`, `fit`, `interpolation`.

    Returns:
        `images` (their number), `mean_image` (16 lists of 16 numbers), `quantiles` (statistic -> its `QUANTILES`).
    """
    wanted = (preprocessing[name] for name in ("width", "height", "fit", "interpolation"))
    width, height, fit, interpolation = wanted
    prepared = [resize(pixels, width, height, fit, interpolation) for pixels in images]
    mean_image = np.mean([_coarse(pixels) for pixels in prepared], axis=0)
    rows = [
        gray_statistics(pixels) | {"likeness": likeness(pixels, mean_image.tolist())} for pixels in prepared
    ]
    return {
        "images": len(rows),
        "mean_image": np.round(mean_image, 5).tolist(),
        "quantiles": {name: np.quantile([row[name] for row in rows], QUANTILES).tolist() for name in rows[0]},
    }


def gray_statistics(prepared: np.ndarray) -> dict[str, float]:
    """What is measured of an image at the model's size, uint8 (height, width); gray levels 0 to 255."""
    low, middle, high = np.percentile(prepared, (5, 50, 95))
    return {
        "mean": float(prepared.mean()),
        "sd": float(prepared.std()),
        "low": float(low),
        "middle": float(middle),
        "high": float(high),
        "detail": float(np.abs(np.diff(prepared.astype(np.float32), axis=1)).mean()),
    }


def likeness(prepared: np.ndarray, mean_image: list[list[float]]) -> float:
    """The correlation of an image with the mean training image, -1 to 1; 0 for a blank one."""
    mean = np.asarray(mean_image)
    norm = float(np.linalg.norm(mean))
    return float((_coarse(prepared) * mean).sum() / norm) if norm else 0.0


def average_film(prepared: np.ndarray, mean_image: list[list[float]]) -> np.ndarray:
    """The mean training image in the size, brightness and contrast of an image.

    Args:
        prepared: uint8 (height, width).
        mean_image: of the reference.

    Returns:
        float32 (height, width), 0 to 255.
    """
    height, width = prepared.shape
    mean = cv2.resize(np.asarray(mean_image, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    spread = float(mean.std())
    scale = float(prepared.std()) / spread if spread > 0 else 0.0
    return np.clip((mean - mean.mean()) * scale + prepared.mean(), 0, 255).astype(np.float32)


def turned_likeness(prepared: np.ndarray, mean_image: list[list[float]]) -> float:
    """The highest `likeness` of the image on either side or upside down."""
    coarse = cv2.resize(prepared, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return max(likeness(np.rot90(coarse, turns), mean_image) for turns in (1, 2, 3))


def _coarse(prepared: np.ndarray) -> np.ndarray:
    """16 x 16, of mean 0 and norm 1; all 0 for a blank image."""
    small = cv2.resize(np.ascontiguousarray(prepared), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float64)
    small -= small.mean()
    norm = np.linalg.norm(small)
    return small / norm if norm > 1e-9 else small
