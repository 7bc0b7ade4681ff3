"""Quality checks: an image that the model was not made for is refused or flagged, never scored silently.

How often each check is wrong was measured on 866 real frontal radiographs: see docs/reading.md. A lateral view is
recognized by what the file states: its pixels only show that it is unlike the training images.

A model's reference describes the gray levels of its training images: the range of some statistics, and the mean
image, coarse and without brightness and contrast. The correlation of an image with the mean image shows whether it
is a frontal chest the right way up: about 0 for a chest on its side, negative for an inverted one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from hilum.data.resize import resize

#: Below this standard deviation of gray levels (of 255) an image is blank.
_BLANK_SD = 4.0

#: An image whose correlation with the mean training image is lower is its negative.
_INVERTED = -0.12

#: An image whose correlation rises by more than this when it is turned is on its side or upside down.
_TURNED = 0.3

#: Distance outside the training images' range that is flagged, as a share of that from its end to the median.
_BEYOND = 0.25

#: Mean distance of a pixel's colours, 0..1: more than compression makes, and more than any marks on a radiograph.
_SOME_COLOUR, _MUCH_COLOUR = 0.01, 0.1

#: DICOM's names of projection radiography, of scanned or captured images, and of unknown modalities.
_RADIOGRAPHS = {"CR", "DX", "DR", "RG", "RF", "PX", "XR", "XA", "OT", "SC", ""}

#: Side of the mean image in pixels: lungs, heart and diaphragm, and nothing of a patient.
_SIDE = 16

#: The lowest 0.5 %, the median, and the highest 0.5 % of the training images.
QUANTILES = (0.005, 0.5, 0.995)

_STATISTICS = {
    "mean": "mean gray level",
    "sd": "contrast",
    "low": "darkest part",
    "middle": "median gray level",
    "high": "brightest part",
    "detail": "difference of neighbouring pixels",
}


def about(text: str) -> dict[str, str]:
    """The metadata of a dataclass field, from which pydantic makes its description in OpenAPI."""
    return {"description": text}


@dataclass(frozen=True)
class Flag:
    """A quality check that an image failed."""

    code: str = field(metadata=about("for programs"))
    message: str = field(metadata=about("for people"))
    refused: bool = field(metadata=about("whether the image is not scored at all"))


def check_quality(
    pixels: np.ndarray,
    model_input: np.ndarray,
    view: str | None,
    header: dict[str, Any],
    preprocessing: dict[str, Any],
) -> tuple[Flag, ...]:
    """The flags of an image, those that refuse it first.

    Args:
        pixels: uint8 (rows, columns), as decoded.
        model_input: uint8 (height, width), at the model's size.
        view: "PA", "AP", "lateral" or None.
        header: `colour` (0..1), or `modality` and `body_part` of a DICOM; unknown ones may be missing.
        preprocessing: of the model's metadata.
    """
    flags = [
        *_check_header(header),
        *_check_view(view, preprocessing.get("views") or {}),
        *_check_shape(pixels, preprocessing),
        *_check_colour(header.get("colour", 0.0)),
        *_check_gray_levels(model_input, preprocessing.get("reference")),
    ]
    return tuple(sorted(flags, key=lambda flag: not flag.refused))


def _check_header(header: dict[str, Any]) -> list[Flag]:
    flags = []
    modality, part = header.get("modality", ""), header.get("body_part", "")
    if modality not in _RADIOGRAPHS:
        message = f"The DICOM's modality is {modality[:16]}; the model reads radiographs."
        flags.append(Flag("modality", message, True))
    if part and not any(name in part for name in ("CHEST", "THORAX", "LUNG")):
        flags.append(Flag("body-part", f"The DICOM's body part is {part[:16]}, not chest.", False))
    return flags


def _check_view(view: str | None, training_views: dict[str, int]) -> list[Flag]:
    trained = " and ".join(name for name, count in training_views.items() if count) or "frontal views"
    the_model = f"the model was trained on {trained}"
    if view == "lateral":
        return [Flag("lateral", f"This is a lateral view; {the_model}.", True)]
    if view is None:
        return [Flag("unknown-view", f"The file does not state its view; {the_model}.", False)]
    if training_views and not training_views.get(view):
        return [Flag("other-view", f"This is a {view} view; {the_model}.", False)]
    return []


def _check_shape(pixels: np.ndarray, preprocessing: dict[str, Any]) -> list[Flag]:
    rows, columns = pixels.shape
    width, height = preprocessing["width"], preprocessing["height"]
    size = f"The image is {columns} x {rows} pixels"
    least = min(width, height) // 2
    if min(rows, columns) < least:
        return [Flag("too-small", f"{size}; its shorter side should have at least {least}.", True)]
    flags = []
    # A letterbox is enlarged until one side fits, the others until both do.
    sides = all if preprocessing["fit"] == "letterbox" else any
    if sides((columns < width, rows < height)):
        message = f"{size}, smaller than the model's size ({width} x {height}); enlarged."
        flags.append(Flag("small", message, False))
    if max(rows, columns) > 2 * min(rows, columns):
        flags.append(Flag("shape", f"{size}, longer than a chest radiograph is.", False))
    return flags


def _check_colour(colour: float) -> list[Flag]:
    if colour > _MUCH_COLOUR:
        return [Flag("colour", "This is a colour picture; a radiograph is gray.", True)]
    if colour > _SOME_COLOUR:
        return [Flag("colour", "The image has coloured parts; they are read as gray.", False)]
    return []


def _check_gray_levels(model_input: np.ndarray, reference: dict[str, Any] | None) -> list[Flag]:
    if float(model_input.std()) < _BLANK_SD:
        return [Flag("blank", "The image has almost only one gray level.", True)]
    if reference is None:
        return []
    upright = likeness(model_input, reference["mean_image"])
    coarse = cv2.resize(model_input, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    turned = max(likeness(np.rot90(coarse, turns), reference["mean_image"]) for turns in (1, 2, 3))
    if upright < _INVERTED and -upright > turned:
        message = "The image is a negative of the training images: air must be dark, bone bright."
        return [Flag("inverted", message, True)]
    if turned > upright + _TURNED:
        return [Flag("turned", "The image seems to be on its side or upside down.", False)]
    flags = []
    if upright < _lowest(reference["quantiles"]["likeness"]):
        message = "The image does not look like the training images"
        flags.append(Flag("unlike", f"{message}: another view or body part, or much cut off.", False))
    for name, value in gray_statistics(model_input).items():
        low, middle, high = reference["quantiles"][name]
        if not _lowest((low, middle, high)) <= value <= -_lowest((-high, -middle, -low)):
            training = f"99 % of the training images have {low:.3g} to {high:.3g}"
            message = f"Its {_STATISTICS[name]} is {value:.3g} of 255; {training}."
            flags.append(Flag("gray-levels", message, False))
            break
    return flags


def _lowest(quantiles: tuple[float, float, float]) -> float:
    low, middle, _ = quantiles
    return low - _BEYOND * (middle - low)


def resize_to_model(pixels: np.ndarray, preprocessing: dict[str, Any]) -> np.ndarray:
    """uint8 (rows, columns) to uint8 (height, width), as the model's metadata state."""
    return resize(pixels, *(preprocessing[name] for name in ("width", "height", "fit", "interpolation")))


