"""Tests of hilum.sources.declared_size."""

import cv2
import numpy as np
import pytest

from hilum.sources.declared_size import declared_size


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_it_is_what_the_encoder_wrote(suffix):
    data = cv2.imencode(suffix, np.zeros((37, 53), np.uint8))[1].tobytes()
    assert declared_size(data) == (37, 53)


def test_jpeg_2000_counts_from_its_offset():
    sizes = b"".join(value.to_bytes(4, "big") for value in (60, 45, 10, 5))
    assert declared_size(b"\xff\x4f\xff\x51\x00\x29\x00\x00" + sizes) == (40, 50)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"GIF89a"])
def test_what_says_nothing(data):
    assert declared_size(data) is None
