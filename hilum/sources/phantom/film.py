"""From thickness to film: transmitted X-rays, scatter, quantum noise, and the display curve."""

from typing import NamedTuple

import numpy as np

from hilum.sources.phantom.canvas import Canvas


class Exposure(NamedTuple):
    """How a film was exposed and shown."""

    photons: float  # per pixel in open air: fewer, more noise
    scatter: float  # scattered over transmitted X-rays: more, less contrast
    gamma: float
    black: float  # how far below the darkest lung black lies, in parts of the range above it
    white: float  # percentile of the middle of the film that is shown white
    focus: float  # blur of the focal spot and of motion, in patient coordinates


def draw_exposure(rng: np.random.Generator, *, portable: bool) -> Exposure:
    """Draws an exposure; portable films have no grid, so more scatter, and move more."""
    if portable:
        return Exposure(
            photons=rng.uniform(7000, 25000),
            scatter=rng.uniform(0.25, 0.75),
            gamma=rng.uniform(0.75, 1.25),
            black=rng.uniform(0.22, 0.5),
            white=rng.uniform(96.0, 99.8),
            focus=rng.uniform(0.003, 0.008),
        )
    return Exposure(
        photons=rng.uniform(20000, 60000),
        scatter=rng.uniform(0.06, 0.2),
        gamma=rng.uniform(0.9, 1.25),
        black=rng.uniform(0.18, 0.38),
        white=rng.uniform(97.0, 99.5),
        focus=rng.uniform(0.002, 0.006),
    )


def expose(
    canvas: Canvas, attenuation: np.ndarray, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """The film of an attenuation map, uint8 of shape (size, size), dense tissue white.

    Transmission is exp(-attenuation) (Beer-Lambert). The display shows its negative logarithm, as
    digital radiography does, between levels taken from the middle of the film, through an S-curve.
    """
    transmitted = np.exp(-canvas.blur(attenuation, exposure.focus))
    scattered = canvas.blur(transmitted, 0.25) * exposure.scatter
    received = transmitted + scattered
    # For these counts, Poisson noise is Gaussian to the eye, and one draw per pixel.
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