def measure_reference(images: Iterable[np.ndarray], preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The reference of a model, as JSON values.

    Args:
        images: uint8 (rows, columns) each, as decoded; one or more.
        preprocessing: of the model's metadata: `width`, `height`, `fit`, `interpolation`.

    Returns:
        `images` (their number), `mean_image` (16 lists of 16 numbers), `quantiles` (statistic -> its `QUANTILES`).
    """
    prepared = [resize_to_model(pixels, preprocessing) for pixels in images]
    mean_image = np.mean([_coarse(pixels) for pixels in prepared], axis=0)
    mean = mean_image.tolist()
    rows = [gray_statistics(pixels) | {"likeness": likeness(pixels, mean)} for pixels in prepared]
    return {
        "images": len(rows),
        "mean_image": np.round(mean_image, 5).tolist(),
        "quantiles": {name: np.quantile([row[name] for row in rows], QUANTILES).tolist() for name in rows[0]},
    }


def gray_statistics(model_input: np.ndarray) -> dict[str, float]:
    """Statistics of an image at the model's size, uint8 (height, width); gray levels 0 to 255."""
    low, middle, high = np.percentile(model_input, (5, 50, 95))
    detail = np.abs(np.diff(model_input.astype(np.float32), axis=1)).mean()
    values = model_input.mean(), model_input.std(), low, middle, high, detail
    return {name: float(value) for name, value in zip(_STATISTICS, values, strict=True)}


def likeness(model_input: np.ndarray, mean_image: list[list[float]]) -> float:
    """The correlation of an image with the mean training image, -1 to 1; 0 for a blank one."""
    mean = np.asarray(mean_image)
    norm = float(np.linalg.norm(mean))
    return float((_coarse(model_input) * mean).sum() / norm) if norm else 0.0


def average_chest(model_input: np.ndarray, mean_image: list[list[float]]) -> np.ndarray:
    """The mean training image with an image's size, brightness and contrast: float32 (height, width), 0 to 255."""
    height, width = model_input.shape
    mean = cv2.resize(np.asarray(mean_image, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    spread = float(mean.std())
    scale = float(model_input.std()) / spread if spread > 0 else 0.0
    return np.clip((mean - mean.mean()) * scale + model_input.mean(), 0, 255).astype(np.float32)


def _coarse(model_input: np.ndarray) -> np.ndarray:
    """16 x 16, of mean 0 and norm 1; all 0 for a blank image."""
    small = cv2.resize(np.ascontiguousarray(model_input), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = small.astype(np.float64)
    small -= small.mean()
    norm = np.linalg.norm(small)
    return small / norm if norm > 1e-9 else small
