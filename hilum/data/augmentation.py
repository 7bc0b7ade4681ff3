"""Random affine warps and exposure changes of 8-bit images."""

from dataclasses import dataclass

import cv2
import numpy as np

from hilum.config import AugmentationSettings
from hilum.randomness import generator


@dataclass(frozen=True)
class Augmentation:
    """Draws the changes of an epoch's images: uniform within the limits of the settings."""

    settings: AugmentationSettings

    def draw(self, seed: int, epoch: int, count: int, start: int = 0) -> np.ndarray:
        """The changes of some positions of an epoch; each position has the same values in every call.

        Args:
            seed: of the run.
            epoch: number of the epoch.
            count: number of positions.
            start: the first position, a multiple of four.

        Returns:
            float64 array of shape (count, 7): whether the image is changed (0 or 1), degrees, horizontal
            and vertical shift as fractions, shear in degrees, brightness and contrast factors.
        """
        assert start % 4 == 0  # Philox makes four numbers at each step of its counter
        draw = generator(seed, "augment", epoch)
        assert isinstance(draw.bit_generator, np.random.Philox)
        draw.bit_generator.advance(start * 7 // 4)
        uniform = draw.random((count, 7))
        within = 2 * uniform[:, 1:] - 1
        limits = self.settings
        shift = limits.translate_fraction
        return np.column_stack(
            [
                uniform[:, 0] < limits.aug_fraction,
                within[:, :4] * [limits.affine_degrees, shift, shift, limits.shear_degrees],
                1 + within[:, 4] * limits.brightness_jitter,
                1 + within[:, 5] * limits.contrast_jitter,
            ]
        )


def augment(pixels: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """One affine warp (bilinear, black outside the image) and one lookup table.

    Args:
        pixels: uint8 (height, width).
        drawn: a row of `Augmentation.draw`.
    """
    changed, degrees, shift_x, shift_y, shear, brightness, contrast = drawn
    if not changed:
        return pixels
    height, width = pixels.shape
    matrix = affine_matrix((height, width), degrees, shift_x, shift_y, shear)
    warped = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return cv2.LUT(warped, exposure_table(warped, brightness, contrast))


def affine_matrix(
    shape: tuple[int, int], degrees: float, shift_x: float, shift_y: float, shear_degrees: float
) -> np.ndarray:
    """Source to destination pixel coordinates: shear, then rotate about the center, then shift.

    The composition and its signs are those of torchvision's `affine`.

    Args:
        shape: (height, width).
        degrees: rotation, clockwise as seen.
        shift_x: fraction of the width, to the right; rounded to whole pixels.
        shift_y: fraction of the height, down; rounded to whole pixels.
        shear_degrees: along the rows.

    Returns:
        float64 (2, 3), as `cv2.warpAffine` takes it.
    """
    height, width = shape
    angle, shear = np.deg2rad(degrees), np.tan(np.deg2rad(shear_degrees))
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.array([[cosine, -cosine * shear - sine], [sine, -sine * shear + cosine]])
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = np.round([shift_x * width, shift_y * height])
    return np.column_stack([linear, center + shift - linear @ center])


def exposure_table(pixels: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """Brightness, then contrast about the brightened image's mean, for each of the 256 gray levels."""
    levels = np.clip(np.arange(256) * brightness, 0, 255)
    counts = cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel()
    mean = counts @ levels / pixels.size
    return np.clip(np.rint(contrast * levels + (1 - contrast) * mean), 0, 255).astype(np.uint8)
