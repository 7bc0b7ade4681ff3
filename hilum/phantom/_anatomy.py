"""The chest: what differs between patients, the outlines of one patient in one image, and its layers.

Side 0 is the patient's right lung (left in the image), side 1 the left one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hilum.phantom._canvas import Canvas, curve, xy

SIDES = (0, 1)
#: The sign of x on each side.
SIGN = (-1.0, 1.0)
RIBS = 9


class Patient(NamedTuple):
    """What is the same in all images of one patient; lengths in patient coordinates."""

    female: bool
    age: int
    half_width: float  # of the thorax, inside the ribs
    apex: float  # y of the top of the lungs
    base: float  # y of the costophrenic angles at full inspiration
    dome: float  # height of the diaphragm above them
    heart_ratio: float  # cardiothoracic ratio of the healthy heart
    heart_tilt: float
    habitus: float  # 0 thin … 1 obese
    breast: float
    bone: float  # density, 1 is average
    knob: float  # of the aorta
    rib_drop: float
    scoliosis: float
    carina: float


def draw_patient(rng: np.random.Generator, *, female: bool, age: int) -> Patient:
    """Draws the anatomy of a patient."""
    old = np.clip((age - 40) / 50, 0, 1)
    return Patient(
        female=female,
        age=age,
        half_width=float(np.clip(rng.normal(0.64 if female else 0.69, 0.03), 0.56, 0.76)),
        apex=float(rng.normal(-0.72, 0.025)),
        base=float(rng.normal(0.56, 0.035)),
        dome=float(np.clip(rng.normal(0.19, 0.03), 0.12, 0.26)),
        heart_ratio=float(rng.uniform(0.39, 0.463)),
        heart_tilt=float(rng.uniform(-0.04, 0.04)),
        habitus=float(rng.beta(2, 2.6)),
        breast=float(rng.uniform(0.25, 1.0)) if female else 0.0,
        bone=float(np.clip(rng.normal(1.08 - 0.2 * old, 0.1), 0.7, 1.35)),
        knob=float(rng.uniform(0.0, 0.025) + 0.035 * old),
        rib_drop=float(rng.uniform(0.19, 0.29)),
        scoliosis=float(rng.normal(0, 0.012)),
        carina=float(rng.normal(-0.2, 0.02)),
    )


@dataclass
class Chest:
    """The outlines of one patient in one frontal image, float32 arrays of shape (N, 2).

    The width of the heart over `2 * half_width` is the cardiothoracic ratio (Danzer 1919, Am J Med Sci 157:513).
    """

    patient: Patient
    portable: bool
    half_width: float
    shift: float  # of the midline
    lungs: list[np.ndarray] = field(default_factory=list)  # closed outlines, per side
    walls: list[np.ndarray] = field(default_factory=list)  # from the apex to the costophrenic angle
    domes: list[tuple[float, float]] = field(default_factory=list)  # top of each half of the diaphragm
    angles: list[tuple[float, float]] = field(default_factory=list)  # costophrenic angles
    hila: list[tuple[float, float]] = field(default_factory=list)  # roots of the lungs
    heart: np.ndarray = field(init=False)  # closed outline
    mediastinum: np.ndarray = field(init=False)  # closed outline of what is above the heart
    ribs: list[np.ndarray] = field(default_factory=list)  # posterior, from above: (ribs, points, 2) per side
    fronts: list[np.ndarray] = field(default_factory=list)  # anterior

    def wall_x(self, side: int, y: float | np.ndarray) -> np.ndarray:
        """X of the chest wall at height y."""
        wall = self.walls[side]
        return np.interp(y, wall[:, 1], wall[:, 0])


@dataclass
class Scene:
    """One frontal chest: its outlines and the layers that X-rays pass, float32 of shape (size, size)."""

    canvas: Canvas
    chest: Chest
    lungs: list[np.ndarray]  # coverage 0 … 1 of each lung, also in front of and behind the heart
    heart: np.ndarray  # coverage
    body: np.ndarray  # soft tissue along the ray
    air: np.ndarray  # along the ray, 0 … about 1
    fluid: np.ndarray  # the part of that air that fluid, cells or collapse replace, 0 … 1
    vessels: np.ndarray  # in the lungs; visible only against air
    tissue: np.ndarray  # added to the soft tissue
    bone: np.ndarray  # bone and metal

    def flood(self, fraction: np.ndarray) -> None:
        """Replaces this fraction, 0 … 1, of the air that is left."""
        self.fluid = 1 - (1 - self.fluid) * (1 - fraction)

    def attenuation(self) -> np.ndarray:
        """Attenuation along each ray, in units of its natural logarithm."""
        aerated = self.air * (1 - self.fluid)
        chest_wall = self.body * 2.35 + self.tissue + self.bone
        return np.maximum(chest_wall - 1.5 * aerated + 0.62 * self.vessels * aerated, 0)


def frontal_chest(
    patient: Patient,
    rng: np.random.Generator,  # of this image: inspiration and rotation
    *,
    portable: bool,  # an AP image taken in bed: magnified heart, shallow breath, rotation
    heart_ratio: float | None = None,  # cardiothoracic; None for the patient's healthy one
    wide_mediastinum: float = 0.0,  # 0 … 1
    raised: Sequence[float] = (0.0, 0.0),  # of each half of the diaphragm
) -> Chest:
    """The outlines of a patient in one frontal image."""
    shallow = rng.uniform(0.04, 0.19) if portable else rng.uniform(0.0, 0.06)
    turn = rng.normal(0, 0.022 if portable else 0.008)
    chest = Chest(patient, portable, patient.half_width, float(turn))
    for side in SIDES:
        _add_lung(chest, side, patient.base - shallow, raised[side])
    ratio = heart_ratio or patient.heart_ratio
    # An AP image magnifies the heart, which is far from the detector.
    _add_heart(chest, ratio + (0.02 if portable else 0.0))
    _add_mediastinum(chest, wide_mediastinum, 0.02 if portable else 0.0)
    for side in SIDES:
        _add_ribs(chest, side)
    return chest


def _add_lung(chest: Chest, side: int, base: float, raised: float) -> None:
    patient, width, sign = chest.patient, chest.half_width, SIGN[side]
    apex = patient.apex
    height = base - apex
    # The liver holds the right half of the diaphragm up; the heart presses on the left one.
    dome_y = base - patient.dome - (0.035 if side == 0 else 0.0) - raised
    angle_y = base - 0.35 * raised
    wall_y = [*(apex + height * np.array([0, 0.07, 0.24, 0.48, 0.78])), angle_y]
    wall = curve(xy([0.40, 0.62, 0.81, 0.93, 1.0, 0.985], wall_y))
    slope_y = dome_y + 0.45 * (angle_y - dome_y)
    floor_y = [angle_y, slope_y, *(dome_y + np.array([0.055, 0.006, 0, 0.022, 0.07]))]
    floor = curve(xy([0.985, 0.86, 0.70, 0.52, 0.37, 0.22, 0.06], floor_y))
    inner_y = [dome_y + 0.07, 0.0, -0.3, apex + 0.16, apex + 0.035, apex]
    inner = curve(xy([0.06, 0.10, 0.11, 0.14, 0.23, 0.40], inner_y))
    scale = np.array([sign * width, 1], np.float32)
    chest.walls.append(wall * scale)
    chest.lungs.append(np.vstack([wall, floor[1:], inner[1:]]) * scale)
    chest.domes.append((sign * 0.46 * width, dome_y))
    chest.angles.append((sign * 0.985 * width, angle_y))
    chest.hila.append((sign * 0.25 * width + chest.shift, patient.carina + (0.07 if side == 0 else 0.03)))


def _add_heart(chest: Chest, ratio: float) -> None:
    patient, shift = chest.patient, chest.shift
    full = 2 * chest.half_width * ratio
    right, left = -0.33 * full + shift, 0.67 * full + shift
    floor = chest.domes[1][1] + 0.085
    top = patient.carina + 0.06
    tall = floor - top
    apex_y = floor - (0.24 + patient.heart_tilt) * tall
    x = [
        *(right * np.array([0.45, 0.74, 1, 0.90, 0.3])),
        *(left * np.array([0.45, 0.88, 1, 0.88, 0.60, 0.36, 0.25])),
    ]
    y = [
        *(top, top + 0.26 * tall, top + 0.60 * tall, floor - 0.1 * tall, floor + 0.02, floor + 0.03),
        *(floor - 0.03, apex_y, apex_y - 0.22 * tall, apex_y - 0.46 * tall, top + 0.08 * tall, top),
    ]
    chest.heart = curve(xy([*x, x[0]], [*y, y[0]]))
    middle = chest.heart[:, 0]
    # The spline reaches a little further than its points: scale the heart to the exact ratio.
    half = full / (middle.max() - middle.min())
    chest.heart[:, 0] = (middle - shift) * half + shift


def _add_mediastinum(chest: Chest, wide: float, bed: float) -> None:
    patient, top = chest.patient, chest.patient.apex
    grow = 1 + 1.25 * wide
    half = (0.095 + bed) * grow
    knob = patient.knob * (1 + wide)
    down = chest.domes[1][1]
    right_x = [-half * 0.85, -half, -half * 1.2, -half * 1.25, -half, -0.09]
    right = xy(right_x, [top - 0.4, top + 0.12, -0.42, -0.22, 0.02, down])
    knob_x = [half * 1.2 + 0.025, half * 1.1, half * 1.25 + knob, half * 1.05 + 0.6 * knob]
    left_y = [down, 0.02, -0.13, -0.25, -0.34, -0.43, top + 0.1, top - 0.4]
    left = xy([0.09, half, *knob_x, half, half * 0.85], left_y)
    outline = np.vstack([curve(right), curve(left)])
    outline[:, 0] += chest.shift
    chest.mediastinum = outline


def _add_ribs(chest: Chest, side: int) -> None:
    patient, sign, width = chest.patient, SIGN[side], chest.half_width
    top, base = patient.apex - 0.02, chest.angles[side][1]
    pitch = (base - 0.06 - top) / (RIBS + 0.1)
    posterior, anterior = [], []
    for rib in range(RIBS):
        y = top + rib * pitch
        drop = patient.rib_drop * min(1.0, 0.42 + 0.13 * rib)
        turn_y = y + drop
        # Below the lungs the cage still widens.
        out = abs(float(chest.wall_x(side, turn_y))) + 0.012 + 0.5 * max(0.0, turn_y - base)
        start = 0.045
        span = out - start
        x = [*(start + span * np.array([0, 0.3, 0.62, 0.88])), out]
        posterior.append(xy(x, [y + 0.01, y - 0.005, y + 0.17 * drop, y + 0.55 * drop, turn_y]))
        if rib < RIBS - 1:
            end = width * (0.36 + 0.035 * rib)
            fall = drop * 0.75 + 0.03
            x = [out, out - 0.05 * span, 0.5 * (out + end), end]
            anterior.append(xy(x, turn_y + fall * np.array([0, 0.3, 0.85, 1])))
    mirror = np.array([sign, 1], np.float32)
    chest.ribs.append(curve(np.array(posterior), 4) * mirror)
    chest.fronts.append(curve(np.array(anterior), 4) * mirror)


_POINTS = 5
_TWIGS = 3


def branching(
    rng: np.random.Generator,
    root: tuple[float, float],  # where the stems start
    *,
    fan: tuple[float, float],  # range of the angles of the stems, in radians; 0 is to the right, pi / 2 down
    reach: float,  # length of a stem
    stems: int = 8,
    levels: int = 3,  # with the stems
) -> list[np.ndarray]:
    """Draws branching vessels or bronchi: an array of shape (branches, points, 2) per level, stems first."""
    angle = np.linspace(*fan, stems) + rng.normal(0, 0.12, stems)
    start = np.asarray(root) + rng.normal(0, 0.012, (stems, 2))
    length = reach * rng.uniform(0.65, 1.1, stems)
    branches = []
    along = np.linspace(0, 1, _POINTS)
    for _ in range(levels):
        bend = rng.normal(0, 0.38, len(angle))
        heading = angle[:, None] + bend[:, None] * along[None, 1:]
        step = (length / (_POINTS - 1))[:, None]
        moves = np.stack([np.cos(heading) * step, np.sin(heading) * step], axis=2)
        lines = np.concatenate([start[:, None], start[:, None] + np.cumsum(moves, axis=1)], axis=1)
        branches.append(lines.astype(np.float32))
        joint = rng.integers(1, _POINTS, (len(angle), _TWIGS))
        branch = np.arange(len(angle))[:, None]
        start = lines[branch, joint].reshape(-1, 2)
        side = rng.choice([-1.0, 1.0], joint.shape)
        angle = (heading[branch, joint - 1] + side * rng.uniform(0.3, 0.75, joint.shape)).ravel()
        length = (length[:, None] * rng.uniform(0.3, 0.6, joint.shape)).ravel()
    return branches
