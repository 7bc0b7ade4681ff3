"""The picture plane: patient coordinates, anti-aliased areas and lines, blur and mottle.

Patient coordinates: x to the right of the image (the patient's left), y downwards, both about
-1 … 1 over the film, the midline at x = 0. Angles and lengths are in these units.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

#: Lines are drawn on a plane this many times as fine, then averaged: thin ones stay thin.
DETAIL = 2
_FRACTION_BITS = 4


@lru_cache(maxsize=8)
def _film_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.meshgrid(centres, centres)


@lru_cache(maxsize=8)
def _spline_basis(steps: int) -> np.ndarray:
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)
    weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
    return np.stack(weights, axis=1) / 2


def curve(points: Sequence[Sequence[float]], steps: int = 6) -> np.ndarray:
    """Smooth lines through points: Catmull-Rom splines.

    Args:
        points: of shape (..., K, 2): one line, or several with as many points each.
        steps: points of the line between two given ones.

    Returns:
        float32 of shape (..., (K - 1) * steps + 1, 2).
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


def ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before `start`, 1 after `end`, smooth between; `end` may lie below `start`."""
    t = np.clip((values - start) * (1 / (end - start)), 0, 1)
    return t * t * (3 - 2 * t)


class Canvas:
    """A square film with a patient before it.

    Attributes:
        size: side of the film in pixels.
        x, y: patient coordinates of the pixel centres, float32 of shape (size, size).
    """

    def __init__(self, size: int, *, zoom: float = 1.0, degrees: float = 0.0, shift=(0.0, 0.0)):
        self.size = size
        angle = np.deg2rad(degrees)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._matrix = (zoom * rotation).astype(np.float32)
        self._shift = np.asarray(shift, dtype=np.float32)
        film_x, film_y = _film_grid(size)
        inverse = np.linalg.inv(self._matrix)
        dx, dy = film_x - self._shift[0], film_y - self._shift[1]
        self.x = inverse[0, 0] * dx + inverse[0, 1] * dy
        self.y = inverse[1, 0] * dx + inverse[1, 1] * dy

    def _fixed_point(self, points: np.ndarray, side: int) -> np.ndarray:
        film = np.asarray(points, dtype=np.float32) @ self._matrix.T + self._shift
        return np.rint(((film + 1) * (side / 2) - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)

    def area(self, *outlines: np.ndarray) -> np.ndarray:
        """Coverage 0 … 1 of the union of closed outlines, float32 of shape (size, size)."""
        plane = np.zeros((self.size, self.size), np.uint8)
        for outline in outlines:
            cv2.fillPoly(plane, [self._fixed_point(outline, self.size)], 255, cv2.LINE_AA, _FRACTION_BITS)
        return plane.astype(np.float32) * np.float32(1 / 255)

    def detail(self) -> np.ndarray:
        """An empty fine plane for `lines` and `patch`, uint8."""
        return np.zeros((self.size * DETAIL, self.size * DETAIL), np.uint8)

    def lines(self, plane: np.ndarray, lines: Sequence[np.ndarray], width: float, value: float) -> None:
        """Draws open lines of the given width and density 0 … 1 on a fine plane.

        Several lines of equal length are drawn fastest as one array of shape (lines, points, 2).
        """
        if not len(lines):
            return
        side = plane.shape[0]
        exact = width * side / 2
        thickness = max(1, round(exact))
        density = round(255 * value * min(1.0, exact / thickness))
        if isinstance(lines, np.ndarray):
            paths = list(self._fixed_point(lines, side))
        else:
            joined, paths, start = self._fixed_point(np.concatenate(lines), side), [], 0
            for line in lines:
                paths.append(joined[start : start + len(line)])
                start += len(line)
        cv2.polylines(plane, paths, False, density, thickness, cv2.LINE_AA, _FRACTION_BITS)

    def patch(self, plane: np.ndarray, outlines: np.ndarray, value: float) -> None:
        """Fills a closed outline, or an array of several apart, with density 0 … 1 on a fine plane."""
        paths = self._fixed_point(outlines, plane.shape[0])
        paths = list(paths) if paths.ndim == 3 else [paths]
        cv2.fillPoly(plane, paths, round(255 * value), cv2.LINE_AA, _FRACTION_BITS)

    def letter(self, plane: np.ndarray, text: str, at: tuple[float, float], height: float) -> None:
        """Writes a side marker at film coordinates -1 … 1, whatever the patient's position."""
        side = plane.shape[0]
        corner = tuple(int((value + 1) * side / 2) for value in at)
        scale = height * side / 2 / 22
        cv2.putText(
            plane, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, max(1, round(scale * 3)), cv2.LINE_AA
        )

    def settle(self, plane: np.ndarray) -> np.ndarray:
        """A fine plane averaged to the film, float32 0 … 1 of shape (size, size)."""
        small = cv2.resize(plane, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) * np.float32(1 / 255)

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

    def mottle(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Smooth noise around 0 with a standard deviation of about 1; `grain` is the blob's size."""
        cells = max(3, round(2 / grain))
        seeds = rng.standard_normal((cells, cells), dtype=np.float32)
        return cv2.resize(seeds, (self.size, self.size), interpolation=cv2.INTER_CUBIC)

    def spot(self, centre: Sequence[float], radius_x: float, radius_y: float) -> np.ndarray:
        """A Gaussian spot with a peak of 1 and these standard deviations."""
        return np.exp(
            -0.5 * (((self.x - centre[0]) / radius_x) ** 2 + ((self.y - centre[1]) / radius_y) ** 2)
        )
