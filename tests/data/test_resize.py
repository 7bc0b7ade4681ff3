"""An image is resized as the settings state: stretched, in a box, or its center."""

import cv2
import numpy as np
import pytest

from hilum.data.resize import resize
from hilum.errors import HilumError


@pytest.fixture
def pixels() -> np.ndarray:
    """Noise, 8 high and 12 wide."""
    return np.random.default_rng(0).integers(1, 256, (8, 12), dtype=np.uint8)


def test_shrinking_averages_areas(pixels):
    expected = pixels.reshape(4, 2, 6, 2).mean(axis=(1, 3))
    assert np.abs(resize(pixels, 6, 4) - expected).max() <= 0.5


def test_an_area_that_cuts_pixels_weighs_them_by_their_share(pixels):
    along = resize(pixels[:1], 8, 1, interpolation="area")  # each new pixel covers one and a half
    expected = (pixels[0, 0] + 0.5 * pixels[0, 1]) / 1.5
    assert along[0, 0] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("width", "height", "averages"), [(6, 8, True), (7, 8, False), (5, 4, True)])
def test_areas_are_averaged_from_half_the_size_on(pixels, width, height, averages):
    flag = cv2.INTER_AREA if averages else cv2.INTER_LINEAR
    expected = cv2.resize(pixels, (width, height), interpolation=flag)
    np.testing.assert_array_equal(resize(pixels, width, height), expected)


@pytest.mark.parametrize(("width", "height"), [(24, 16), (24, 4), (6, 16)])
def test_growing_either_way_interpolates(pixels, width, height):
    expected = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(pixels, width, height), expected)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC), ("nearest", cv2.INTER_NEAREST)],
)
def test_the_other_interpolations_are_opencvs(pixels, name, flag):
    np.testing.assert_array_equal(
        resize(pixels, 5, 7, interpolation=name), cv2.resize(pixels, (5, 7), interpolation=flag)
    )


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_an_image_of_the_right_size_is_returned_unchanged(pixels, fit):
    assert resize(pixels, 12, 8, fit) is pixels


def test_a_letterbox_keeps_the_proportions_between_black_bars(pixels):
    boxed = resize(pixels, 6, 6, "letterbox")
    assert boxed.shape == (6, 6)
    assert not boxed[0].any()
    assert not boxed[5].any()
    np.testing.assert_array_equal(boxed[1:5], resize(pixels, 6, 4))
    on_its_side = resize(np.ascontiguousarray(pixels.T), 6, 6, "letterbox")
    np.testing.assert_array_equal(on_its_side, boxed.T)


def test_a_crop_takes_the_center_in_the_right_proportions(pixels):
    np.testing.assert_array_equal(resize(pixels, 8, 8, "crop"), pixels[:, 2:10])
    np.testing.assert_array_equal(resize(pixels, 4, 4, "crop"), resize(pixels[:, 2:10].copy(), 4, 4))
    np.testing.assert_array_equal(resize(pixels, 12, 4, "crop"), pixels[2:6])


@pytest.mark.parametrize("shape", [(1, 500), (500, 1)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_the_longest_strip_still_has_a_pixel(shape, fit):
    resized = resize(np.full(shape, 200, dtype=np.uint8), 16, 20, fit)
    assert resized.shape == (20, 16)
    assert (resized == 200).any()


@pytest.mark.parametrize(("setting", "value"), [("fit", "strech"), ("interpolation", "bilinear")])
def test_an_unknown_setting_is_named_with_what_is_known(pixels, setting, value):
    with pytest.raises(HilumError, match=f"{setting} is '{value}'.*It may be"):
        resize(pixels, 4, 4, **{setting: value})
