"""Augmentation agrees with torchvision's on the same parameters, and draws within its settings."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from hilum.config import AugmentationSettings
from hilum.data.augmentation import Augmentation, affine_matrix, augment, exposure_table

CHANGES = [(5.0, 0.05, -0.05, 5.0), (-5.0, -0.03, 0.02, -5.0), (30.0, 0.0, 0.0, 0.0), (0.0, 0.1, 0.1, 20.0)]


def radiograph() -> np.ndarray:
    """Smooth shapes with noise, 96 wide and 80 high, so that swapped axes show."""
    draw = np.random.default_rng(0)
    image = np.full((80, 96), 40.0, dtype=np.float32)
    cv2.ellipse(image, (30, 40), (18, 30), 8, 0, 360, 150.0, -1)
    cv2.ellipse(image, (70, 38), (15, 26), -5, 0, 360, 200.0, -1)
    image = cv2.GaussianBlur(image, (0, 0), 1.5) + draw.normal(0, 2, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(params=["synthetic", "NIH"])
def image(request) -> np.ndarray:
    if request.param == "synthetic":
        return radiograph()
    path = sorted((request.getfixturevalue("nih_sample") / "images").glob("*.png"))[0]
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def of_torchvision(pixels, degrees, shift_x, shift_y, shear) -> np.ndarray:
    height, width = pixels.shape
    warped = functional.affine(
        torch.from_numpy(pixels)[None].float(),
        angle=degrees,
        translate=[round(shift_x * width), round(shift_y * height)],
        scale=1.0,
        shear=[shear, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=0,
    )
    return warped[0].numpy()


@pytest.mark.parametrize("change", CHANGES)
def test_the_warp_is_that_of_torchvision_to_within_a_gray_level(image, change):
    expected = of_torchvision(image, *change)
    ours = augment(image, np.array([1, *change, 1, 1])).astype(np.float64)
    inside = of_torchvision(np.full_like(image, 255), *change) > 254
    assert inside.mean() > 0.5
    assert np.abs(ours - expected)[inside].mean() < 1
    # A warp the other way, or about another center, is many gray levels off.
    assert np.abs(image - expected)[inside].mean() > 2
    assert (ours[of_torchvision(np.full_like(image, 255), *change) == 0] == 0).all()


def test_the_warp_turns_clockwise_and_shifts_to_the_right_and_down():
    turned = affine_matrix((101, 101), 90, 0, 0, 0)
    np.testing.assert_allclose(turned @ [50, 10, 1], [90, 50], atol=1e-9)  # the top is now to the right
    shifted = affine_matrix((100, 200), 0, 0.1, 0.05, 0)
    np.testing.assert_allclose(shifted @ [0, 0, 1], [20, 5])


def exposed_by_torchvision(pixels, brightness, contrast) -> np.ndarray:
    scaled = torch.from_numpy(pixels)[None].double() / 255
    return (
        255
        * functional.adjust_contrast(functional.adjust_brightness(scaled, brightness), contrast)[0].numpy()
    )


@pytest.mark.parametrize(
    ("brightness", "contrast"), [(1.2, 0.9), (0.8, 1.1), (1.0, 1.0), (2.0, 0.0), (0.0, 1.5)]
)
def test_the_exposure_is_that_of_torchvision_to_within_a_gray_level(image, brightness, contrast):
    ours = cv2.LUT(image, exposure_table(image, brightness, contrast))
    assert np.abs(ours - exposed_by_torchvision(image, brightness, contrast)).max() <= 1


def test_draws_stay_within_their_limits_and_change_the_given_fraction():
    augmentation = Augmentation(AugmentationSettings(aug_fraction=0.3, shear_degrees=7))
    drawn = augmentation.draw(seed=1, epoch=1, count=20_000)
    assert drawn.shape == (20_000, 7)
    assert set(np.unique(drawn[:, 0])) == {0.0, 1.0}
    assert drawn[:, 0].mean() == pytest.approx(0.3, abs=0.015)  # over four standard errors
    low, high = drawn[:, 1:].min(axis=0), drawn[:, 1:].max(axis=0)
    np.testing.assert_allclose(low, [-5, -0.05, -0.05, -7, 0.8, 0.9], rtol=0.01)
    np.testing.assert_allclose(high, [5, 0.05, 0.05, 7, 1.2, 1.1], rtol=0.01)
    np.testing.assert_allclose(drawn[:, 1:].mean(axis=0), [0, 0, 0, 0, 1, 1], atol=0.12)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_no_or_all_images_change_at_the_ends_of_the_scale(fraction):
    drawn = Augmentation(AugmentationSettings(aug_fraction=fraction)).draw(0, 1, 500)
    assert drawn[:, 0].mean() == fraction


def test_draws_depend_on_seed_and_epoch_and_on_nothing_else():
    augmentation = Augmentation(AugmentationSettings(aug_fraction=0.5))
    first = augmentation.draw(3, 2, 50)
    np.random.default_rng(0).random(10)
    np.testing.assert_array_equal(first, augmentation.draw(3, 2, 50))
    assert not np.array_equal(first, augmentation.draw(3, 3, 50))
    assert not np.array_equal(first, augmentation.draw(4, 2, 50))


def test_an_image_that_is_not_drawn_stays_as_it_is():
    pixels = radiograph()
    assert augment(pixels, np.array([0, 30, 0.2, 0.2, 9, 1.5, 1.5])) is pixels


@pytest.mark.parametrize("start", [0, 4, 12, 4096])
def test_a_part_of_an_epoch_is_drawn_as_in_the_whole(start):
    augmentation = Augmentation(AugmentationSettings(aug_fraction=0.5))
    whole = augmentation.draw(3, 2, 5000)
    np.testing.assert_array_equal(augmentation.draw(3, 2, 30, start), whole[start : start + 30])
