"""The image plane: patient coordinates, anti-aliased areas and lines, blur, noise and the exposure.

Patient coordinates: x to the right of the image (the patient's left), y downwards, both about -1 … 1 over the image,
the midline at x = 0. Lengths are in these units.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

#: Lines are drawn on a plane with this many times the resolution, then averaged: thin ones stay thin.
_FINER = 2
_FRACTION_BITS = 4


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.meshgrid(centres, centres)


@lru_cache(maxsize=8)
def _spline_basis(steps: int) -> np.ndarray:
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)
    weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
    return np.stack(weights, axis=1) / 2


def xy(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Points of shape (..., K, 2) from their coordinates of shape (..., K)."""
    return np.stack([x, y], axis=-1)


def ellipse(
    x: float, y: float, radius_x: float, radius_y: float, steps: int = 32, closed: bool = False
) -> np.ndarray:
    """Points of an ellipse around (x, y), float64 of shape (steps, 2); `closed` ends it at its start."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=closed)
    return xy(x + radius_x * np.cos(angle), y + radius_y * np.sin(angle))


def curve(points: ArrayLike, steps: int = 6) -> np.ndarray:
    """Smooth lines through points: Catmull-Rom splines.

    The points have shape (..., K, 2): one line, or several with the same number of points. Between two points the line
    has `steps` points: it is float32 of shape (..., (K - 1) * steps + 1, 2).
    """
    knots = np.asarray(points, dtype=np.float32)
    *lines, count, _ = knots.shape
    padded = np.empty((*lines, count + 2, 2), np.float32)
    padded[..., 1:-1, :] = knots
    padded[..., 0, :] = 2 * knots[..., 0, :] - knots[..., 1, :]
    padded[..., -1, :] = 2 * knots[..., -1, :] - knots[..., -2, :]
    spans = np.stack([padded[..., i : count - 1 + i, :] for i in range(4)], axis=-2)
    line = np.empty((*lines, (count - 1) * steps + 1, 2), np.float32)
    line[..., :-1, :] = (_spline_basis(steps) @ spans).reshape(*lines, -1, 2)
    line[..., -1, :] = knots[..., -1, :]
    return line


def ribbons(lines: np.ndarray, width: float) -> np.ndarray:
    """Outlines of bands along lines: (..., points, 2) becomes (..., 2 * points, 2)."""
    along = np.empty_like(lines)
    along[..., 1:-1, :] = lines[..., 2:, :] - lines[..., :-2, :]
    along[..., 0, :] = lines[..., 1, :] - lines[..., 0, :]
    along[..., -1, :] = lines[..., -1, :] - lines[..., -2, :]
    along *= (width / 2) / np.hypot(along[..., :1], along[..., 1:])
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    return np.concatenate([lines + across, (lines - across)[..., ::-1, :]], axis=-2)


def ramp(values: np.ndarray, start: float | np.ndarray, end: float | np.ndarray) -> np.ndarray:
    """0 before `start`, 1 after `end`, smooth between; `end` may be below `start`."""
    t = np.clip((values - start) * (1 / (end - start)), 0, 1)
    return t * t * (3 - 2 * t)


class Canvas:
    """A square image; `x` and `y` are the patient coordinates of its pixels' centres, float32 of shape (size, size)."""

    def __init__(
        self, size: int, *, zoom: float = 1.0, degrees: float = 0.0, shift: Sequence[float] = (0.0, 0.0)
    ):
        self.size = size
        angle = np.deg2rad(degrees)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._matrix = (zoom * rotation).astype(np.float32)
        self._shift = np.asarray(shift, dtype=np.float32)
        image_x, image_y = _grid(size)
        inverse = np.linalg.inv(self._matrix)
        dx, dy = image_x - self._shift[0], image_y - self._shift[1]
        self.x = inverse[0, 0] * dx + inverse[0, 1] * dy
        self.y = inverse[1, 0] * dx + inverse[1, 1] * dy

    def _fixed_point(self, points: np.ndarray, side: int) -> np.ndarray:
        """Points in OpenCV's fixed-point pixels on a plane of `side` pixels."""
        image = np.asarray(points, dtype=np.float32) @ self._matrix.T + self._shift
        return np.rint(((image + 1) * (side / 2) - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)

    def area(self, *outlines: np.ndarray) -> np.ndarray:
        """Coverage 0 … 1 of the union of closed outlines, float32 of shape (size, size)."""
        plane = np.zeros((self.size, self.size), np.uint8)
        for outline in outlines:
            cv2.fillPoly(plane, [self._fixed_point(outline, self.size)], 255, cv2.LINE_AA, _FRACTION_BITS)
        return plane.astype(np.float32) * np.float32(1 / 255)

    def fine_plane(self) -> np.ndarray:
        """An empty plane of higher resolution for `lines` and `fill`, uint8."""
        return np.zeros((self.size * _FINER, self.size * _FINER), np.uint8)

    def downsample(self, plane: np.ndarray) -> np.ndarray:
        """A fine plane averaged to the image, float32 0 … 1 of shape (size, size)."""
        small = cv2.resize(plane, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) * np.float32(1 / 255)

    def lines(self, plane: np.ndarray, lines: Iterable[np.ndarray], width: float, value: float) -> None:
        """Draws open lines of this width and density 0 … 1 on a fine plane."""
        side = plane.shape[0]
        exact = width * side / 2
        thickness = max(1, round(exact))
        density = round(255 * value * min(1.0, exact / thickness))
        paths = [self._fixed_point(line, side) for line in lines]
        cv2.polylines(plane, paths, False, density, thickness, cv2.LINE_AA, _FRACTION_BITS)

    def fill(self, plane: np.ndarray, outlines: np.ndarray, value: float) -> None:
        """Fills a closed outline, or an array of several apart, with density 0 … 1 on a fine plane."""
        points = self._fixed_point(outlines, plane.shape[0])
        paths = list(points) if points.ndim == 3 else [points]
        cv2.fillPoly(plane, paths, round(255 * value), cv2.LINE_AA, _FRACTION_BITS)

    def write(self, plane: np.ndarray, text: str, at: tuple[float, float], height: float) -> None:
        """Writes a side marker at image coordinates -1 … 1, independent of the patient's position."""
        side = plane.shape[0]
        corner = (int((at[0] + 1) * side / 2), int((at[1] + 1) * side / 2))
        scale = height * side / 2 / 22
        thickness = max(1, round(scale * 3))
        cv2.putText(plane, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)

    def blur(self, layer: np.ndarray, radius: float) -> np.ndarray:
        """Gaussian blur with a standard deviation of `radius`."""
        sigma = radius * self.size / 2
        if sigma < 0.3:
            return layer
        if sigma <= 4:
            return cv2.GaussianBlur(layer, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        # A wide blur has no fine detail: a quarter of the pixels each way is enough.
        side = max(8, self.size // 4)
        small = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), radius * side / 2, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(small, (self.size, self.size), interpolation=cv2.INTER_LINEAR)

    def noise(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Smooth noise around 0 with a standard deviation of about 1; `grain` is the size of its blobs."""
        cells = max(3, round(2 / grain))
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        return cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC)

    def spot(self, centre: Sequence[float], radius_x: float, radius_y: float) -> np.ndarray:
        """A Gaussian spot with a peak of 1 and these standard deviations."""
        across, down = (self.x - centre[0]) / radius_x, (self.y - centre[1]) / radius_y
        return np.exp(-0.5 * (across**2 + down**2))


class Exposure(NamedTuple):
    """How an image is exposed and displayed."""

    photons: float  # per pixel in open air: fewer, more noise
    scatter: float  # scattered over transmitted X-rays: more, less contrast
    gamma: float
    black: float  # distance of black below the darkest lung, relative to the range above it
    white: float  # percentile of the middle of the image that is white
    focus: float  # blur of the focal spot and of motion, in patient coordinates


#: The range of each value of `Exposure`: in bed (no grid, so more scatter; and more motion), and upright.
_PORTABLE = ((7000, 25000), (0.25, 0.75), (0.75, 1.25), (0.22, 0.5), (96.0, 99.8), (0.003, 0.008))
_UPRIGHT = ((20000, 60000), (0.06, 0.2), (0.9, 1.25), (0.18, 0.38), (97.0, 99.5), (0.002, 0.006))


def draw_exposure(rng: np.random.Generator, *, portable: bool) -> Exposure:
    """Draws an exposure."""
    return Exposure(*(rng.uniform(low, high) for low, high in (_PORTABLE if portable else _UPRIGHT)))


def expose(
    canvas: Canvas, attenuation: np.ndarray, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """The image of an attenuation map, uint8 of shape (size, size), dense tissue white.

    Transmission is exp(-attenuation) (Beer-Lambert). The display shows its negative logarithm, as digital radiography
    does, between levels from the middle of the image, through an S-curve.
    """
    transmitted = np.exp(-canvas.blur(attenuation, exposure.focus))
    scattered = canvas.blur(transmitted, 0.25) * exposure.scatter
    received = transmitted + scattered
    # For these counts, Poisson noise is nearly Gaussian: one draw per pixel.
    noise = rng.standard_normal(received.shape, dtype=np.float32)
    received += noise * np.sqrt(received * np.float32(1 / exposure.photons))
    density = -np.log(np.maximum(received, 1e-4))
    edge = canvas.size // 10
    middle = density[edge:-edge:2, edge:-edge:2]
    lung, high = np.percentile(middle, (3, exposure.white))
    low = lung - exposure.black * (high - lung)
    shown = np.clip((density - low) / (high - low), 0, 1) ** np.float32(exposure.gamma)
    shown = 0.55 * shown + 0.45 * shown * shown * (3 - 2 * shown)
    return np.rint(np.clip(shown, 0, 1) * 250 + 2).astype(np.uint8)
