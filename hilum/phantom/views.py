"""Paints the healthy frontal chest as layers of what X-rays meet on their way."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from hilum.phantom.anatomy import SIDES, SIGN, Chest, Patient, branching
from hilum.phantom.canvas import Canvas, curve, ramp, ribbons
from hilum.phantom.cohort import OPACITIES


@dataclass
class Scene:
    """One frontal chest before the film: outlines and layers, float32 of shape (size, size).

    Attributes:
        lungs: coverage 0 … 1 of each lung, in front of and behind the heart too.
        heart: coverage of the heart.
        body: soft tissue along the ray.
        air: air along the ray, 0 … about 1.
        fluid: the part of that air that fluid, cells or collapse replace, 0 … 1.
        vessels: vessels in the lungs; they show only against air.
        tissue: what is added to the soft tissue.
        bone: bone and metal.
    """

    canvas: Canvas
    chest: Chest
    lungs: list[np.ndarray]
    heart: np.ndarray
    body: np.ndarray
    air: np.ndarray
    fluid: np.ndarray
    vessels: np.ndarray
    tissue: np.ndarray
    bone: np.ndarray

    def flood(self, fraction: np.ndarray) -> None:
        """Replaces this fraction, 0 … 1, of the air that is left."""
        self.fluid = 1 - (1 - self.fluid) * (1 - fraction)

    def attenuation(self) -> np.ndarray:
        """Attenuation along each ray, in units of its natural logarithm."""
        aerated = self.air * (1 - self.fluid)
        chest_wall = self.body * 2.35 + self.tissue + self.bone
        return np.maximum(chest_wall - 1.5 * aerated + 0.62 * self.vessels * aerated, 0)


def paint_chest(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Scene:
    """The layers of a healthy chest; `rng` draws vessels and texture."""
    lungs = [canvas.area(outline) for outline in chest.lungs]
    heart = canvas.area(chest.heart)
    middle = np.maximum(heart, canvas.area(chest.mediastinum))
    body = _body(canvas, chest)
    scene = Scene(
        canvas=canvas,
        chest=chest,
        lungs=lungs,
        heart=heart,
        body=body,
        air=_air(canvas, lungs, middle, body),
        fluid=np.zeros_like(heart),
        vessels=_vessels(canvas, chest, rng),
        tissue=_soft_tissue(canvas, chest, heart, middle),
        bone=_skeleton(canvas, chest),
    )
    _airways(scene)
    _bowel_gas(scene, rng)
    scene.tissue += (
        0.02 * canvas.mottle(rng, 0.025) + 0.025 * canvas.mottle(rng, 0.08) + 0.045 * canvas.mottle(rng, 0.5)
    )
    return scene


def _body(canvas: Canvas, chest: Chest) -> np.ndarray:
    patient, width = chest.patient, chest.half_width
    flank = width + 0.09 + 0.15 * patient.habitus
    neck = 0.21 + 0.05 * patient.habitus
    rise = -0.06 if chest.portable else 0.0  # shoulders shrug in bed
    side = [
        (neck, -1.6),
        (neck * 0.95, -0.98),
        (neck + 0.16, -0.83 + rise),
        (0.72, -0.74 + rise),
        (0.98, -0.60 + rise),
        (1.30, -0.30),
    ]
    trunk = [(flank + 0.02, -0.30), (flank - 0.02, 0.1), (flank, 0.6), (flank + 0.03, 1.6)]
    spread = 0.10 if chest.portable else 0.3
    outlines = []
    for sign in SIGN:
        shoulder = curve([*side, (1.3, 0.0)])
        torso = np.vstack([shoulder[:-6], curve(trunk), [[0, 1.6], [0, -1.6]]])
        arm = np.array(
            [
                (0.75, -0.65),
                (1.25, -0.62),
                (1.45, 0.0),
                (1.5 + spread, 1.6),
                (flank + 0.06 + spread, 1.6),
                (flank + 0.05 + 0.5 * spread, 0.4),
                (flank + 0.02, -0.18),
            ]
        )
        mirror = np.array([sign, 1.0])
        outlines += [torso * mirror, arm * mirror]
    inside = canvas.area(*outlines)
    # Seen end on, a trunk is round: depth falls towards its edge as in an ellipse.
    solid = (inside > 0.5).astype(np.uint8)
    framed = cv2.copyMakeBorder(solid, 0, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[:-1, 1:-1] / (canvas.size / 2)
    inward = np.clip(depth / (0.42 + 0.12 * patient.habitus), 0, 1)
    round_depth = np.sqrt(inward * (2 - inward)) * (0.86 + 0.34 * patient.habitus)
    return canvas.blur(inside * (0.06 + round_depth), 0.012)


def _air(canvas: Canvas, lungs: list[np.ndarray], middle: np.ndarray, body: np.ndarray) -> np.ndarray:
    both = np.maximum(*lungs)
    # The edge is sharp where the ray grazes the lung; beyond it the lung grows deeper.
    depth = 0.36 * canvas.blur(both, 0.006) + 0.64 * canvas.blur(both, 0.07) * both
    behind_heart = 1 - 0.80 * canvas.blur(middle, 0.007)
    return depth * behind_heart * np.minimum(1.0, 0.55 + 0.5 * body)


def _soft_tissue(canvas: Canvas, chest: Chest, heart: np.ndarray, middle: np.ndarray) -> np.ndarray:
    patient = chest.patient
    tissue = (0.10 + 0.22 * canvas.blur(heart, 0.10)) * canvas.blur(middle, 0.01)
    floor = max(dome[1] for dome in chest.domes)
    tissue = tissue + 0.42 * ramp(canvas.y, floor - 0.12, floor + 0.5)
    if patient.breast:
        for sign in SIGN:
            centre = (sign * 0.58 * chest.half_width, 0.10 + 0.2 * patient.breast)
            radius = 0.25 + 0.13 * patient.breast
            low = np.sqrt(
                ((canvas.x - centre[0]) / (radius * 1.08)) ** 2 + ((canvas.y - centre[1]) / radius) ** 2
            )
            fold = ramp(canvas.y, centre[1] - radius * 1.1, centre[1] + 0.7 * radius)
            tissue += (0.12 + 0.3 * patient.breast) * ramp(low, 1.0, 0.80) * (0.25 + 0.75 * fold)
    else:
        for sign in SIGN:
            tissue += 0.07 * canvas.spot((sign * 0.5, -0.3), 0.22, 0.2)
    return tissue


def _vessels(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> np.ndarray:
    trunks, branches, twigs, roots = canvas.detail(), canvas.detail(), canvas.detail(), []
    for side in SIDES:
        fan = (-1.4, 1.5) if side == 1 else (np.pi + 1.4, np.pi - 1.5)
        height = chest.angles[side][1] - chest.patient.apex
        tree = branching(rng, chest.hila[side], fan=fan, reach=0.34 * height, stems=10)
        canvas.lines(twigs, tree[2], 0.006, 0.36)
        canvas.lines(branches, tree[1], 0.009, 0.5)
        canvas.lines(trunks, tree[0][:, 2:], 0.012, 0.55)
        canvas.lines(trunks, tree[0][:, :3], 0.019, 0.75)
        x, y = chest.hila[side]
        # The lower pulmonary artery leaves each hilum like a little finger.
        roots.append(curve([(x - SIGN[side] * 0.03, y - 0.08), (x, y), (x + SIGN[side] * 0.03, y + 0.16)]))
    canvas.lines(trunks, roots, 0.045, 0.62)
    fine = np.maximum(canvas.settle(twigs), canvas.settle(branches))
    coarse = canvas.blur(canvas.settle(trunks), 0.008)
    hazes = [0.65 * canvas.spot(hilum, 0.055, 0.10) for hilum in chest.hila]
    return canvas.blur(fine, 0.004) * 1.1 + coarse + hazes[0] + hazes[1]


def _skeleton(canvas: Canvas, chest: Chest) -> np.ndarray:
    strength = chest.patient.bone
    back, front = canvas.detail(), canvas.detail()
    posterior, anterior = np.concatenate(chest.ribs), np.concatenate(chest.fronts)
    # A tube of cortex: a wide band, then a fainter narrow one inside it.
    canvas.patch(back, ribbons(posterior, 0.046), 0.85)
    canvas.patch(back, ribbons(posterior, 0.026), 0.58)
    canvas.patch(front, ribbons(anterior, 0.050), 0.62)
    canvas.patch(front, ribbons(anterior, 0.032), 0.46)
    ribs = 0.40 * canvas.settle(back) + 0.27 * canvas.settle(front)
    # The belly's own density and scatter drown the lowest ribs.
    floor = max(dome[1] for dome in chest.domes)
    ribs *= 1 - 0.7 * ramp(canvas.y, floor - 0.02, floor + 0.16)
    return strength * (ribs + _spine(canvas, chest) + _shoulders(canvas, chest))


def _spine(canvas: Canvas, chest: Chest) -> np.ndarray:
    bend = chest.patient.scoliosis
    heights = np.linspace(-1.3, 1.3, 27)
    middle = np.stack([bend * np.sin(3 * heights), heights], axis=1).astype(np.float32)
    column, bodies = canvas.detail(), canvas.detail()
    canvas.patch(column, ribbons(middle, 0.15), 1.0)
    half = (0.052 + 0.018 * (heights + 1))[:, None]
    across = half * np.array([-1, 1, 1, -1])
    along = np.broadcast_to(np.array([-1, -1, 1, 1]) * 0.036, across.shape)
    canvas.patch(bodies, middle[:, None] + np.stack([across, along], axis=2), 0.75)
    canvas.lines(bodies, middle[:, None] + np.array([(0, -0.01), (0, 0.03)]), 0.02, 1.0)
    return 0.20 * canvas.blur(canvas.settle(column), 0.006) + 0.2 * canvas.blur(canvas.settle(bodies), 0.006)


def _shoulders(canvas: Canvas, chest: Chest) -> np.ndarray:
    width, bed = chest.half_width, chest.portable
    plane, blades = canvas.detail(), canvas.detail()
    collar_y = chest.patient.apex + (0.13 if bed else 0.19)
    blade = 0.80 if bed else 1.04  # arms forward on a PA film: the blades swing off the lungs
    for sign in SIGN:
        mirror = np.array([sign, 1], np.float32)
        collar = curve(
            [
                (0.065, collar_y + 0.03),
                (0.2, collar_y + 0.005),
                (0.42, collar_y - 0.075),
                (0.66, collar_y - 0.10),
                (width * 1.3, collar_y - 0.05),
            ],
            4,
        )
        collar = collar * mirror + np.array([chest.shift, 0], np.float32)
        canvas.patch(plane, ribbons(collar, 0.052), 1.0)
        canvas.patch(plane, ribbons(collar, 0.030), 0.72)
        shape = [
            (width * blade, -0.62),
            (width * (blade + 0.30), -0.56),
            (width * (blade + 0.24), -0.40),
            (width * (blade + 0.11), -0.02),
            (width * (blade + 0.03), 0.0),
            (width * (blade - 0.02), -0.3),
        ]
        outline = curve([*shape, shape[0]], 3) * mirror
        canvas.patch(blades, outline, 0.42)
        canvas.lines(blades, [outline], 0.022, 0.75)
        shaft = curve([(width * 1.42, -0.52), (width * 1.5, -0.2), (width * 1.62, 0.9)], 3) * mirror
        canvas.patch(plane, ribbons(shaft, 0.13), 0.8)
        canvas.patch(plane, ribbons(shaft, 0.07), 0.55)
        canvas.lines(plane, [shaft[:2]], 0.19, 0.8)
    return 0.42 * canvas.settle(plane) + 0.30 * canvas.blur(canvas.settle(blades), 0.006)


def _airways(scene: Scene) -> None:
    canvas, chest = scene.canvas, scene.chest
    plane, split = canvas.detail(), chest.patient.carina
    x = chest.shift - 0.01
    trachea = curve([(chest.shift * 0.5, -1.2), (x, -0.6), (x, split)])
    bronchi = [curve([(x, split), (hilum[0] * 0.6, split + 0.06), hilum]) for hilum in chest.hila]
    canvas.lines(plane, bronchi, 0.040, 0.5)
    canvas.lines(plane, [trachea], 0.062, 0.9)
    scene.air += 0.34 * canvas.blur(canvas.settle(plane), 0.010)


def _bowel_gas(scene: Scene, rng: np.random.Generator) -> None:
    canvas, (x, y) = scene.canvas, scene.chest.domes[1]
    present, wide, tall = rng.uniform(size=3)
    if present < 0.6:
        bubble = canvas.area(_ellipse((x * 0.95, y + 0.13), 0.07 + 0.09 * wide, 0.035 + 0.05 * tall))
        scene.air += 0.26 * canvas.blur(bubble, 0.012)


def _ellipse(centre: tuple[float, float], radius_x: float, radius_y: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([centre[0] + radius_x * np.cos(angle), centre[1] + radius_y * np.sin(angle)], axis=1)


def lateral_attenuation(
    canvas: Canvas, patient: Patient, severities: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Attenuation of a lateral chest, float32 of shape (size, size).

    Effusion, a large heart and opacities show; what a lateral view shows poorly is left out.
    """
    wide = 0.66 + 0.12 * patient.habitus
    body = _side_body(canvas, patient, wide)
    lung_outline = _side_lung(patient)
    lung = canvas.area(lung_outline)
    heart = _side_heart(canvas, patient, severities.get("Cardiomegaly", 0.0))
    air = (0.25 * canvas.blur(lung, 0.008) + 0.75 * canvas.blur(lung, 0.10) * lung) * (1 - 0.62 * heart)
    fluid = _side_fluid(canvas, severities, rng) * lung
    plane = canvas.detail()
    tree = branching(rng, (0.02, -0.12), fan=(-0.9, 1.8 * np.pi), reach=0.24, stems=10)
    canvas.lines(plane, tree[2], 0.006, 0.4)
    canvas.lines(plane, tree[1], 0.008, 0.5)
    canvas.lines(plane, tree[0], 0.012, 0.6)
    vessels = canvas.blur(canvas.settle(plane), 0.006) + canvas.spot((0.02, -0.10), 0.10, 0.14)
    aerated = air * (1 - fluid)
    bones = patient.bone * _side_bones(canvas)
    tissue = 0.16 * canvas.blur(heart, 0.03) + 0.3 * ramp(canvas.y, 0.3, 0.8) + 0.03 * canvas.mottle(rng, 0.4)
    tissue += 0.5 * ramp(canvas.y, -0.62, -0.9)  # the raised arms
    return np.maximum(
        2.5 * body + bones + tissue - 1.5 * aerated + 0.36 * vessels * aerated - 0.3 * _side_trachea(canvas),
        0,
    )


