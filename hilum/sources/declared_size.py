"""How large an image says it is, read from its first bytes: known before any memory is taken for its pixels."""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"

#: The JPEG markers that begin a frame (ITU-T T.81, table B.1, and T.87 for JPEG-LS): 0xC0 to 0xCF but for the
#: tables DHT, JPG and DAC, and 0xF7.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
#: Markers that stand alone, without a length: TEM, RST0 to RST7, SOI.
_ALONE = {0x01, *range(0xD0, 0xD9)}


def declared_size(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a PNG, a JPEG, a JPEG-LS or a JPEG 2000 code stream.

    Args:
        data: the content, or at least its header.

    Returns:
        None if it is none of these, or says nothing where it should.
    """
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
    """The size in the first frame header, found from segment to segment."""
    place = 2
    while True:
        place = data.index(b"\xff", place)
        while data[place] == 0xFF:  # any number of these may stand before a marker
            place += 1
        marker = data[place]
        place += 1
        if marker in _ALONE or marker == 0x00:
            continue
        if marker in _FRAMES:
            return struct.unpack_from(">HH", data, place + 3)
        if marker in (0xD9, 0xDA):  # the end, or pixels without a frame before them
            return None
        place += struct.unpack_from(">H", data, place)[0]
