import struct
import zlib

import cv2
import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.sources.images import (
    are_missing,
    check_images,
    declared_size,
    decode_channels,
    parse_address,
    read_gray,
    to_gray,
)

#: PNG color types, as the file's header has them.
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, depth: int, color: int, row: bytes, *extra: bytes) -> bytes:
    """A PNG of one row, written here byte by byte: so that no library is trusted."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + chunk(b"IEND", b"")


def big_endian(*samples: int) -> bytes:
    return struct.pack(f">{len(samples)}H", *samples)


PNGS = {
    "8-bit gray": (png(3, 8, GRAY, bytes([0, 100, 255])), [0, 100, 255]),
    "16-bit gray": (png(3, 16, GRAY, big_endian(0, 100 * 257, 65535)), [0, 100, 255]),
    "16-bit gray, rounded": (png(3, 16, GRAY, big_endian(128, 129, 40_000)), [0, 1, 156]),
    "gray and alpha": (png(3, 8, GRAY_ALPHA, bytes([0, 0, 100, 128, 255, 255])), [0, 100, 255]),
    "16-bit gray and alpha": (png(2, 16, GRAY_ALPHA, big_endian(0, 9, 100 * 257, 0)), [0, 100]),
    "RGB": (png(3, 8, RGB, bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])), [76, 150, 29]),
    "RGB of gray": (png(2, 8, RGB, bytes([7, 7, 7, 200, 200, 200])), [7, 200]),
    "16-bit RGB": (png(2, 16, RGB, big_endian(65535, 0, 0, 0, 65535, 0)), [76, 150]),
    "RGBA": (png(2, 8, RGBA, bytes([255, 0, 0, 0, 80, 80, 80, 9])), [76, 80]),
    "16-bit RGBA": (png(1, 16, RGBA, big_endian(25_700, 25_700, 25_700, 3)), [100]),
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
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"Path,Sex,Age\n", "the file is neither a PNG nor a JPEG nor a DICOM"),
        (b"GIF89a", "the file is neither a PNG nor a JPEG nor a DICOM"),
        (b"\x89PNG\r\n\x1a\nsome text", "the image is truncated"),
        (b"\x89PNG\r\n\x1a\nsome text IEND\xaeB`\x82", "the image cannot be decoded"),
        (b"\xff\xd8\xff\xd9", "the image cannot be decoded"),
    ],
)
def test_a_file_that_is_no_image_is_named(capfd, content, message, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(HilumError) as error:
        read_gray(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "Restore it from the data set." in str(error.value)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(HilumError, match=r"none\.png: the image is missing\. Check that root"):
        read_gray(tmp_path / "none.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(HilumError, match="cannot be read"):
        read_gray(tmp_path)


class TestChannels:
    """The full depth, before any window."""

    def test_16_bit_samples_keep_their_depth(self):
        samples = decode_channels(png(4, 16, GRAY, big_endian(0, 1, 4095, 65535)), "deep.png")
        assert samples.dtype == np.uint16
        assert samples.tolist() == [[0, 1, 4095, 65535]]

    def test_8_bit_samples_and_color_too(self, ramp):
        assert decode_channels(cv2.imencode(".png", ramp)[1].tobytes(), "ramp.png").dtype == np.uint8
        red = decode_channels(png(1, 16, RGB, big_endian(65535, 0, 0)), "red.png")
        assert red.tolist() == [[[0, 0, 65535]]]
        assert to_gray(red)[0, 0] == pytest.approx(0.299 * 65535, abs=2)


class TestWindows:
    def test_samples_are_windowed_before_they_are_rounded(self, tmp_path):
        path = tmp_path / "deep.png"
        path.write_bytes(png(6, 16, GRAY, big_endian(0, 100, 120, 300, 600, 65535)))
        # (s - 100) / 500 * 255: 120 gives 10.2, 300 gives 102
        assert read_gray(path, window=(100, 600)).tolist() == [[0, 0, 10, 102, 255, 255]]
        assert read_gray(f"{path}#window=100,600").tolist() == [[0, 0, 10, 102, 255, 255]]

    def test_neighboring_samples_stay_apart_that_8_bits_would_join(self, tmp_path):
        path = tmp_path / "deep.png"
        path.write_bytes(png(256, 16, GRAY, big_endian(*range(1000, 1256))))
        assert len(np.unique(read_gray(path))) == 2
        assert read_gray(path, window=(1000, 1255)).tolist() == [list(range(256))]

    def test_8_bit_samples_have_windows_too(self, tmp_path):
        path = tmp_path / "shallow.png"
        path.write_bytes(png(3, 8, GRAY, bytes([50, 100, 200])))
        assert read_gray(path, window=(50, 150)).tolist() == [[0, 128, 255]]

    def test_a_given_window_overrides_the_paths(self, tmp_path):
        path = tmp_path / "deep.png"
        path.write_bytes(png(1, 16, GRAY, big_endian(100)))
        assert read_gray(f"{path}#window=0,1000", window=(0, 200)).tolist() == [[128]]

    @pytest.mark.parametrize("window", [(3, 3), (5, 2), (0, float("inf")), (0, float("nan")), (1,), "ab", 7])
    def test_an_invalid_window_raises(self, window, tmp_path):
        (tmp_path / "image.png").write_bytes(PNGS["8-bit gray"][0])
        with pytest.raises(HilumError, match=r"image\.png: the window .* must be two numbers"):
            read_gray(tmp_path / "image.png", window=window)
        with pytest.raises(HilumError, match="must be two numbers"):
            read_gray(f"{tmp_path}/image.png#window=9,1")


class TestStacks:
    @pytest.fixture
    def stack(self, tmp_path):
        images = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5) * 1000
        np.save(tmp_path / "stack.npy", images)
        return tmp_path / "stack.npy", images

    def test_a_row_is_an_image(self, stack):
        path, images = stack
        np.testing.assert_array_equal(read_gray(f"{path}#2"), (images[2].astype(int) + 128) // 257)
        assert read_gray(f"{path}#0#window=0,4000")[0].tolist() == [0, 64, 128, 191, 255]

    def test_what_is_read_can_be_changed(self, tmp_path):
        np.save(tmp_path / "bytes.npy", np.full((2, 4, 5), 7, np.uint8))
        pixels = read_gray(f"{tmp_path}/bytes.npy#1")
        pixels[:] = 0
        assert (read_gray(f"{tmp_path}/bytes.npy#1") == 7).all()

    @pytest.mark.parametrize(
        ("array", "row", "message"),
        [
            (np.zeros((3, 4, 5), np.uint8), 3, "it has 3 images; row 3 does not exist"),
            (np.zeros((3, 4, 5)), 0, "it holds float64 of shape"),
            (np.zeros((4, 5), np.uint8), 0, r"uint8 of shape \(4, 5\)"),
        ],
    )
    def test_other_rows_and_arrays_are_refused(self, tmp_path, array, row, message):
        np.save(tmp_path / "other.npy", array)
        with pytest.raises(HilumError, match=message):
            read_gray(f"{tmp_path}/other.npy#{row}")

    def test_a_file_that_is_no_stack_or_not_there_is_named(self, tmp_path):
        (tmp_path / "text.npy").write_text("hello")
        with pytest.raises(HilumError, match=r"text\.npy: this is not a stack of images"):
            read_gray(f"{tmp_path}/text.npy#0")
        with pytest.raises(HilumError, match=r"none\.npy: the images are missing"):
            read_gray(f"{tmp_path}/none.npy#0")


@pytest.mark.parametrize(
    ("path", "file", "row", "window"),
    [
        ("a/b.png", "a/b.png", None, None),
        ("a#3.png", "a#3.png", None, None),
        ("a.png#3", "a.png#3", None, None),
        ("a.npy#3", "a.npy", 3, None),
        ("#1/a.npy#12#window=-5,2.5e3", "#1/a.npy", 12, (-5, 2500)),
    ],
)
def test_addresses_are_parsed(path, file, row, window):
    assert parse_address(path) == (file, row, window)


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


def test_checking_good_images_raises_nothing(small_catalog):
    seen = []
    check_images(small_catalog.image_paths(), progress=lambda: seen.append(1))
    assert len(seen) == len(small_catalog)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_declared_size_is_what_the_encoder_wrote(suffix):
    data = cv2.imencode(suffix, np.zeros((37, 53), np.uint8))[1].tobytes()
    assert declared_size(data) == (37, 53)


def test_jpeg_2000_counts_from_its_offset():
    sizes = b"".join(value.to_bytes(4, "big") for value in (60, 45, 10, 5))
    assert declared_size(b"\xff\x4f\xff\x51\x00\x29\x00\x00" + sizes) == (40, 50)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"GIF89a"])
def test_no_size_in_the_header(data):
    assert declared_size(data) is None


def test_files_are_found_whatever_their_folder_and_address(tmp_path):
    (tmp_path / "a" / "folder.png").mkdir(parents=True)
    for name in ("top.png", "a/1.png", "a/stack.npy"):
        (tmp_path / name).touch()
    paths = ["top.png", "a/1.png", "a/1.png#window=0,9", "a/stack.npy#3"]
    assert are_missing(tmp_path, paths).tolist() == [False] * 4
    missing = ["a/2.png", "b/1.png", "1.png", "a/folder.png", "A/1.png"]
    assert are_missing(tmp_path, missing).tolist() == [True] * 5
    assert are_missing(tmp_path, []).tolist() == []