def _side_body(canvas: Canvas, patient: Patient, wide: float) -> np.ndarray:
    bust = 0.12 * patient.breast
    front = curve(
        [(-0.3, -1.5), (-0.42, -0.85), (-wide, -0.3), (-wide - bust, 0.1), (-wide, 0.4), (-wide - 0.03, 1.5)]
    )
    back = curve([(wide, 1.5), (wide - 0.04, 0.5), (wide + 0.04, -0.2), (wide - 0.05, -0.8), (0.4, -1.5)])
    inside = canvas.area(np.vstack([front, back]))
    return canvas.blur(inside, 0.01) * (0.3 + 0.72 * canvas.blur(inside, 0.16))


def _side_lung(patient: Patient) -> np.ndarray:
    top, base = patient.apex + 0.04, patient.base
    outline = [
        (0.06, top),
        (-0.22, top + 0.14),
        (-0.46, -0.25),
        (-0.54, 0.1),
        (-0.50, base - 0.24),
        (-0.25, base - 0.30),
        (0.05, base - 0.24),
        (0.32, base - 0.08),
        (0.48, base + 0.04),
        (0.54, base - 0.2),
        (0.54, -0.15),
        (0.40, top + 0.16),
        (0.22, top + 0.02),
    ]
    return curve([*outline, outline[0]])


