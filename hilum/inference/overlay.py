"""A heatmap over its radiograph, as a picture that the colour-blind can read as well."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hilum.data.resize import crop_place, letterbox_place
from hilum.errors import HilumError
from hilum.files import replacing
from hilum.inference import DEFAULT_METHOD, RESEARCH_NOTE, RESEARCH_USE
from hilum.inference.image import Film
from hilum.inference.predict import Prediction
from hilum.inference.reader import Reader

#: Even steps of lightness, told apart without red and green; Nuñez et al. 2018 (PLoS ONE 13, e0199239).
COLOURS = cv2.COLORMAP_CIVIDIS

#: How much of the radiograph the hottest place hides.
_MOST = 0.6

#: The longer side of a written overlay, in pixels: a film of 3,000 pixels as PNG would take megabytes.
_LONGEST = 1024

#: Below every picture: a picture travels without the words that stood around it.
_CAPTION = "Research use only. Not a diagnosis."

#: The caption's font, its scale for a width of 1,024 and the least that can be read.
_FONT, _SCALE, _LEAST_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0.4

#: Of `heatmaps.csv` beside the pictures. `hidden` is the probability with the hottest place grayed out;
#: `stronger_than` the share of such places all over the image that lower it less.
OVERLAY_COLUMNS = (
    *("image", "finding", "picture", "method", "probability", "hidden", "lowers", "stronger_than", "note"),
)

#: The record of the pictures, in their folder.
OVERLAY_RECORD = "heatmaps.csv"


def overlay(film: Film, heat: np.ndarray, fit: str = "stretch") -> np.ndarray:
    """The radiograph in gray with the heat in colour, the hotter the less transparent.

    Args:
        film: read.
        heat: float32 (height, width) 0..1, at the model's size.
        fit: how the film came to that size.

    Returns:
        uint8 (rows, columns, 3), blue first, of the film's proportions; the longer side at most 1,024.
    """
    rows, columns = film.pixels.shape
    scale = min(1.0, _LONGEST / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    gray = cv2.resize(film.pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    heat = heat_on_film(heat, (rows, columns), fit)
    heat = np.clip(cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR), 0, 1)
    coloured = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), COLOURS).astype(np.float32)
    weight = (_MOST * heat)[..., None]
    return np.rint(gray[..., None] * (1 - weight) + coloured * weight).astype(np.uint8)


def heat_on_film(heat: np.ndarray, shape: tuple[int, int], fit: str) -> np.ndarray:
    """The heatmap where it lies on the film: float32 of the film's proportions, 0 where the model saw nothing.

    Args:
        heat: float32 (height, width) at the model's size.
        shape: (rows, columns) of the film.
        fit: "stretch", "letterbox" or "crop".
    """
    height, width = heat.shape
    if fit == "letterbox":
        top, left, inner_height, inner_width = letterbox_place(shape, width, height)
        return heat[top : top + inner_height, left : left + inner_width]
    if fit == "crop":
        top, left, kept_rows, kept_columns = crop_place(shape, width / height)
        whole = np.zeros(shape, np.float32)
        whole[top : top + kept_rows, left : left + kept_columns] = cv2.resize(
            heat, (kept_columns, kept_rows), interpolation=cv2.INTER_LINEAR
        )
        return whole
    return heat


def captioned(picture: np.ndarray, words: str = _CAPTION) -> np.ndarray:
    """The picture with words on a black strip below it, which hides nothing of it.

    Args:
        picture: uint8 (rows, columns, 3).
        words: in ASCII, as OpenCV's font has nothing else; on as many lines as the picture's width makes of them.

    Returns:
        uint8 (rows + the strip's, columns, 3).
    """
    columns = picture.shape[1]
    scale = max(_LEAST_SCALE, _SCALE * columns / _LONGEST)

    def width(text: str) -> int:
        return cv2.getTextSize(text, _FONT, scale, 1)[0][0]

    lines = [""]
    margin = round(8 * scale)
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer) > columns - 2 * margin:
            lines.append(word)
        else:
            lines[-1] = longer
    pitch = round(36 * scale)
    strip = np.zeros((pitch * len(lines) + margin, columns, 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(
            strip, line, (margin, pitch * number - margin), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA
        )
    return np.concatenate([picture, strip])


def with_comment(png: bytes, words: str) -> bytes:
    """The PNG with the words in it (a tEXt chunk, keyword Comment), where programs that list metadata show them.

    Args:
        png: a whole file.
        words: in Latin-1.
    """
    chunk = b"tEXt" + b"Comment\0" + words.encode("latin-1")
    header = 8 + 25  # the signature and the IHDR chunk, which must come first
    return (
        png[:header]
        + struct.pack(">I", len(chunk) - 4)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + png[header:]
    )


def prepare_overlays(reader: Reader, folder: Path) -> None:
    """Refuses at once what would fail at the first image.

    Raises:
        HilumError: the folder holds another prediction's pictures or cannot be made, or torch or Captum is missing.
    """
    if (folder / OVERLAY_RECORD).exists():
        raise HilumError(
            f"{folder}: the folder already holds a {OVERLAY_RECORD} and its pictures. "
            "Give another folder, or remove this one."
        )
    reader.explainer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HilumError(f"{folder}: the folder cannot be made: {error.strerror}.") from None


def write_overlays(
    reader: Reader, prediction: Prediction, folder: Path, method: str = DEFAULT_METHOD
) -> list[dict[str, Any]]:
    """A PNG per suggested finding, `<image>-<finding>.png`; images of one name are numbered.

    Args:
        reader: the model.
        prediction: of an image that was read.
        folder: of the pictures.
        method: of the heatmaps, one of `hilum.inference.HEATMAP_METHODS`.

    Returns:
        A row per picture, see `OVERLAY_COLUMNS`: what hiding the hottest place does says whether the model
        needs what the picture shows.
    """
    film = prediction.reading.film
    written = []
    for finding in prediction.reading.findings:
        if not finding.suggested or finding.target == "No_Finding":
            continue
        heat = reader.heatmap(film, finding.target, method)
        check = reader.occlusion_check(film, finding.target, heat)
        name = f"{Path(prediction.path).stem}-{finding.target.replace(' ', '_')}"
        path, number = folder / f"{name}.png", 1
        while path.exists():
            number += 1
            path = folder / f"{name}-{number}.png"
        with replacing(path) as partial:
            picture = captioned(overlay(film, heat, reader.card["preprocessing"]["fit"]))
            partial.write_bytes(with_comment(cv2.imencode(".png", picture)[1].tobytes(), RESEARCH_USE))
        values = (
            *(prediction.path, finding.target, path.name, method),
            *(f"{check.probability:.6g}", f"{check.hidden:.6g}", str(check.lowers).lower()),
            f"{check.stronger_than:.3f}",
            RESEARCH_NOTE,
        )
        written.append(dict(zip(OVERLAY_COLUMNS, values, strict=True)))
    return written
