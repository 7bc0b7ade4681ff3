"""How the training images of a model look, in a few numbers, and how far another image is from that."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hilum.data.resize import resize


def measure_reference(images: Iterable[np.ndarray], preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The reference of `hilum.reading.refusal`, as JSON values.

    Args:
        images: uint8 (rows, columns) each, as decoded.
        preprocessing: of the model's card: `width`, `height`, `fit`, `interpolation`.
    """
    rows = [
        statistics_of(
            resize(
                pixels,
                preprocessing["width"],
                preprocessing["height"],
                preprocessing["fit"],
                preprocessing["interpolation"],
            )
        )
        for pixels in images
    ]
    names = list(rows[0])
    table = np.array([[row[name] for name in names] for row in rows])
    return {
        "images": len(rows),
        "quantiles": {
            name: np.quantile(table[:, column], (0.005, 0.5, 0.995)).tolist()
            for column, name in enumerate(names)
        },
    }


def statistics_of(prepared: np.ndarray) -> dict[str, float]:
    """What is measured of an image at the model's size, uint8 (height, width); gray levels 0 to 255."""
    low, middle, high = np.percentile(prepared, (5, 50, 95))
    return {
        "mean": float(prepared.mean()),
        "sd": float(prepared.std()),
        "low": float(low),
        "middle": float(middle),
        "high": float(high),
    }
