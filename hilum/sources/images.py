"""Image files: their addresses, reading them into gray levels, their size, and which of them are missing."""

import os
import re
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hilum.errors import HilumError, ImageError, first_lines
from hilum.machine import cores


def unreadable(problem: str) -> ImageError:
    """The error for an image that is damaged, or not an image."""
    return ImageError("unreadable", problem, "Restore it from the data set.")


# --- Addresses: what an `Image_Path` may be ---

_NUMBER = r"[-+0-9.eE]+"
_ADDRESS = re.compile(
    rf"(?P<file>.*?)(?:(?<=\.npy)#(?P<row>\d+))?(?:#window=(?P<low>{_NUMBER}),(?P<high>{_NUMBER}))?"
)


class ImageAddress(NamedTuple):
    """A file, the row of a stack, and the window: which samples become black and white."""

    file: str
    row: int | None
    window: tuple[float, float] | None


def parse_address(path: str | Path) -> ImageAddress:
    """Parses `scan.png`, `scan.png#window=0,4095` or `stack.npy#17`.

    >>> parse_address("a/scan.png#window=0,4095")
    ImageAddress(file='a/scan.png', row=None, window=(0.0, 4095.0))
    >>> parse_address("train.npy#17").row
    17
    """
    found = _ADDRESS.fullmatch(str(path))
    if found is None:  # a line break in a name
        return ImageAddress(str(path), None, None)
    row, low = found["row"], found["low"]
    window = None if low is None else parse_window((low, found["high"]), str(path))
    return ImageAddress(found["file"], None if row is None else int(row), window)


def parse_window(window: Any, where: str) -> tuple[float, float]:
    """(low, high) as floats, finite and low < high or a HilumError is raised; `where` is for messages."""
    try:
        low, high = (float(end) for end in window)
    except (TypeError, ValueError):
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise HilumError(
            f"{where}: the window {window!r} must be two numbers, the sample that becomes black and the greater "
            "one that becomes white."
        )
    return low, high


# --- Reading: from a path to gray levels ---


def read_gray(path: str | Path, window: tuple[float, float] | None = None) -> np.ndarray:
    """Decodes a PNG, JPEG or DICOM, or one row of an `.npy` stack, into gray levels.

    Color is weighted to luma (ITU-R BT.601) and an alpha channel is ignored. The full range of 16-bit samples becomes
    0 to 255, as the PNG specification scales sample depths, unless there is a window; the samples are windowed at their
    full depth and rounded once. A DICOM is shown as its header specifies; see `hilum.sources.dicom`.

    Args:
        path: a file, or an address such as `stack.npy#17` or `scan.png#window=0,4095`.
        window: (low, high), the samples that become 0 and 255; it overrides the path's own.

    Returns:
        uint8 array of shape (height, width).

    Raises:
        HilumError: the file is missing, unreadable, truncated, or of another kind; it is named.
    """
    address = parse_address(path)
    window = address.window if window is None else parse_window(window, str(path))
    if address.row is None:
        return decode_gray(read_bytes(address.file), address.file, window)
    stack = _open_stack(address.file)
    if address.row >= len(stack):
        raise HilumError(f"{address.file}: it has {len(stack):,} images; row {address.row} does not exist.")
    return to_8_bit(np.array(stack[address.row]), window)


def read_bytes(path: str | Path) -> bytes:
    """An image file's content; raises an ImageError if it is missing or cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        remedy = "Check that root is the data set's own folder and that its download is complete."
        raise ImageError("missing", f"{path}: the image is missing.", remedy) from None
    except OSError as error:
        raise ImageError("unreadable", f"{path}: the image cannot be read: {error.strerror}.") from None


@lru_cache(maxsize=16)
def _open_stack(path: str) -> np.ndarray:
    """The stack, mapped into memory once per process: only the rows that are read come from disk."""
    try:
        stack = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise HilumError(f"{path}: the images are missing. Open the data set's catalog again.") from None
    except (OSError, ValueError, EOFError) as error:
        raise HilumError(f"{path}: this is not a stack of images: {error}.") from None
    if stack.ndim != 3 or stack.dtype not in (np.uint8, np.uint16):
        raise HilumError(
            f"{path}: it holds {stack.dtype} of shape {stack.shape}; a stack of images is uint8 or uint16 "
            "of shape (images, height, width)."
        )
    return stack


def check_images(paths: Iterable[str], progress: Callable[[], None] | None = None) -> None:
    """Decodes every image once; raises a HilumError with the number of unreadable images and the first ten names."""

    def problem_of(path: str) -> str | None:
        try:
            read_gray(path)
        except HilumError as error:
            return str(error)
        return None

    problems = []
    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for problem in pool.map(problem_of, paths):
            if problem:
                problems.append(problem)
            if progress:
                progress()
    if problems:
        raise HilumError(f"{len(problems):,} image(s) cannot be used:\n  {first_lines(problems)}")


# --- Decoding: from a file's content to gray levels ---

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_DICOM_SUFFIXES = (".dcm", ".dicom")


def decode_gray(data: bytes, name: str, window: tuple[float, float] | None = None) -> np.ndarray:
    """As `read_gray`, from a file's content; `name` is for messages, and an ending .dcm means DICOM."""
    if is_dicom(data, name):
        from hilum.sources.dicom import parse_dicom, show_dicom

        return show_dicom(parse_dicom(data, name), name, window).pixels
    return to_8_bit(to_gray(decode_channels(data, name)), window)


