"""Tests of hilum.inference.quality_checks."""

import cv2
import numpy as np
import pytest

from hilum.inference.quality_checks import average_chest, check_quality, measure_reference
from hilum.sources.images import read_gray

PREPROCESSING = {
    "width": 64,
    "height": 64,
    "fit": "stretch",
    "interpolation": "auto",
    "views": {"PA": 9, "AP": 0},
}


@pytest.fixture(scope="module")
def images(phantom) -> list[np.ndarray]:
    """The phantom's frontal views."""
    return [read_gray(path) for path in sorted(phantom.rglob("*_frontal.jpg"))]


@pytest.fixture(scope="module")
def preprocessing(images) -> dict:
    """With half of them as the reference."""
    return PREPROCESSING | {"reference": measure_reference(images[::2], PREPROCESSING)}


def codes(pixels: np.ndarray, preprocessing: dict, view: str | None = "PA") -> set[str]:
    """The codes of an image's flags."""
    return {
        flag.code for flag in check_quality(pixels, cv2.resize(pixels, (64, 64)), view, {}, preprocessing)
    }


def test_negatives_and_turned_images_are_recognized(images, preprocessing):
    others = images[1::2]
    assert sum(bool({"inverted", "turned"} & codes(image, preprocessing)) for image in others) == 0
    assert all("inverted" in codes(255 - image, preprocessing) for image in others)
    assert all("turned" in codes(np.rot90(image).copy(), preprocessing) for image in others)


def test_real_frontal_images_pass_and_their_negatives_do_not(nih_sample):
    real = [read_gray(path) for path in sorted((nih_sample / "images").iterdir())[:120]]
    known = PREPROCESSING | {"reference": measure_reference(real[::2], PREPROCESSING)}
    assert sum("inverted" in codes(image, known) for image in real[1::2]) == 0
    assert sum("inverted" in codes(255 - image, known) for image in real[1::2]) >= 57


def test_blank_images_and_unusual_gray_levels(images, preprocessing):
    assert codes(np.full((64, 64), 90, np.uint8), preprocessing) == {"blank"}
    assert "gray-levels" in codes(images[1] // 4, preprocessing)


def test_views(images, preprocessing):
    assert codes(images[1], preprocessing, "AP") == {"other-view"}
    assert codes(images[1], preprocessing, None) == {"unknown-view"}
    assert "lateral" in codes(images[1], preprocessing, "lateral")


def test_images_below_the_model_size_are_flagged_and_below_half_of_it_refused(images, preprocessing):
    def small(rows, columns, **changed):
        pixels = cv2.resize(images[1], (columns, rows))
        found = check_quality(pixels, images[1], "PA", {}, preprocessing | changed)
        return [(flag.code, flag.refused) for flag in found if "small" in flag.code]

    assert small(31, 40) == [("too-small", True)]
    assert small(32, 40) == small(40, 40) == small(63, 64) == small(64, 63) == [("small", False)]
    assert small(64, 64) == small(90, 70) == []
    assert small(63, 64, fit="letterbox") == []  # nothing is enlarged
    assert small(63, 63, fit="letterbox") == [("small", False)]
    (flag,) = (
        f for f in check_quality(images[1][:40, :40], images[1], "PA", {}, preprocessing) if f.code == "small"
    )
    assert flag.message == "The image is 40 x 40 pixels, smaller than the model's size (64 x 64); enlarged."


def test_the_average_chest_has_the_brightness_and_contrast_of_the_image():
    prepared = np.random.default_rng(0).integers(100, 140, (48, 64)).astype(np.uint8)
    mean_image = np.linspace(-1, 1, 256).reshape(16, 16).tolist()
    average = average_chest(prepared, mean_image)
    assert average.shape == (48, 64)
    assert average.dtype == np.float32
    assert average.mean() == pytest.approx(prepared.mean(), abs=0.1)
    assert average.std() == pytest.approx(prepared.std(), abs=0.1)
    assert average[0, 0] < average[-1, -1]


def test_the_average_chest_of_a_blank_image_or_a_blank_mean_is_blank():
    assert (average_chest(np.full((8, 8), 90, np.uint8), np.eye(16).tolist()) == 90).all()
    assert (average_chest(np.eye(8, dtype=np.uint8), np.zeros((16, 16)).tolist()) == 1 / 8).all()
