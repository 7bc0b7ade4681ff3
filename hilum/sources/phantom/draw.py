"""One picture of one patient, from its description alone."""

from dataclasses import dataclass, field

import numpy as np

from hilum.randomness import generator
from hilum.sources.phantom.anatomy import Patient, draw_patient, frontal_chest
from hilum.sources.phantom.canvas import Canvas
from hilum.sources.phantom.devices import add_devices
from hilum.sources.phantom.film import draw_exposure, expose
from hilum.sources.phantom.findings import (
    DRAWN,
    OPACITIES,
    Sites,
    draw_sites,
    heart_ratio,
    raised_diaphragm,
)
from hilum.sources.phantom.frontal import Scene, paint_chest
from hilum.sources.phantom.lateral import lateral_attenuation

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