def is_dicom(data: bytes, path: str) -> bool:
    """Whether the content has DICOM's mark, or the name a DICOM ending."""
    return data[128:132] == b"DICM" or path.lower().endswith(_DICOM_SUFFIXES)


def decode_channels(data: bytes, name: str) -> np.ndarray:
    """A PNG's or JPEG's samples: uint8 or uint16 of shape (height, width) or (height, width, channels), blue first.

    Raises an ImageError, with `name`, if the content is neither, damaged or truncated.
    """
    _check_complete(data, name)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a header with more pixels than OpenCV accepts
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise unreadable(f"{name}: the image cannot be decoded; the file is damaged.")
    return pixels


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """Channels (height, width, channels), blue first, to luma (ITU-R BT.601); alpha is ignored."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if pixels.shape[2] < 3 else cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)


def to_8_bit(samples: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Samples of any depth as uint8: the window's part of their range, or all of it."""
    if window is None:
        deep = samples.dtype == np.uint16
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8) if deep else samples
    low, high = window
    levels = np.arange(np.iinfo(samples.dtype).max + 1, dtype=np.float64)
    return np.rint(np.clip((levels - low) / (high - low), 0, 1) * 255).astype(np.uint8)[samples]


def _check_complete(data: bytes, path: str | Path) -> None:
    """Looks for the end mark: OpenCV would fill the missing part of a truncated file with gray."""
    if not data.startswith((_PNG, _JPEG)):
        kind = "empty" if not data else "neither a PNG nor a JPEG nor a DICOM"
        raise unreadable(f"{path}: the file is {kind}.")
    end = _PNG_END if data.startswith(_PNG) else _JPEG_END
    if end not in data[-512:]:  # some writers pad the file after its end mark
        raise unreadable(f"{path}: the image is truncated ({len(data):,} bytes without an end mark).")


# --- Size: as the file's header declares it ---

_JPEG_2000 = b"\xff\x4f\xff\x51"
#: JPEG markers that begin a frame (ITU-T T.81, table B.1; T.87 for JPEG-LS): 0xC0 to 0xCF except DHT, JPG, DAC; 0xF7.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
#: Markers without a length: TEM, RST0 to RST7, SOI.
_ALONE = {0x01, *range(0xD0, 0xD9)}


def declared_size(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) in the header of a PNG, JPEG, JPEG-LS or JPEG 2000 code stream; None without such a header."""
    try:
        if data.startswith(_PNG) and data[12:16] == b"IHDR":
            columns, rows = struct.unpack_from(">II", data, 16)
            return rows, columns
        if data.startswith(_JPEG_2000):
            right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
            return bottom - top, right - left
        if data.startswith(_JPEG):
            return _jpeg_size(data)
    except (struct.error, IndexError, ValueError):
        pass
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in the first frame header, found by following the segments."""
    place = 2
    while True:
        place = data.index(b"\xff", place)
        while data[place] == 0xFF:  # a marker may be preceded by any number of these
            place += 1
        marker = data[place]
        place += 1
        if marker in _ALONE or marker == 0x00:
            continue
        if marker in _FRAMES:
            rows, columns = struct.unpack_from(">HH", data, place + 3)
            return rows, columns
        if marker in (0xD9, 0xDA):  # the end, or pixels without a frame before them
            return None
        place += struct.unpack_from(">H", data, place)[0]


# --- Presence: which images are missing ---


def are_missing(root: Path, paths: Iterable[str]) -> np.ndarray:
    """Whether each image, an address below `root`, is missing; bool (images,). Each folder is listed once."""
    listed: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, _, name = (parse_address(path).file if "#" in path else path).rpartition("/")
        if folder not in listed:
            try:
                listed[folder] = {entry.name for entry in os.scandir(root / folder) if not entry.is_dir()}
            except OSError:
                listed[folder] = set()
        missing.append(name not in listed[folder])
    return np.array(missing, dtype=bool)
