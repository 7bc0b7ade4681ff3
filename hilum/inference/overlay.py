"""A heatmap over its radiograph, as a picture that colour-blind readers can read as well."""

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
from hilum.inference.image import PreparedImage
from hilum.inference.reader import ImageResult, OcclusionCheck, Reader

#: Even steps of lightness, distinct without red and green; Nuñez et al. 2018 (PLoS ONE 13, e0199239).
COLOURS = cv2.COLORMAP_CIVIDIS

#: Opacity of the heatmap at its maximum.
_OPACITY = 0.6

#: The longer side of an overlay file in pixels: 3,000 pixels as PNG would take megabytes.
_LONGEST = 1024

#: Below every picture: pictures are copied without the text around them.
_CAPTION = "Research use only. Not a diagnosis."

#: The caption's font, its scale for a width of 1,024 and the smallest readable one.
_FONT, _SCALE, _LEAST_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0.4

#: The table of the pictures, in their folder: a row per picture, with its `hilum.inference.reader.OcclusionCheck`.
OVERLAY_RECORD = "heatmaps.csv"
OVERLAY_COLUMNS = ("image", "finding", "picture", "method", *OcclusionCheck.__dataclass_fields__, "note")


def overlay(image: PreparedImage, heatmap: np.ndarray, fit: str = "stretch") -> np.ndarray:
    """The radiograph in gray with the heatmap in colour: the higher, the less transparent.

    Args:
        image: refused or not.
        heatmap: float32 (height, width) 0..1, at the model's size.
        fit: the run's setting for resizing images.

    Returns:
        uint8 (rows, columns, 3), blue first, of the image's proportions; the longer side at most 1,024.
    """
    rows, columns = image.pixels.shape
    scale = min(1.0, _LONGEST / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    gray = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    heatmap = fit_to_image(heatmap, (rows, columns), fit)
    heatmap = np.clip(cv2.resize(heatmap, size, interpolation=cv2.INTER_LINEAR), 0, 1)
    coloured = cv2.applyColorMap(np.rint(heatmap * 255).astype(np.uint8), COLOURS).astype(np.float32)
    weight = (_OPACITY * heatmap)[..., None]
    return np.rint(gray[..., None] * (1 - weight) + coloured * weight).astype(np.uint8)


def fit_to_image(heatmap: np.ndarray, shape: tuple[int, ...], fit: str) -> np.ndarray:
    """The heatmap in the image's proportions: bars are cut off, cropped parts, which the model did not see, are 0.

    The heatmap is float32 (height, width) at the model's size, the result float32 of the image's proportions, but not
    its size; `shape` is (rows, columns) of the image, and `fit` "stretch", "letterbox" or "crop".
    """
    (height, width), (rows, columns) = heatmap.shape, shape
    if fit == "letterbox":
        top, left, inner_height, inner_width = letterbox_place((rows, columns), width, height)
        return heatmap[top : top + inner_height, left : left + inner_width]
    if fit == "crop":
        top, left, kept_rows, kept_columns = crop_place((rows, columns), width / height)
        kept = cv2.resize(heatmap, (kept_columns, kept_rows), interpolation=cv2.INTER_LINEAR)
        whole = np.zeros((rows, columns), np.float32)
        whole[top : top + kept_rows, left : left + kept_columns] = kept
        return whole
    return heatmap


def captioned(picture: np.ndarray, text: str = _CAPTION) -> np.ndarray:
    """The picture, uint8 (rows, columns, 3), with a text on a black strip below it, which covers nothing of it.

    The text is in ASCII, as OpenCV's font has nothing else, and wrapped at the picture's width.
    """
    columns = picture.shape[1]
    scale = max(_LEAST_SCALE, _SCALE * columns / _LONGEST)
    margin, line_height = round(8 * scale), round(36 * scale)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        width = cv2.getTextSize(longer, _FONT, scale, 1)[0][0]
        if lines[-1] and width > columns - 2 * margin:
            lines.append(word)
        else:
            lines[-1] = longer
    strip = np.zeros((line_height * len(lines) + margin, columns, 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        place = (margin, line_height * number - margin)
        cv2.putText(strip, line, place, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def with_comment(png: bytes, text: str) -> bytes:
    """A PNG file with a comment (a tEXt chunk, in Latin-1) that programs show with its metadata."""
    chunk = b"tEXt" + b"Comment\0" + text.encode("latin-1")
    header = 8 + 25  # the signature and the IHDR chunk, which must be first
    length, checksum = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return png[:header] + length + chunk + checksum + png[header:]


def prepare_overlays(reader: Reader, folder: Path) -> None:
    """Creates the folder of the overlays, and raises before the first image what would fail there.

    Raises:
        HilumError: the folder has another prediction's pictures or cannot be made, or torch or Captum is missing.
    """
    if (folder / OVERLAY_RECORD).exists():
        problem = f"{folder}: the folder already holds a {OVERLAY_RECORD} and its pictures."
        raise HilumError(f"{problem} Give another folder, or remove this one.")
    reader.explainer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HilumError(f"{folder}: the folder cannot be made: {error.strerror}.") from None


def write_overlays(
    reader: Reader, image: PreparedImage, result: ImageResult, folder: Path, method: str = DEFAULT_METHOD
) -> list[dict[str, Any]]:
    """Writes a PNG per suggested finding of an image that was read, `<image>-<finding>.png`, numbered if it exists.

    Returns:
        A row per picture, see `OVERLAY_COLUMNS`.
    """
    rows = []
    for finding in result.findings:
        if not finding.suggested or finding.finding == "No_Finding":
            continue
        heatmap = reader.heatmap(image, finding.finding, method)
        check = reader.occlusion_check(image, finding.finding, heatmap)
        name = f"{Path(result.image).stem}-{finding.finding.replace(' ', '_')}"
        path, number = folder / f"{name}.png", 1
        while path.exists():
            number += 1
            path = folder / f"{name}-{number}.png"
        picture = captioned(overlay(image, heatmap, reader.metadata["preprocessing"]["fit"]))
        with replacing(path) as partial:
            partial.write_bytes(with_comment(cv2.imencode(".png", picture)[1].tobytes(), RESEARCH_USE))
        probabilities = f"{check.probability:.6g}", f"{check.hidden:.6g}"
        checks = *probabilities, str(check.lowers).lower(), f"{check.stronger_than:.3f}"
        values = result.image, finding.finding, path.name, method, *checks, RESEARCH_NOTE
        rows.append(dict(zip(OVERLAY_COLUMNS, values, strict=True)))
    return rows
