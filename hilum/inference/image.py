"""From the bytes of one file to a checked image at the model's size; nothing is written, nothing is kept."""

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.data.resize import resize
from hilum.errors import ImageError
from hilum.inference.quality_checks import Flag, flags_of
from hilum.sources.images import declared_size, decode_channels, is_dicom, to_8_bit, to_gray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Deflated Explicit VR: a few bytes may unpack to any number, and pydicom unpacks them all to read the header.
_DEFLATED = b"1.2.840.10008.1.2.1.99"

_FRONTAL = {"PA": "PA", "AP": "AP", "POSTERO-ANTERIOR": "PA", "ANTERO-POSTERIOR": "AP"}
_LATERAL = ("LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LEFT LATERAL", "RIGHT LATERAL")


@dataclass(frozen=True)
class Limits:
    """What a file may ask for; more is refused before any of its pixels are decoded.

    Attributes:
        max_bytes: of the file.
        max_pixels: rows times columns, as the header declares them.
    """

    max_bytes: int = 128 * 2**20
    max_pixels: int = 50_000_000


@dataclass(frozen=True, eq=False)
class Film:
    """One decoded, checked and prepared image. It never holds what a DICOM says of its patient.

    Attributes:
        name: what the user called it.
        pixels: uint8 (rows, columns), all of it, for display: air dark, the window applied.
        prepared: uint8 (height, width), what the model sees.
        flags: what the model was not made for; an image with a refusing flag is not scored.
        view: "PA", "AP" or "lateral"; None if the file does not say.
    """

    name: str
    pixels: np.ndarray = field(repr=False)
    prepared: np.ndarray = field(repr=False)
    flags: tuple[Flag, ...] = ()
    view: str | None = None

    @property
    def refused(self) -> bool:
        """Whether a flag forbids scoring."""
        return any(flag.refused for flag in self.flags)


def make_film(data: bytes, name: str, preprocessing: dict[str, Any], limits: Limits) -> Film:
    """Decodes, checks and prepares one image in memory.

    Args:
        data: the file's content: PNG (8 or 16 bits), JPEG, or a DICOM with one gray frame.
        name: what the user called it; messages name it, and an ending .dcm means DICOM.
        preprocessing: of the model's card.
        limits: what the file may ask for.

    Raises:
        ImageError: it cannot be decoded, or asks for too much; `code` says which.
    """
    try:
        pixels, view, about = _decoded(data, name, limits)
    except ImageError as error:
        # Its cure speaks of data sets.
        raise ImageError(error.code, error.problem) from None
    except Exception as error:  # whatever a decoder raises for a file made to hurt it
        raise ImageError(
            "unreadable", f"{name}: the file cannot be read ({type(error).__name__}); it is damaged."
        ) from None
    prepared = resize(
        pixels,
        preprocessing["width"],
        preprocessing["height"],
        preprocessing["fit"],
        preprocessing["interpolation"],
    )
    return Film(name, pixels, prepared, flags_of(pixels, prepared, view, about, preprocessing), view)


def _decoded(data: bytes, name: str, limits: Limits) -> tuple[np.ndarray, str | None, dict[str, Any]]:
    """The pixels, the view, and what else the checks want to know."""
    if len(data) > limits.max_bytes:
        raise ImageError(
            "too-large",
            f"{name}: the file has {len(data):,} bytes; at most {limits.max_bytes:,} are read.",
        )
    if is_dicom(data, name):
        return _dicom(data, name, limits)
    _refuse_size(declared_size(data), name, limits)
    channels = decode_channels(data, name)
    view = "lateral" if PurePath(name).stem.lower().endswith("_lateral") else None
    return to_8_bit(to_gray(channels), None), view, {"colour": _colourfulness(channels)}


def _refuse_size(size: tuple[int, int] | None, name: str, limits: Limits) -> None:
    if size is None:
        return  # the decoder says what is wrong
    rows, columns = size
    if rows * columns > limits.max_pixels:
        raise ImageError(
            "too-large",
            f"{name}: the image is {columns:,} x {rows:,} pixels; at most {limits.max_pixels:,} are read.",
        )


def _dicom(data: bytes, name: str, limits: Limits) -> tuple[np.ndarray, str | None, dict[str, Any]]:
    """The pixels, the view, and what else the checks want to know."""
    from pydicom.encaps import get_frame

    from hilum.sources.dicom import parse_dicom, show_dicom

    if _DEFLATED in data:
        raise ImageError(
            "unsupported",
            f"{name}: the DICOM file is deflated as a whole; store it in another transfer syntax.",
        )
    header = parse_dicom(data, name)
    declared = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    _refuse_size(declared, name, limits)
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_compressed and "PixelData" in header:
        within = declared_size(get_frame(header.PixelData, 0, number_of_frames=1))
        if within is not None and within != declared:
            raise ImageError(
                "unreadable",
                f"{name}: the DICOM header says {declared[1]:,} x {declared[0]:,} pixels, its compressed image "
                f"{within[1]:,} x {within[0]:,}.",
            )
    shown = show_dicom(header, name)
    about = {
        "modality": _word(header, "Modality"),
        "body_part": _word(header, "BodyPartExamined"),
    }
    return shown.pixels, _view(header), about


def _view(header: "Dataset") -> str | None:
    said = [_word(header, "ViewPosition")]
    for item in header.get("ViewCodeSequence") or ():
        said.append(_word(item, "CodeMeaning"))
    for word in said:
        if word in _FRONTAL:
            return _FRONTAL[word]
        if word in _LATERAL:
            return "lateral"
    return None


def _word(header: "Dataset", name: str) -> str:
    return str(header.get(name) or "").strip().upper()


def _colourfulness(channels: np.ndarray) -> float:
    """The mean distance of a pixel's channels, 0 for gray to 1."""
    if channels.ndim == 2 or channels.shape[2] < 3:
        return 0.0
    colours = channels[::4, ::4, :3].astype(np.float32)
    return float((colours.max(axis=2) - colours.min(axis=2)).mean() / np.iinfo(channels.dtype).max)