def _side_heart(canvas: Canvas, patient: Patient, enlarged: float) -> np.ndarray:
    grow = 1 + 0.45 * enlarged
    centre = (-0.26, patient.base - 0.30)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    along, across = 0.33 * grow * np.cos(angle), 0.21 * grow * np.sin(angle)
    turn = np.deg2rad(52)
    x = centre[0] + np.cos(turn) * along - np.sin(turn) * across + 0.05 * (grow - 1)
    y = centre[1] + np.sin(turn) * along + np.cos(turn) * across
    return canvas.blur(canvas.area(np.stack([x, y], axis=1)), 0.025)


def _side_fluid(canvas: Canvas, severities: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    fluid = np.zeros_like(canvas.x)
    if effusion := severities.get("Pleural_Effusion", 0.0):
        surface = (
            0.46 - 0.45 * effusion - 0.25 * np.clip(canvas.x, 0, 0.6) + 0.12 * np.clip(-canvas.x, 0, 0.6)
        )
        fluid = 0.9 * ramp(canvas.y, surface - 0.03, surface + 0.05)
    for name in (*OPACITIES, "Lung_Opacity"):
        if severity := severities.get(name, 0.0):
            at = (rng.uniform(-0.2, 0.35), rng.uniform(-0.3, 0.3))
            fluid = 1 - (1 - fluid) * (1 - (0.2 + 0.4 * severity) * canvas.spot(at, 0.14, 0.12))
    return fluid


def _side_trachea(canvas: Canvas) -> np.ndarray:
    plane = canvas.detail()
    canvas.lines(plane, [curve([(-0.12, -1.2), (-0.08, -0.7), (0.01, -0.2)])], 0.08, 0.9)
    return canvas.blur(canvas.settle(plane), 0.014)


def _side_bones(canvas: Canvas) -> np.ndarray:
    plane, ribs = canvas.detail(), canvas.detail()
    spine = curve([(0.38, -1.1), (0.50, -0.6), (0.56, -0.1), (0.54, 0.4), (0.44, 1.1)], 5)
    block = np.array([(-0.07, -0.04), (0.07, -0.04), (0.07, 0.04), (-0.07, 0.04)])
    canvas.patch(plane, spine[:, None] + block, 0.8)
    canvas.lines(plane, [curve([(-0.36, -0.5), (-0.54, -0.1), (-0.60, 0.2)])], 0.05, 0.6)
    arcs = curve(
        [
            [(0.52, y), (0.2, y + 0.10), (-0.2, y + 0.28), (-0.5, y + 0.36)]
            for y in np.linspace(-0.75, 0.35, 9)
        ]
    )
    canvas.patch(ribs, ribbons(arcs, 0.048), 0.8)
    canvas.patch(ribs, ribbons(arcs, 0.03), 0.5)
    blurred = canvas.blur(canvas.settle(plane), 0.008)
    return 0.42 * blurred + 0.24 * canvas.settle(ribs)
