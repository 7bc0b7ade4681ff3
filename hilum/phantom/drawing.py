"""One picture of one patient, from its description alone."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hilum.phantom.anatomy import Patient, draw_patient, frontal_chest
from hilum.phantom.canvas import Canvas
from hilum.phantom.cohort import OPACITIES
from hilum.phantom.findings import (
    DRAWN,
    Sites,
    add_devices,
    draw_sites,
    heart_ratio,
    raised_diaphragm,
)
from hilum.phantom.views import Scene, lateral_attenuation, paint_chest
from hilum.randomness import generator

_VIEWS_PER_STUDY = 8


@dataclass(frozen=True)
class Shot:
    """What is to be drawn.

    Attributes:
        seed: of the phantom.
        patient, study, view: numbers from 1.
        female: the patient's sex.
        age: in years.
        projection: "AP", "PA", "LL", "RL", or "" for a lateral view.
        severities: finding (canonical name) to severity, above 0 to 1; absent ones are not there.
        devices: names from `devices.DEVICES`.
    """

    seed: int
    patient: int
    study: int
    view: int
    female: bool
    age: int
    projection: str
    severities: dict[str, float] = field(default_factory=dict)
    devices: tuple[str, ...] = ()

    def generator(self, purpose: str) -> np.random.Generator:
        """Draws that belong to this picture alone."""
        return generator(
            self.seed, f"phantom/{purpose}", self.patient, self.study * _VIEWS_PER_STUDY + self.view
        )


def shot_patient(shot: Shot) -> Patient:
    """The anatomy of the patient, the same for all shots."""
    return draw_patient(
        generator(shot.seed, "phantom/anatomy", shot.patient), female=shot.female, age=shot.age
    )


def draw_shot(shot: Shot, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws a picture.

    Returns:
        The image, uint8 of shape (size, size), and for a frontal view a mask per finding, bool of
        the same shape, True where it shows. A lateral view has no masks.
    """
    portable = shot.projection in ("AP", "LL", "RL")
    canvas = _position(shot, size, portable)
    light = shot.generator("exposure")
    if shot.projection == "":
        attenuation = lateral_attenuation(
            canvas, shot_patient(shot), shot.severities, shot.generator("lateral")
        )
        return expose(canvas, attenuation, draw_exposure(light, portable=False), light), {}
    scene, masks = frontal_scene(shot, canvas)
    marker = canvas.detail()
    left = light.uniform() < 0.75
    canvas.letter(marker, "L" if left else "R", (0.80 if left else -0.93, light.uniform(-0.88, -0.6)), 0.09)
    attenuation = scene.attenuation() + 1.6 * canvas.settle(marker)
    image = expose(canvas, attenuation, draw_exposure(light, portable=portable), light)
    return image, {name: mask > 0.5 for name, mask in masks.items()}


def frontal_scene(shot: Shot, canvas: Canvas) -> tuple[Scene, dict[str, np.ndarray]]:
    """The layers of a frontal view with its findings and devices, and where each finding shows."""
    severities = shot.severities
    sites: Sites = draw_sites(generator(shot.seed, "phantom/sites", shot.patient))
    lift = [0.0, 0.0]
    lift[sites.atelectasis] = raised_diaphragm(severities.get("Atelectasis", 0.0))
    enlarged = severities.get("Cardiomegaly")
    chest = frontal_chest(
        shot_patient(shot),
        shot.generator("posture"),
        portable=shot.projection != "PA",
        heart_ratio=None if enlarged is None else heart_ratio(enlarged),
        wide_mediastinum=severities.get("Enlarged_Cardiomediastinum", 0.0),
        raised=(lift[0], lift[1]),
    )
    scene = paint_chest(canvas, chest, shot.generator("vessels"))
    masks = {}
    for name, draw in DRAWN.items():
        if name in severities:
            masks[name] = draw(scene, severities[name], sites, shot.generator(name))
    found = [masks[name] for name in OPACITIES if name in masks]
    if found and "Lung_Opacity" not in masks:
        masks["Lung_Opacity"] = np.maximum.reduce(found)
    add_devices(scene, shot.devices, shot.generator("devices"))
    return scene, masks


def _position(shot: Shot, size: int, portable: bool) -> Canvas:
    rng = shot.generator("position")
    loose = 2.2 if portable else 1.0
    return Canvas(
        size,
        zoom=float(rng.uniform(1.03, 1.2) if portable else rng.uniform(1.06, 1.18)),
        degrees=float(rng.normal(0, 1.2 * loose)),
        shift=tuple(rng.normal((0, 0.06), 0.018 * loose)),
    )


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
