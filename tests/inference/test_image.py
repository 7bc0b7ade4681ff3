"""Tests of hilum.inference.image."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from hilum.data.resize import resize
from hilum.errors import ImageError
from hilum.inference.image import Limits, PreparedImage, prepare_image
from hilum.sources.images import read_gray

PREPROCESSING = {"width": 32, "height": 32, "fit": "stretch", "interpolation": "auto"}


def prepared(data: bytes, name: str, **limits) -> PreparedImage:
    """An image prepared without a reference."""
    return prepare_image(data, name, PREPROCESSING, Limits(**limits))


def png(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """The bytes of an image file."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def header_only(columns: int, rows: int) -> bytes:
    """A small PNG whose header declares a large image."""
    body = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + body
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(body))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IEND\xaeB`\x82"
    )


def test_pixels_are_those_of_training(frontal):
    image = prepared(frontal.read_bytes(), frontal.name)
    np.testing.assert_array_equal(image.pixels, read_gray(frontal))
    np.testing.assert_array_equal(image.model_input, resize(read_gray(frontal), 32, 32))
    assert image.view is None
    assert [flag.code for flag in image.flags] == ["unknown-view"]


def test_16_bits_and_colour(gray):
    deep = prepared(png(gray.astype(np.uint16) * 257), "deep.png")
    np.testing.assert_array_equal(deep.pixels, gray)
    coloured = np.dstack([gray, gray // 2, 255 - gray])
    image = prepared(png(coloured), "photo.png")
    assert ("colour", True) in [(flag.code, flag.refused) for flag in image.flags]
    assert image.refused
    assert "colour" not in {flag.code for flag in prepared(png(np.dstack([gray] * 3)), "gray.png").flags}


@pytest.mark.parametrize(
    ("elements", "view"), [({}, "PA"), ({"ViewPosition": "AP"}, "AP"), ({"ViewPosition": "LL"}, "lateral")]
)
def test_dicom_and_its_view(as_dicom, gray, elements, view):
    image = prepared(as_dicom(gray, **elements), "a.dcm")
    np.testing.assert_array_equal(image.pixels, gray)
    assert image.view == view
    assert image.refused == (view == "lateral")


def test_dicom_is_inverted_and_windowed(as_dicom, gray):
    image = prepared(as_dicom(255 - gray, PhotometricInterpretation="MONOCHROME1"), "a.dcm")
    np.testing.assert_array_equal(image.pixels, gray)
    deep = as_dicom(
        gray.astype(np.uint16) * 16, WindowCenter=2048, WindowWidth=4096, BitsStored=12, HighBit=11
    )
    np.testing.assert_allclose(prepared(deep, "b.dcm").pixels.astype(int), gray, atol=1)


def test_patient_data_is_not_kept(as_dicom, gray):
    image = prepared(as_dicom(gray, ViewPosition="LL"), "a.dcm")
    assert "ecret" not in repr(image).lower()


def test_another_modality_is_refused_and_another_body_part_flagged(as_dicom, gray):
    found = prepared(as_dicom(gray, Modality="CT", BodyPartExamined="HAND"), "a.dcm").flags
    assert [(flag.code, flag.refused) for flag in found] == [("modality", True), ("body-part", False)]


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"", "unreadable", "x.png: the file is empty"),
        (b"<svg/>", "unreadable", "neither a PNG nor a JPEG nor a DICOM"),
        (b"PK\x03\x04" + b"0" * 400, "unreadable", "neither"),
        (header_only(50_000, 50_000), "too-large", "50,000 x 50,000"),
        (header_only(0, 7), "unreadable", "cannot be decoded"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff" + b"0" * 99 + b"\xff\xd9", "too-large", "65,535"),
    ],
)
def test_files_that_are_not_images_or_exceed_a_limit(data, code, text):
    with pytest.raises(ImageError, match=text) as caught:
        prepared(data, "x.png")
    assert caught.value.code == code


def test_truncated_and_too_large_files(gray):
    data = png(gray)
    with pytest.raises(ImageError, match="truncated") as caught:
        prepared(data[:-40], "cut.png")
    assert "data set" not in str(caught.value)
    with pytest.raises(ImageError, match="at most 100 are read") as caught:
        prepared(data, "long.png", file_bytes=100)
    assert caught.value.code == "too-large"


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"Rows": 60_000, "Columns": 60_000}, "too-large"),
        ({"PhotometricInterpretation": "RGB"}, "unsupported"),
        ({"PixelData": b"12"}, "unreadable"),
    ],
)
def test_dicoms_that_cannot_be_read(as_dicom, gray, elements, code):
    with pytest.raises(ImageError) as caught:
        prepared(as_dicom(gray, **elements), "a.dcm")
    assert caught.value.code == code
    assert "a.dcm" in str(caught.value)
    assert "ecret" not in str(caught.value).lower()


def test_a_deflated_dicom_is_refused(as_dicom, gray):
    with pytest.raises(ImageError, match="deflated") as caught:
        prepared(as_dicom(gray).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.1.99"), "a.dcm")
    assert caught.value.code == "unsupported"


def test_an_image_below_half_the_model_size_is_refused(gray):
    image = prepared(png(gray[:15, :40]), "small.png")
    assert image.refused
    assert "shorter side should have at least 16" in image.flags[0].message


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".dcm"])
def test_damaged_files_are_read_or_raise_an_image_error(as_dicom, gray, suffix):
    good = as_dicom(gray) if suffix == ".dcm" else png(gray, suffix)
    draw, outcomes = np.random.default_rng(5), []
    known = {"unreadable", "unsupported", "multi-frame", "too-large"}
    for _ in range(60):
        data = bytearray(good)
        for place in draw.integers(0, len(data), draw.integers(1, 12)):
            data[place] = draw.integers(256)
        data = data[: draw.integers(len(data) // 2, len(data) + 1)] if draw.random() < 0.3 else data
        try:
            image = prepared(bytes(data), f"bad{suffix}")
        except ImageError as error:
            outcomes.append((error.code in known, f"bad{suffix}" in str(error)))
        else:
            outcomes.append((image.model_input.shape == (32, 32), True))
    assert set(outcomes) == {(True, True)}
