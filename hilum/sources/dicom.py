"""Reads a DICOM file into the gray levels that its own header specifies.

The order is that of DICOM PS3.3, C.11 and C.7.6.3.1.2: modality (rescale slope and intercept), then the VOI table or
window, and only then MONOCHROME1 is inverted, so that air is dark in every image.
"""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from hilum.errors import ImageError
from hilum.sources.images import read_bytes, unreadable

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")

#: What pydicom raises for a header or pixels that it cannot interpret.
_UNREADABLE = (
    *(AttributeError, EOFError, IndexError, KeyError, MemoryError, NotImplementedError, OSError),
    *(OverflowError, RuntimeError, TypeError, ValueError),
)


@dataclass(frozen=True)
class DicomImage:
    """A radiograph as its header specifies it.

    `spacing_mm` is the distance between the centers of neighboring rows and of neighboring columns, in the patient or
    else at the detector; None if the header has neither.
    """

    levels: np.ndarray = field(repr=False)  # float64 (height, width), 0 (black) to 1 (white), not yet rounded
    spacing_mm: tuple[float, float] | None
    view: str | None  # `ViewPosition`, such as "PA"; None if it is blank
    photometric: str  # "MONOCHROME1" (stored with air bright; inverted in `levels`) or "MONOCHROME2"
    bits_stored: int  # depth of the stored samples

    @property
    def pixels(self) -> np.ndarray:
        """The gray levels, uint8 (height, width), rounded once."""
        return np.rint(self.levels * 255).astype(np.uint8)


def read_dicom(path: str | Path, window: tuple[float, float] | None = None) -> DicomImage:
    """Reads a radiograph of 8 to 16 bits, compressed or not.

    Args:
        path: the file.
        window: the rescaled values that become black and white; by default the header's own window, or else the full
            range of the stored bits.

    Raises:
        ImageError: the file is missing, not a DICOM, damaged, without pixels, with several frames or in color, its
            window is invalid, or its compression needs a decoder that is not installed.
    """
    return show_dicom(parse_dicom(read_bytes(path), path), path, window)


def parse_dicom(data: bytes, path: str | Path) -> Dataset:
    """A file's elements, its pixels not yet decoded; an ImageError if it is not a DICOM or is damaged."""
    try:
        return pydicom.dcmread(BytesIO(data))
    except InvalidDicomError:
        raise unreadable(f"{path}: this is not a DICOM file: it lacks the mark DICM at byte 128.") from None
    except _UNREADABLE as error:
        raise unreadable(f"{path}: the DICOM file is damaged or truncated: {error}.") from None


def show_dicom(header: Dataset, path: str | Path, window: tuple[float, float] | None = None) -> DicomImage:
    """Decodes the pixels of `parse_dicom`'s elements; raises as `read_dicom`."""
    samples = _stored_samples(header, path)
    try:
        levels = _show(header, apply_modality_lut(samples, header), window)
        return DicomImage(
            levels=levels,
            spacing_mm=_spacing(header),
            view=str(header.get("ViewPosition") or "").strip() or None,
            photometric=header.PhotometricInterpretation,
            bits_stored=int(header.BitsStored),
        )
    except _UNREADABLE as error:
        problem = f"{path}: the DICOM header specifies something that cannot be shown: {error}."
        remedy = "Correct its rescale, window or spacing, or restore the file from the data set."
        raise ImageError("unreadable", problem, remedy) from None


def _stored_samples(header: Dataset, path: str | Path) -> np.ndarray:
    """The samples as stored, (height, width), signed or unsigned."""
    if "PixelData" not in header:
        raise unreadable(f"{path}: the DICOM file has no pixel data.")
    kind = str(header.get("PhotometricInterpretation") or "without PhotometricInterpretation")
    if kind not in _MONOCHROME:
        problem = f"{path}: the DICOM file is {kind}; a radiograph is {' or '.join(_MONOCHROME)}."
        raise ImageError("unsupported", problem, "Leave its row out, or convert it to gray.")
    try:
        frames = int(header.get("NumberOfFrames") or 1)
        if frames > 1:
            problem = f"{path}: the DICOM file has {frames} frames; a radiograph has one."
            raise ImageError(
                "multi-frame", problem, "Leave its row out, or export one frame to its own file."
            )
        return header.pixel_array
    except ImageError:
        raise
    except _UNREADABLE as error:
        syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
        reason = " ".join(str(error).split())
        unsupported = "missing dependencies" in reason or "does not support" in reason
        if syntax is not None and syntax.is_compressed and unsupported:
            problem = (
                f"{path}: its pixels are compressed ({syntax.name}), and no decoder for that is installed."
            )
            remedy = "Install one: pip install pylibjpeg pylibjpeg-openjpeg python-gdcm."
            raise ImageError("unsupported", problem, remedy) from None
        raise unreadable(f"{path}: the DICOM pixels are damaged and cannot be decoded: {reason}.") from None


def _show(header: Dataset, values: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Rescaled values to 0..1: by `window`, the VOI table, the header's window, or the full range."""
    bits = int(header.BitsStored)
    signed = int(header.PixelRepresentation) == 1
    stored = np.array([-(1 << bits - 1), (1 << bits - 1) - 1] if signed else [0, (1 << bits) - 1])
    if header.get("ModalityLUTSequence"):
        black, white = 0.0, 2.0 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    else:
        # pydicom's window gives values between the rescaled ends; either end may be the greater one.
        black, white = (float(end) for end in apply_modality_lut(stored, header))
    if window is not None:
        black, white = window
    elif header.get("VOILUTSequence"):
        # Rescaling turns whole numbers into floats; the table is indexed by whole numbers.
        values = apply_voi(np.rint(values).astype(np.int32), header)
        black, white = 0.0, 2.0 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        values = apply_windowing(values, header)
    else:
        black, white = sorted((black, white))
    levels = np.clip((values.astype(np.float64) - black) / (white - black), 0, 1)
    return 1 - levels if header.PhotometricInterpretation == "MONOCHROME1" else levels


def _spacing(header: Dataset) -> tuple[float, float] | None:
    spacing = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    if not spacing:
        return None
    rows, columns = (float(distance) for distance in spacing)
    return rows, columns
