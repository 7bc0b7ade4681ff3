"""From the bytes of one file to a checked image at the model's size; nothing is written, nothing is kept."""

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import ImageError
from hilum.inference.quality_checks import Flag, check_quality, resize_to_model
from hilum.sources.images import declared_size, decode_channels, is_dicom, to_8_bit, to_gray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Deflated Explicit VR: a few bytes may unpack to any number, and pydicom unpacks them all to read the header.
_DEFLATED = b"1.2.840.10008.1.2.1.99"

#: DICOM's names of views.
_VIEWS = {"PA": "PA", "AP": "AP", "POSTERO-ANTERIOR": "PA", "ANTERO-POSTERIOR": "AP"}
_LATERAL = ("LL", "RL", "LATERAL", "LAT", "LLD", "RLD", "LEFT LATERAL", "RIGHT LATERAL")
_VIEWS |= dict.fromkeys(_LATERAL, "lateral")


@dataclass(frozen=True)
class Limits:
    """Limits for files, the same for `hilum predict` and the service.

    A detector gives 10 to 20 megapixels of 16 bits, so an ordinary file has at most about 40 MiB.

    Attributes:
        file_bytes: of one file.
        pixels: rows times columns of one image, checked in its header before any pixel is decoded.
        files: in one request of the service; `hilum predict` reads any number, batch by batch.
    """

    file_bytes: int = 128 * 2**20
    pixels: int = 50_000_000
    files: int = 16

    def check_bytes(self, count: int, name: str) -> None:
        """Raises ImageError ("too-large") if a file of this name has more bytes than allowed."""
        if count > self.file_bytes:
            problem = f"{name}: the file has {count:,} bytes; at most {self.file_bytes:,} are read."
            raise ImageError("too-large", problem)

    def check_size(self, size: tuple[int, int] | None, name: str) -> None:
        """Raises ImageError ("too-large") for too many (rows, columns); None leaves it to the decoder."""
        if size is not None and size[0] * size[1] > self.pixels:
            shape = f"{size[1]:,} x {size[0]:,} pixels"
            raise ImageError("too-large", f"{name}: the image is {shape}; at most {self.pixels:,} are read.")


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One decoded, checked and resized image. It holds nothing of a DICOM's patient.

    Attributes:
        name: path or name, as given.
        pixels: uint8 (rows, columns), the whole image for display: air dark, the window applied.
        model_input: uint8 (height, width), what the model sees.
        flags: quality checks that failed; an image with a refusing flag is not scored.
        view: "PA", "AP" or "lateral"; None if the file does not state it.
    """

    name: str
    pixels: np.ndarray = field(repr=False)
    model_input: np.ndarray = field(repr=False)
    flags: tuple[Flag, ...] = ()
    view: str | None = None

    @property
    def refused(self) -> bool:
        """Whether a flag forbids scoring."""
        return any(flag.refused for flag in self.flags)


def prepare_image(data: bytes, name: str, preprocessing: dict[str, Any], limits: Limits) -> PreparedImage:
    """Decodes, checks and resizes one image in memory.

    Args:
        data: the file's content: PNG (8 or 16 bits), JPEG, or a DICOM with one gray frame.
        name: path or name, for messages; the ending .dcm means DICOM.
        preprocessing: of the model's metadata.
        limits: for the file.

    Raises:
        ImageError: it cannot be decoded, or exceeds a limit; `code` is "unreadable", "unsupported", "multi-frame"
            or "too-large".
    """
    try:
        pixels, view, header = _decode(data, name, limits)
    except ImageError as error:
        raise ImageError(error.code, error.problem) from None  # without its remedy, which is about data sets
    except Exception as error:  # a decoder may raise anything for a hostile file
        problem = f"{name}: the file cannot be read ({type(error).__name__}); it is damaged."
        raise ImageError("unreadable", problem) from None
    model_input = resize_to_model(pixels, preprocessing)
    flags = check_quality(pixels, model_input, view, header, preprocessing)
    return PreparedImage(name, pixels, model_input, flags, view)


def _decode(data: bytes, name: str, limits: Limits) -> tuple[np.ndarray, str | None, dict[str, Any]]:
    """The pixels, the view, and what else the quality checks use."""
    limits.check_bytes(len(data), name)
    if is_dicom(data, name):
        return _decode_dicom(data, name, limits)
    limits.check_size(declared_size(data), name)
    channels = decode_channels(data, name)
    view = "lateral" if PurePath(name).stem.lower().endswith("_lateral") else None
    return to_8_bit(to_gray(channels), None), view, {"colour": _colourfulness(channels)}


def _decode_dicom(data: bytes, name: str, limits: Limits) -> tuple[np.ndarray, str | None, dict[str, Any]]:
    """The same for a DICOM file."""
    from pydicom.encaps import get_frame

    from hilum.sources.dicom import parse_dicom, show_dicom

    if _DEFLATED in data:
        problem = f"{name}: the DICOM file is deflated as a whole; store it in another transfer syntax."
        raise ImageError("unsupported", problem)
    header = parse_dicom(data, name)
    declared = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    limits.check_size(declared, name)
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_compressed and "PixelData" in header:
        compressed = declared_size(get_frame(header.PixelData, 0, number_of_frames=1))
        if compressed is not None and compressed != declared:
            problem = (
                f"{name}: the DICOM header declares {declared[1]:,} x {declared[0]:,} pixels, its compressed"
            )
            raise ImageError("unreadable", f"{problem} image {compressed[1]:,} x {compressed[0]:,}.")
    pixels = show_dicom(header, name).pixels
    facts = {"modality": _text(header, "Modality"), "body_part": _text(header, "BodyPartExamined")}
    return pixels, _view_of(header), facts


def _view_of(header: "Dataset") -> str | None:
    names = [_text(header, "ViewPosition")]
    names += [_text(item, "CodeMeaning") for item in header.get("ViewCodeSequence") or ()]
    return next((_VIEWS[name] for name in names if name in _VIEWS), None)


def _text(header: "Dataset", name: str) -> str:
    return str(header.get(name) or "").strip().upper()


def _colourfulness(channels: np.ndarray) -> float:
    """The mean distance of a pixel's channels, 0 for gray to 1."""
    if channels.ndim == 2 or channels.shape[2] < 3:
        return 0.0
    colours = channels[::4, ::4, :3].astype(np.float32)
    return float((colours.max(axis=2) - colours.min(axis=2)).mean() / np.iinfo(channels.dtype).max)
