"""What a model was not made for is refused or flagged, never scored silently."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Flag:
    """One reason for doubt about one image.

    Attributes:
        code: for programs.
        words: a sentence for people.
        refused: whether the image is not scored at all.
    """

    code: str
    words: str
    refused: bool


def flags_of(
    pixels: np.ndarray,
    prepared: np.ndarray,
    view: str | None,
    about: dict[str, Any],
    preprocessing: dict[str, Any],
) -> tuple[Flag, ...]:
    """Every reason for doubt, those that refuse first.

    Args:
        pixels: uint8 (rows, columns), as decoded.
        prepared: uint8 (height, width), at the model's size.
        view: "PA", "AP", "lateral" or None.
        about: `colour` (0..1), or `modality` and `body_part` of a DICOM; what is unknown may be left out.
        preprocessing: of the model's card.
    """
    found = [
        _view(view, preprocessing.get("views") or {}),
        _too_small(pixels, preprocessing),
        _blank(prepared),
    ]
    flags = [flag for flag in found if flag is not None]
    return tuple(sorted(flags, key=lambda flag: not flag.refused))


def _view(view: str | None, trained: dict[str, int]) -> Flag | None:
    if view == "lateral":
        return Flag("lateral", "This is a lateral view; the model has only seen frontal ones.", True)
    if view is None:
        return Flag(
            "unknown-view", "The file does not say its view; the model has only seen PA and AP.", False
        )
    return None


def _too_small(pixels: np.ndarray, preprocessing: dict[str, Any]) -> Flag | None:
    wanted = min(preprocessing["width"], preprocessing["height"])
    if min(pixels.shape) >= wanted / 2:
        return None
    rows, columns = pixels.shape
    return Flag(
        "too-small",
        f"The image is {columns} x {rows} pixels; its shorter side should have at least {wanted // 2}.",
        True,
    )


def _blank(prepared: np.ndarray) -> Flag | None:
    if float(prepared.std()) >= 4:
        return None
    return Flag("blank", "The image is nearly of one gray level.", True)
