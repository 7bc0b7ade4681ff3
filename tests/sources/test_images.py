import struct
import zlib

import cv2
import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources.images import check_images, read_gray

#: PNG color types, as the file's header has them.
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, depth: int, color: int, row: bytes, *extra: bytes) -> bytes:
    """A PNG of one row, written here byte by byte: no library's reading of the format is taken on trust."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + chunk(b"IEND", b"")


def words(*samples: int) -> bytes:
    return struct.pack(f">{len(samples)}H", *samples)


PNGS = {
    "8-bit gray": (png(3, 8, GRAY, bytes([0, 100, 255])), [0, 100, 255]),
    "16-bit gray": (png(3, 16, GRAY, words(0, 100 * 257, 65535)), [0, 100, 255]),
    "16-bit gray, rounded": (png(3, 16, GRAY, words(128, 129, 40_000)), [0, 1, 156]),
    "gray and alpha": (png(3, 8, GRAY_ALPHA, bytes([0, 0, 100, 128, 255, 255])), [0, 100, 255]),
    "16-bit gray and alpha": (png(2, 16, GRAY_ALPHA, words(0, 9, 100 * 257, 0)), [0, 100]),
    "RGB": (png(3, 8, RGB, bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])), [76, 150, 29]),
    "RGB of gray": (png(2, 8, RGB, bytes([7, 7, 7, 200, 200, 200])), [7, 200]),
    "16-bit RGB": (png(2, 16, RGB, words(65535, 0, 0, 0, 65535, 0)), [76, 150]),
    "RGBA": (png(2, 8, RGBA, bytes([255, 0, 0, 0, 80, 80, 80, 9])), [76, 80]),
    "16-bit RGBA": (png(1, 16, RGBA, words(25_700, 25_700, 25_700, 3)), [100]),
    "palette": (
        png(3, 8, PALETTE, bytes([2, 0, 1]), chunk(b"PLTE", bytes([0, 0, 0, 100, 100, 100, 255, 0, 0]))),
        [76, 0, 100],
    ),
    "palette with transparency": (
        png(
            2,
            8,
            PALETTE,
            bytes([0, 1]),
            chunk(b"PLTE", bytes([9, 9, 9, 100, 100, 100])),
            chunk(b"tRNS", bytes([0, 128])),
        ),
        [9, 100],
    ),
    "1-bit gray": (png(3, 1, GRAY, bytes([0b1010_0000])), [255, 0, 255]),
    "4-bit gray": (png(3, 4, GRAY, bytes([0x0F, 0x70])), [0, 255, 119]),
}


@pytest.mark.parametrize("kind", PNGS)
def test_every_kind_of_png_gives_its_gray_levels(kind, tmp_path):
    content, expected = PNGS[kind]
    (tmp_path / "image.png").write_bytes(content)
    pixels = read_gray(tmp_path / "image.png")
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [expected]


@pytest.fixture
def ramp():
    """Smooth, so that JPEG keeps it to a level or two; taller than wide, so that no axis is swapped."""
    return np.linspace(10, 240, 48 * 32).reshape(48, 32).astype(np.uint8)


@pytest.mark.parametrize("color", [False, True])
def test_gray_and_color_jpegs_give_their_gray_levels(ramp, color, tmp_path):
    path = tmp_path / "image.jpg"
    cv2.imwrite(str(path), np.dstack([ramp] * 3) if color else ramp, [cv2.IMWRITE_JPEG_QUALITY, 95])
    pixels = read_gray(path)
    assert pixels.shape == (48, 32)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - ramp).max() <= 3


def test_a_colored_jpeg_is_weighted_to_luma(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(tmp_path / "red.jpg"), red)
    assert np.abs(read_gray(tmp_path / "red.jpg").astype(int) - 76).max() <= 2


def test_bytes_after_the_end_of_an_image_do_no_harm(ramp, tmp_path):
    for ending in (".png", ".jpg"):
        path = tmp_path / f"padded{ending}"
        path.write_bytes(cv2.imencode(ending, ramp)[1].tobytes() + bytes(100))
        assert read_gray(path).shape == (48, 32)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_image_is_named_at_whatever_place_it_is_cut(ramp, ending, share, tmp_path):
    content = cv2.imencode(ending, np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))[1]
    path = tmp_path / f"cut{ending}"
    path.write_bytes(content.tobytes()[: int(len(content) * share)])
    with pytest.raises(HilumError, match=rf"cut\{ending}: the image is truncated .*Restore it"):
        read_gray(path)


def test_a_png_with_a_damaged_middle_is_named(capfd, tmp_path):
    content = bytearray(cv2.imencode(".png", np.arange(4096, dtype=np.uint16).reshape(64, 64))[1].tobytes())
    content[60] ^= 0xFF
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(HilumError, match=r"bad\.png: the image cannot be decoded; the file is damaged"):
        read_gray(tmp_path / "bad.png")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"Path,Sex,Age\n", "the file is neither a PNG nor a JPEG"),
        (b"GIF89a", "the file is neither a PNG nor a JPEG"),
        (b"\x89PNG\r\n\x1a\nsome words", "the image is truncated"),
        (b"\x89PNG\r\n\x1a\nsome words IEND\xaeB`\x82", "the image cannot be decoded"),
        (b"\xff\xd8\xff\xd9", "the image cannot be decoded"),
    ],
)
def test_a_file_that_is_no_image_is_named(capfd, content, told, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(HilumError) as error:
        read_gray(path)
    assert str(error.value).startswith(f"{path}: {told}")
    assert "Restore it from the data set." in str(error.value)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(HilumError, match=r"none\.png: the image is missing\. Check that root"):
        read_gray(tmp_path / "none.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(HilumError, match="cannot be read"):
        read_gray(tmp_path)


def test_checking_counts_what_is_bad_and_names_the_first_ten(tmp_path):
    paths = [tmp_path / f"{number:02d}.png" for number in range(16)]
    for path in paths[:3]:
        path.write_bytes(PNGS["RGB"][0])
    for path in paths[3:15]:
        path.write_bytes(b"")
    seen = []
    with pytest.raises(HilumError) as error:
        check_images(map(str, paths), progress=lambda: seen.append(1))
    message = str(error.value)
    assert message.startswith("13 image(s) cannot be used:")
    assert [f"{number:02d}.png" in message for number in range(16)] == [False] * 3 + [True] * 10 + [False] * 3
    assert message.endswith("… and 3 more")
    assert len(seen) == 16


def test_checking_good_images_says_nothing(small_catalog):
    seen = []
    check_images(small_catalog.image_paths(), progress=lambda: seen.append(1))
    assert len(seen) == len(small_catalog)
