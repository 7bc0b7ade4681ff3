"""What a model was not made for is refused or flagged, never scored silently.

How often each check is wrong was measured on 866 real frontal radiographs: see docs/reading.md. A lateral view is
known by what the file says of it; from its pixels it cannot be told honestly, only found unlike the training images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.inference.intensity import gray_statistics, likeness, turned_likeness


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


#: Below this deviation of gray levels (of 255) there is nothing to see.
_BLANK_SD = 4.0

#: An image this unlike the mean training image is its negative.
_INVERTED = -0.12

#: So much more like the mean training image an image must become by turning it.
_TURNED = 0.3

#: How far out of the training images' range an image must lie, as a share of the way from its end to the middle.
_BEYOND = 0.25

#: Mean distance of a pixel's colours, 0..1: more than compression makes, and more than any marks on a radiograph.
_SOME_COLOUR, _MUCH_COLOUR = 0.01, 0.1

#: DICOM's names of projection radiography, of what is scanned or captured, and of what is not said.
_RADIOGRAPHS = {"CR", "DX", "DR", "RG", "RF", "PX", "XR", "XA", "OT", "SC", ""}

_STATISTICS = {
    "mean": "mean gray level",
    "sd": "contrast",
    "low": "darkest part",
    "middle": "median gray level",
    "high": "brightest part",
    "detail": "difference of neighbouring pixels",
}


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
    flags = [
        *_of_header(about),
        *_of_view(view, preprocessing.get("views") or {}),
        *_of_shape(pixels, preprocessing),
        *_of_colour(about.get("colour", 0.0)),
        *_of_gray_levels(prepared, preprocessing.get("reference")),
    ]
    return tuple(sorted(flags, key=lambda flag: not flag.refused))


def _of_header(about: dict[str, Any]) -> list[Flag]:
    flags = []
    modality, part = about.get("modality", ""), about.get("body_part", "")
    if modality not in _RADIOGRAPHS:
        flags.append(
            Flag("modality", f"The DICOM says modality {modality[:16]}; the model reads radiographs.", True)
        )
    if part and not any(word in part for word in ("CHEST", "THORAX", "LUNG")):
        flags.append(Flag("body-part", f"The DICOM says body part {part[:16]}, not chest.", False))
    return flags


def _of_view(view: str | None, trained: dict[str, int]) -> list[Flag]:
    seen = " and ".join(name for name, count in trained.items() if count) or "frontal views"
    if view == "lateral":
        return [Flag("lateral", f"This is a lateral view; the model has only seen {seen}.", True)]
    if view is None:
        return [
            Flag("unknown-view", f"The file does not say its view; the model has only seen {seen}.", False)
        ]
    if trained and not trained.get(view):
        return [Flag("other-view", f"This is a view {view}; the model has only seen {seen}.", False)]
    return []


def _of_shape(pixels: np.ndarray, preprocessing: dict[str, Any]) -> list[Flag]:
    rows, columns = pixels.shape
    wanted = min(preprocessing["width"], preprocessing["height"]) // 2
    if min(rows, columns) < wanted:
        words = f"The image is {columns} x {rows} pixels; its shorter side should have at least {wanted}."
        return [Flag("too-small", words, True)]
    flags = []
    width, height = preprocessing["width"], preprocessing["height"]
    # A letterbox is enlarged until one side fits, the other ways until both do.
    sides = all if preprocessing["fit"] == "letterbox" else any
    if sides((columns < width, rows < height)):
        words = f"The image is {columns} x {rows} pixels, smaller than the model's size ({width} x {height}); enlarged."
        flags.append(Flag("small", words, False))
    if max(rows, columns) > 2 * min(rows, columns):
        words = f"The image is {columns} x {rows} pixels, longer than a chest radiograph is."
        flags.append(Flag("shape", words, False))
    return flags


def _of_colour(colour: float) -> list[Flag]:
    if colour > _MUCH_COLOUR:
        return [Flag("colour", "This is a colour picture; a radiograph is gray.", True)]
    if colour > _SOME_COLOUR:
        return [Flag("colour", "The image has coloured parts; they are read as gray.", False)]
    return []


def _of_gray_levels(prepared: np.ndarray, reference: dict[str, Any] | None) -> list[Flag]:
    if float(prepared.std()) < _BLANK_SD:
        return [Flag("blank", "The image is nearly of one gray level.", True)]
    if reference is None:
        return []
    like = likeness(prepared, reference["mean_image"])
    turned = turned_likeness(prepared, reference["mean_image"])
    if like < _INVERTED and -like > turned:
        words = "The image is a negative of those that the model has seen: air must be dark, bone bright."
        return [Flag("inverted", words, True)]
    if turned > like + _TURNED:
        return [Flag("turned", "The image seems to lie on its side or to be upside down.", False)]
    flags = []
    if like < _lowest(reference["quantiles"]["likeness"]):
        words = "The image does not look like the training's: another view, another part, or much cut off."
        flags.append(Flag("unlike", words, False))
    statistics = gray_statistics(prepared)
    for name, words in _STATISTICS.items():
        low, middle, high = reference["quantiles"][name]
        value = statistics[name]
        if not _lowest((low, middle, high)) <= value <= -_lowest((-high, -middle, -low)):
            words = f"Its {words} is {value:.3g} of 255; of the training images 99 % lie from {low:.3g} to {high:.3g}."
            flags.append(Flag("gray-levels", words, False))
            break
    return flags


def _lowest(quantiles: tuple[float, float, float]) -> float:
    low, middle, _ = quantiles
    return low - _BEYOND * (middle - low)
