"""Draws one image of one patient from its description: the chest in layers, its findings, the exposure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from hilum.phantom._anatomy import SIDES, SIGN, Chest, Patient, Scene, branching, draw_patient, frontal_chest
from hilum.phantom._canvas import Canvas, curve, draw_exposure, ellipse, expose, ramp, ribbons, xy
from hilum.phantom._findings import DRAWN, add_devices, draw_sites, heart_ratio, raised_diaphragm
from hilum.phantom.cohort import OPACITIES
from hilum.randomness import generator

_VIEWS_PER_STUDY = 8


@dataclass(frozen=True)
class ImagePlan:
    """The description of an image."""

    seed: int  # of the phantom
    patient: int  # this and the next two from 1
    study: int
    view: int
    female: bool
    age: int
    projection: str  # "AP", "PA", "LL", "RL", or "" for a lateral view
    severities: dict[str, float] = field(default_factory=dict)  # by finding, above 0 to 1; others are absent
    devices: tuple[str, ...] = ()  # names of `findings.DEVICES`

    def image_generator(self, purpose: str) -> np.random.Generator:
        """A generator for this image alone."""
        image = self.study * _VIEWS_PER_STUDY + self.view
        return generator(self.seed, f"phantom/{purpose}", self.patient, image)

    def patient_generator(self, purpose: str) -> np.random.Generator:
        """A generator that is the same for all images of the patient."""
        return generator(self.seed, f"phantom/{purpose}", self.patient)


def draw_image(plan: ImagePlan, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws an image.

    Returns:
        The image, uint8 of shape (size, size), and for a frontal view a mask per finding, bool of the same shape, True
        where the finding is visible. A lateral view has no masks.
    """
    portable = plan.projection in ("AP", "LL", "RL")
    canvas = _position(plan, size, portable)
    rng = plan.image_generator("exposure")
    if plan.projection == "":
        lateral = plan.image_generator("lateral")
        attenuation = lateral_attenuation(canvas, _patient(plan), plan.severities, lateral)
        return expose(canvas, attenuation, draw_exposure(rng, portable=False), rng), {}
    scene, masks = frontal_scene(plan, canvas)
    marker = canvas.fine_plane()
    left = rng.uniform() < 0.75
    canvas.write(marker, "L" if left else "R", (0.80 if left else -0.93, rng.uniform(-0.88, -0.6)), 0.09)
    attenuation = scene.attenuation() + 1.6 * canvas.downsample(marker)
    image = expose(canvas, attenuation, draw_exposure(rng, portable=portable), rng)
    return image, {name: mask > 0.5 for name, mask in masks.items()}


def frontal_scene(plan: ImagePlan, canvas: Canvas) -> tuple[Scene, dict[str, np.ndarray]]:
    """The layers of a frontal view with its findings and devices, and a mask per finding."""
    severities = plan.severities
    sites = draw_sites(plan.patient_generator("sites"))
    raised = [0.0, 0.0]
    raised[sites.side["Atelectasis"]] = raised_diaphragm(severities.get("Atelectasis", 0.0))
    enlarged = severities.get("Cardiomegaly")
    chest = frontal_chest(
        _patient(plan),
        plan.image_generator("posture"),
        portable=plan.projection != "PA",
        heart_ratio=None if enlarged is None else heart_ratio(enlarged),
        wide_mediastinum=severities.get("Enlarged_Cardiomediastinum", 0.0),
        raised=raised,
    )
    scene = paint_chest(canvas, chest, plan.image_generator("vessels"))
    masks = {
        name: draw(scene, severities[name], sites, plan.image_generator(name))
        for name, draw in DRAWN.items()
        if name in severities
    }
    found = [masks[name] for name in OPACITIES if name in masks]
    if found and "Lung_Opacity" not in masks:
        masks["Lung_Opacity"] = np.maximum.reduce(found)
    add_devices(scene, plan.devices, plan.image_generator("devices"))
    return scene, masks


def _patient(plan: ImagePlan) -> Patient:
    return draw_patient(plan.patient_generator("anatomy"), female=plan.female, age=plan.age)


def _position(plan: ImagePlan, size: int, portable: bool) -> Canvas:
    rng = plan.image_generator("position")
    spread = 2.2 if portable else 1.0
    return Canvas(
        size,
        zoom=float(rng.uniform(1.03, 1.2) if portable else rng.uniform(1.06, 1.18)),
        degrees=float(rng.normal(0, 1.2 * spread)),
        shift=tuple(rng.normal((0, 0.06), 0.018 * spread)),
    )


# --- The healthy frontal chest ---


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
    fine, medium, coarse = (canvas.noise(rng, grain) for grain in (0.025, 0.08, 0.5))
    scene.tissue += 0.02 * fine + 0.025 * medium + 0.045 * coarse
    return scene


def _body(canvas: Canvas, chest: Chest) -> np.ndarray:
    patient, width = chest.patient, chest.half_width
    flank = width + 0.09 + 0.15 * patient.habitus
    neck = 0.21 + 0.05 * patient.habitus
    rise = -0.06 if chest.portable else 0.0  # shoulders shrug in bed
    shoulder_x = [neck, neck * 0.95, neck + 0.16, 0.72, 0.98, 1.30, 1.3]
    shoulder_y = [-1.6, -0.98, -0.83 + rise, -0.74 + rise, -0.60 + rise, -0.30, 0.0]
    trunk = xy([flank + 0.02, flank - 0.02, flank, flank + 0.03], [-0.30, 0.1, 0.6, 1.6])
    spread = 0.10 if chest.portable else 0.3
    outlines = []
    for sign in SIGN:
        shoulder = curve(xy(shoulder_x, shoulder_y))
        torso = np.vstack([shoulder[:-6], curve(trunk), [[0, 1.6], [0, -1.6]]])
        hand_x = [1.5 + spread, flank + 0.06 + spread, flank + 0.05 + 0.5 * spread, flank + 0.02]
        arm = xy([0.75, 1.25, 1.45, *hand_x], [-0.65, -0.62, 0.0, 1.6, 1.6, 0.4, -0.18])
        mirror = np.array([sign, 1.0])
        outlines += [torso * mirror, arm * mirror]
    inside = canvas.area(*outlines)
    # The trunk is round: its depth falls towards the edge as in an ellipse.
    solid = (inside > 0.5).astype(np.uint8)
    framed = cv2.copyMakeBorder(solid, 0, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[:-1, 1:-1] / (canvas.size / 2)
    inward = np.clip(depth / (0.42 + 0.12 * patient.habitus), 0, 1)
    round_depth = np.sqrt(inward * (2 - inward)) * (0.86 + 0.34 * patient.habitus)
    return canvas.blur(inside * (0.06 + round_depth), 0.012)


def _air(canvas: Canvas, lungs: list[np.ndarray], middle: np.ndarray, body: np.ndarray) -> np.ndarray:
    both = np.maximum(*lungs)
    # The edge is sharp where the ray enters the lung; further inside the lung is deeper.
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
            across, down = (canvas.x - centre[0]) / (radius * 1.08), (canvas.y - centre[1]) / radius
            inside = ramp(np.sqrt(across**2 + down**2), 1.0, 0.80)
            fold = ramp(canvas.y, centre[1] - radius * 1.1, centre[1] + 0.7 * radius)
            tissue += (0.12 + 0.3 * patient.breast) * inside * (0.25 + 0.75 * fold)
    else:
        for sign in SIGN:
            tissue += 0.07 * canvas.spot((sign * 0.5, -0.3), 0.22, 0.2)
    return tissue


def _vessels(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> np.ndarray:
    trunks, branches, twigs, roots = canvas.fine_plane(), canvas.fine_plane(), canvas.fine_plane(), []
    for side in SIDES:
        fan = (-1.4, 1.5) if side == 1 else (np.pi + 1.4, np.pi - 1.5)
        height = chest.angles[side][1] - chest.patient.apex
        vessels = branching(rng, chest.hila[side], fan=fan, reach=0.34 * height, stems=10)
        canvas.lines(twigs, vessels[2], 0.006, 0.36)
        canvas.lines(branches, vessels[1], 0.009, 0.5)
        canvas.lines(trunks, vessels[0][:, 2:], 0.012, 0.55)
        canvas.lines(trunks, vessels[0][:, :3], 0.019, 0.75)
        x, y = chest.hila[side]
        # The lower pulmonary artery leaves each hilum, as wide as a little finger.
        roots.append(curve([(x - SIGN[side] * 0.03, y - 0.08), (x, y), (x + SIGN[side] * 0.03, y + 0.16)]))
    canvas.lines(trunks, roots, 0.045, 0.62)
    fine = np.maximum(canvas.downsample(twigs), canvas.downsample(branches))
    coarse = canvas.blur(canvas.downsample(trunks), 0.008)
    hazes = [0.65 * canvas.spot(hilum, 0.055, 0.10) for hilum in chest.hila]
    return canvas.blur(fine, 0.004) * 1.1 + coarse + hazes[0] + hazes[1]


def _skeleton(canvas: Canvas, chest: Chest) -> np.ndarray:
    strength = chest.patient.bone
    back, front = canvas.fine_plane(), canvas.fine_plane()
    posterior, anterior = np.concatenate(chest.ribs), np.concatenate(chest.fronts)
    # A tube of cortex: a wide band, then a fainter narrow one inside it.
    canvas.fill(back, ribbons(posterior, 0.046), 0.85)
    canvas.fill(back, ribbons(posterior, 0.026), 0.58)
    canvas.fill(front, ribbons(anterior, 0.050), 0.62)
    canvas.fill(front, ribbons(anterior, 0.032), 0.46)
    ribs = 0.40 * canvas.downsample(back) + 0.27 * canvas.downsample(front)
    # The density and the scatter of the abdomen hide the lowest ribs.
    floor = max(dome[1] for dome in chest.domes)
    ribs *= 1 - 0.7 * ramp(canvas.y, floor - 0.02, floor + 0.16)
    return strength * (ribs + _spine(canvas, chest) + _shoulders(canvas, chest))


def _spine(canvas: Canvas, chest: Chest) -> np.ndarray:
    bend = chest.patient.scoliosis
    heights = np.linspace(-1.3, 1.3, 27)
    middle = xy(bend * np.sin(3 * heights), heights).astype(np.float32)
    column, bodies = canvas.fine_plane(), canvas.fine_plane()
    canvas.fill(column, ribbons(middle, 0.15), 1.0)
    half = (0.052 + 0.018 * (heights + 1))[:, None]
    across = half * np.array([-1, 1, 1, -1])
    along = np.broadcast_to(np.array([-1, -1, 1, 1]) * 0.036, across.shape)
    canvas.fill(bodies, middle[:, None] + xy(across, along), 0.75)
    canvas.lines(bodies, middle[:, None] + np.array([(0, -0.01), (0, 0.03)]), 0.02, 1.0)
    layers = [0.2 * canvas.blur(canvas.downsample(plane), 0.006) for plane in (column, bodies)]
    return layers[0] + layers[1]


def _shoulders(canvas: Canvas, chest: Chest) -> np.ndarray:
    width, bed = chest.half_width, chest.portable
    plane, blades = canvas.fine_plane(), canvas.fine_plane()
    collar_y = chest.patient.apex + (0.13 if bed else 0.19)
    collar_ys = collar_y + np.array([0.03, 0.005, -0.075, -0.10, -0.05])
    blade = 0.80 if bed else 1.04  # arms forward in a PA view: the blades move off the lungs
    for sign in SIGN:
        mirror = np.array([sign, 1], np.float32)
        collar = curve(xy([0.065, 0.2, 0.42, 0.66, width * 1.3], collar_ys), 4) * mirror
        collar = collar + np.array([chest.shift, 0], np.float32)
        canvas.fill(plane, ribbons(collar, 0.052), 1.0)
        canvas.fill(plane, ribbons(collar, 0.030), 0.72)
        blade_x = width * (blade + np.array([0, 0.30, 0.24, 0.11, 0.03, -0.02, 0]))
        blade_y = [-0.62, -0.56, -0.40, -0.02, 0.0, -0.3, -0.62]
        outline = curve(xy(blade_x, blade_y), 3) * mirror
        canvas.fill(blades, outline, 0.42)
        canvas.lines(blades, [outline], 0.022, 0.75)
        shaft = curve([(width * 1.42, -0.52), (width * 1.5, -0.2), (width * 1.62, 0.9)], 3) * mirror
        canvas.fill(plane, ribbons(shaft, 0.13), 0.8)
        canvas.fill(plane, ribbons(shaft, 0.07), 0.55)
        canvas.lines(plane, [shaft[:2]], 0.19, 0.8)
    return 0.42 * canvas.downsample(plane) + 0.30 * canvas.blur(canvas.downsample(blades), 0.006)


def _airways(scene: Scene) -> None:
    canvas, chest = scene.canvas, scene.chest
    plane, split, x = canvas.fine_plane(), chest.patient.carina, chest.shift - 0.01
    trachea = curve([(chest.shift * 0.5, -1.2), (x, -0.6), (x, split)])
    bronchi = [curve([(x, split), (hilum[0] * 0.6, split + 0.06), hilum]) for hilum in chest.hila]
    canvas.lines(plane, bronchi, 0.040, 0.5)
    canvas.lines(plane, [trachea], 0.062, 0.9)
    scene.air += 0.34 * canvas.blur(canvas.downsample(plane), 0.010)


def _bowel_gas(scene: Scene, rng: np.random.Generator) -> None:
    canvas, (x, y) = scene.canvas, scene.chest.domes[1]
    present, wide, tall = rng.uniform(size=3)
    if present < 0.6:
        bubble = canvas.area(ellipse(x * 0.95, y + 0.13, 0.07 + 0.09 * wide, 0.035 + 0.05 * tall))
        scene.air += 0.26 * canvas.blur(bubble, 0.012)


# --- The lateral view ---


def lateral_attenuation(
    canvas: Canvas, patient: Patient, severities: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Attenuation of a lateral chest, float32 of shape (size, size), with effusion, a large heart and opacities.

    Findings that are hard to see in this view are not drawn.
    """
    body = _side_body(canvas, patient)
    lung = canvas.area(_side_lung(patient))
    heart = _side_heart(canvas, patient, severities.get("Cardiomegaly", 0.0))
    air = (0.25 * canvas.blur(lung, 0.008) + 0.75 * canvas.blur(lung, 0.10) * lung) * (1 - 0.62 * heart)
    fluid = _side_fluid(canvas, severities, rng) * lung
    plane = canvas.fine_plane()
    branches = branching(rng, (0.02, -0.12), fan=(-0.9, 1.8 * np.pi), reach=0.24, stems=10)
    canvas.lines(plane, branches[2], 0.006, 0.4)
    canvas.lines(plane, branches[1], 0.008, 0.5)
    canvas.lines(plane, branches[0], 0.012, 0.6)
    vessels = canvas.blur(canvas.downsample(plane), 0.006) + canvas.spot((0.02, -0.10), 0.10, 0.14)
    aerated = air * (1 - fluid)
    bones = patient.bone * _side_bones(canvas)
    tissue = 0.16 * canvas.blur(heart, 0.03) + 0.3 * ramp(canvas.y, 0.3, 0.8) + 0.03 * canvas.noise(rng, 0.4)
    tissue += 0.5 * ramp(canvas.y, -0.62, -0.9)  # the raised arms
    plane = canvas.fine_plane()
    canvas.lines(plane, [curve([(-0.12, -1.2), (-0.08, -0.7), (0.01, -0.2)])], 0.08, 0.9)
    airway = 0.3 * canvas.blur(canvas.downsample(plane), 0.014)
    return np.maximum(2.5 * body + bones + tissue - 1.5 * aerated + 0.36 * vessels * aerated - airway, 0)


def _side_body(canvas: Canvas, patient: Patient) -> np.ndarray:
    wide, bust = 0.66 + 0.12 * patient.habitus, 0.12 * patient.breast
    front_x = [-0.3, -0.42, -wide, -wide - bust, -wide, -wide - 0.03]
    front = curve(xy(front_x, [-1.5, -0.85, -0.3, 0.1, 0.4, 1.5]))
    back = curve([(wide, 1.5), (wide - 0.04, 0.5), (wide + 0.04, -0.2), (wide - 0.05, -0.8), (0.4, -1.5)])
    inside = canvas.area(np.vstack([front, back]))
    return canvas.blur(inside, 0.01) * (0.3 + 0.72 * canvas.blur(inside, 0.16))


def _side_lung(patient: Patient) -> np.ndarray:
    top, base = patient.apex + 0.04, patient.base
    x = [0.06, -0.22, -0.46, -0.54, -0.50, -0.25, 0.05, 0.32, 0.48, 0.54, 0.54, 0.40, 0.22, 0.06]
    y = [
        *(top, top + 0.14, -0.25, 0.1, base - 0.24, base - 0.30, base - 0.24, base - 0.08, base + 0.04),
        *(base - 0.2, -0.15, top + 0.16, top + 0.02, top),
    ]
    return curve(xy(x, y))


def _side_heart(canvas: Canvas, patient: Patient, enlarged: float) -> np.ndarray:
    grow = 1 + 0.45 * enlarged
    along, across = ellipse(0, 0, 0.33 * grow, 0.21 * grow, 40).T
    turn = np.deg2rad(52)
    x = -0.26 + np.cos(turn) * along - np.sin(turn) * across + 0.05 * (grow - 1)
    y = patient.base - 0.30 + np.sin(turn) * along + np.cos(turn) * across
    return canvas.blur(canvas.area(xy(x, y)), 0.025)


def _side_fluid(canvas: Canvas, severities: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    fluid = np.zeros_like(canvas.x)
    if effusion := severities.get("Pleural_Effusion", 0.0):
        behind, before = np.clip(canvas.x, 0, 0.6), np.clip(-canvas.x, 0, 0.6)
        surface = 0.46 - 0.45 * effusion - 0.25 * behind + 0.12 * before
        fluid = 0.9 * ramp(canvas.y, surface - 0.03, surface + 0.05)
    for name in (*OPACITIES, "Lung_Opacity"):
        if severity := severities.get(name, 0.0):
            at = (rng.uniform(-0.2, 0.35), rng.uniform(-0.3, 0.3))
            fluid = 1 - (1 - fluid) * (1 - (0.2 + 0.4 * severity) * canvas.spot(at, 0.14, 0.12))
    return fluid


def _side_bones(canvas: Canvas) -> np.ndarray:
    plane, ribs = canvas.fine_plane(), canvas.fine_plane()
    spine = curve([(0.38, -1.1), (0.50, -0.6), (0.56, -0.1), (0.54, 0.4), (0.44, 1.1)], 5)
    block = np.array([(-0.07, -0.04), (0.07, -0.04), (0.07, 0.04), (-0.07, 0.04)])
    canvas.fill(plane, spine[:, None] + block, 0.8)
    canvas.lines(plane, [curve([(-0.36, -0.5), (-0.54, -0.1), (-0.60, 0.2)])], 0.05, 0.6)
    heights = np.linspace(-0.75, 0.35, 9)[:, None] + np.array([0, 0.10, 0.28, 0.36])
    arcs = curve(xy(np.broadcast_to([0.52, 0.2, -0.2, -0.5], heights.shape), heights))
    canvas.fill(ribs, ribbons(arcs, 0.048), 0.8)
    canvas.fill(ribs, ribbons(arcs, 0.03), 0.5)
    blurred = canvas.blur(canvas.downsample(plane), 0.008)
    return 0.42 * blurred + 0.24 * canvas.downsample(ribs)
