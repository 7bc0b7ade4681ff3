"""Draws each finding as radiologists describe it (Hansell et al. 2008, "Fleischner Society:
glossary of terms for thoracic imaging", Radiology 246:697).

A finding has a severity, above 0 (barely visible) to 1. Each function changes the scene and returns the finding's mask,
float32 of shape (size, size); above 0.5 is inside.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from hilum.phantom._anatomy import SIGN, Chest, Scene, branching
from hilum.phantom._canvas import Canvas, curve, ellipse, ramp, xy


class Sites(NamedTuple):
    """Where a patient's findings are: the same in all images of the patient."""

    side: dict[str, int]  # of each finding that has one; 0 is the right lung
    both_effusions: bool
    lower_lobe: bool
    lesion: tuple[float, float]  # relative to the width and the height of the lung
    opacity_y: float
    fractured_rib: int
    fracture_at: float


#: The findings of one side, in the order of the draws.
_ONE_SIDED = (
    *("Pleural_Effusion", "Pneumothorax", "Consolidation", "Pneumonia", "Atelectasis", "Lung_Lesion"),
    *("Lung_Opacity", "Pleural_Other"),
)


def draw_sites(rng: np.random.Generator) -> Sites:
    """Draws where a patient's findings are."""
    side = dict(zip(_ONE_SIDED, rng.integers(0, 2, len(_ONE_SIDED)).tolist(), strict=True))
    place = rng.uniform(size=8).tolist()
    return Sites(
        side=side | {"Fracture": int(place[5] < 0.5)},
        both_effusions=place[0] < 0.4,
        lower_lobe=place[1] < 0.6,
        lesion=(0.42 + 0.36 * place[2], 0.15 + 0.6 * place[3]),
        opacity_y=0.25 + 0.6 * place[4],
        fractured_rib=int(2 + 4 * place[6]),
        fracture_at=0.5 + 0.3 * place[7],
    )


Finding = Callable[[Scene, float, Sites, np.random.Generator], np.ndarray]


def cardiomegaly(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """The heart's silhouette; the outlines already have its size."""
    return scene.heart


def heart_ratio(severity: float) -> float:
    """Cardiothoracic ratio of an enlarged heart: above 0.5 (Danzer 1919)."""
    return 0.505 + 0.16 * severity


def wide_mediastinum(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """The mediastinum above the heart; the outlines already have its width."""
    outline = scene.canvas.area(scene.chest.mediastinum)
    return outline * ramp(scene.canvas.y, scene.chest.patient.apex - 0.05, scene.chest.patient.apex)


def pleural_effusion(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Fluid at a base with a meniscus that rises along the wall; in bed it spreads as a haze."""
    canvas, chest = scene.canvas, scene.chest
    shown = np.zeros_like(scene.fluid)
    main = sites.side["Pleural_Effusion"]
    amounts = {main: severity}
    if sites.both_effusions:
        amounts[1 - main] = severity * rng.uniform(0.4, 0.9)
    for side, amount in amounts.items():
        angle_x, angle_y = chest.angles[side]
        level = angle_y - (0.045 + 0.54 * amount)
        outward = np.clip(canvas.x / angle_x, 0, 1.05)
        surface = level + (0.08 + 0.06 * amount) * (1 - 2.2 * outward**3)
        soft = 0.10 if chest.portable else 0.045
        under = ramp(canvas.y, surface - 0.5 * soft, surface + soft)
        cavity = canvas.blur(scene.lungs[side], 0.006)
        scene.flood(0.96 * under * cavity)
        if chest.portable:
            top = level - 0.5 - 0.3 * amount
            scene.flood((0.04 + 0.28 * amount) * ramp(canvas.y, top, level) * scene.lungs[side])
        shown = np.maximum(shown, under * scene.lungs[side])
    return shown


def pneumothorax(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Air outside the lung: dark, without vessels, inside a thin pleural line, widest at the apex."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Pneumothorax"]
    shrink = 0.06 + 0.48 * severity
    root_x = chest.hila[side][0]
    wall = chest.walls[side]
    top, base = chest.patient.apex, chest.angles[side][1]
    down = np.clip((wall[:, 1] - top) / (base - top), 0, 1)
    gap = shrink * (1 - (0.75 - 0.5 * severity) * down)
    lung_y = wall[:, 1] + 0.55 * shrink * (1 - down) ** 2 + 0.02
    lung_edge = xy(wall[:, 0] + gap * (root_x - wall[:, 0]), lung_y).astype(np.float32)
    apex_inside = np.array([[root_x * 0.55, lung_edge[0, 1] + 0.05]], np.float32)
    edge = np.vstack([apex_inside, lung_edge])
    outside = np.vstack([edge, wall[::-1], [[SIGN[side] * 0.1, top - 0.05]]])
    space = canvas.area(outside) * scene.lungs[side]
    soft = canvas.blur(space, 0.005)
    scene.vessels = scene.vessels * (1 - soft)
    scene.fluid = scene.fluid * (1 - 0.8 * soft)
    scene.air = scene.air * (1 + 0.34 * soft)
    collapsed = scene.lungs[side] * (1 - soft)
    scene.flood(collapsed * (0.08 + 0.30 * severity**2))
    line = canvas.fine_plane()
    canvas.lines(line, [curve(edge, 2)], 0.014, 1.0)
    scene.tissue += 0.34 * canvas.downsample(line) * scene.lungs[side]
    return space


def edema(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Haze around both hila, sparing the rim, with blurred vessels and septal (Kerley B) lines."""
    canvas, chest = scene.canvas, scene.chest
    wings = np.zeros_like(scene.fluid)
    for x, y in chest.hila:
        wings += canvas.spot((x * 1.25, y + 0.10), 0.19 + 0.07 * severity, 0.26 + 0.08 * severity)
    wings = np.minimum(wings, 1) * np.clip(1 + 0.22 * canvas.noise(rng, 0.13), 0.4, 1.4)
    both = np.maximum(*scene.lungs)
    scene.flood(np.clip((0.03 + 0.70 * severity) * wings + 0.10 * severity, 0, 0.92) * both)
    scene.vessels = canvas.blur(scene.vessels, 0.009 * severity) * (1.05 + 0.5 * severity)
    septa = canvas.fine_plane()
    lines: list[np.ndarray] = []
    for side, (_, angle_y) in enumerate(chest.angles):
        heights = angle_y - rng.uniform(0.06, 0.55, 9)
        starts = chest.wall_x(side, heights) * 0.985
        lengths = rng.uniform(0.05, 0.09, 9) * -SIGN[side]
        lines += list(xy(xy(starts, starts + lengths), xy(heights, heights + 0.006)))
    canvas.lines(septa, lines, 0.008, 0.9)
    reticular = np.abs(canvas.noise(rng, 0.035))
    septal = (0.03 + 0.16 * severity) * canvas.downsample(septa)
    scene.tissue += both * (septal + 0.035 * severity * reticular)
    return ramp(wings * both, 0.25, 0.5)


def consolidation(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """A lobe filled evenly up to its fissure, with bronchi as dark branches (air bronchogram)."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Consolidation"]
    top, base = chest.patient.apex, chest.domes[side][1]
    tall = base - top
    fissure = top + tall * 0.52
    extent = (0.21 + 0.35 * severity) * tall
    outward = np.abs(canvas.x) / chest.half_width
    wavy = 0.03 * canvas.noise(rng, 0.2)
    if sites.lower_lobe:
        edge = base - extent + 0.14 * (outward - 0.5) + wavy
        lobe = ramp(canvas.y, edge - 0.05, edge + 0.05)
    else:
        low = fissure + 0.05 * (outward - 0.5)
        above = ramp(canvas.y, low - extent - 0.07, low - extent + 0.07)
        lobe = ramp(canvas.y, low + 0.012, low - 0.012) * above
    lobe = lobe * ramp(outward + wavy, 1.05, 0.72 + 0.2 * severity) * scene.lungs[side]
    bronchi = canvas.fine_plane()
    fan = (-1.0, 1.3) if side == 1 else (np.pi + 1.0, np.pi - 1.3)
    branches = branching(rng, chest.hila[side], fan=fan, reach=0.34 * tall, stems=6, levels=2)
    canvas.lines(bronchi, branches[0], 0.016, 0.9)
    canvas.lines(bronchi, branches[1], 0.010, 0.7)
    filled = (0.38 + 0.56 * severity) * lobe * (1 + 0.05 * canvas.noise(rng, 0.1))
    scene.flood(np.clip(filled, 0, 0.97) * (1 - 0.45 * canvas.downsample(bronchi)))
    return lobe


def pneumonia(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Patchy, ill-defined shadows that merge in one part of a lung."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Pneumonia"]
    top, base = chest.patient.apex + 0.15, chest.domes[side][1]
    centre = (chest.hila[side][0] * 1.7, rng.uniform(0.45, 0.85) * (base - top) + top)
    patches = np.zeros_like(scene.fluid)
    for _ in range(3 + round(4 * severity)):
        at = (centre[0] + rng.normal(0, 0.10), centre[1] + rng.normal(0, 0.12))
        size = rng.uniform(0.04, 0.08) * (1 + 0.6 * severity)
        patches = np.maximum(patches, canvas.spot(at, size, size * rng.uniform(0.7, 1.3)))
    patches = np.clip(patches * (1 + 0.3 * canvas.noise(rng, 0.06)), 0, 1) * scene.lungs[side]
    scene.flood((0.32 + 0.5 * severity) * patches)
    return ramp(patches, 0.2, 0.6)


def atelectasis(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Bands above a raised diaphragm: part of the lung has collapsed."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Atelectasis"]
    dome_x, dome_y = chest.domes[side]
    plates, lines = canvas.fine_plane(), []
    for plate in range(1 + round(2.4 * severity)):
        y = dome_y - 0.05 - 0.10 * plate - rng.uniform(0, 0.04)
        x = dome_x * rng.uniform(0.7, 1.3)
        half = rng.uniform(0.10, 0.16) + 0.07 * severity
        tilt = rng.uniform(-0.05, 0.05)
        lines.append(curve([(x - half, y + tilt), (x, y - 0.012), (x + half, y - tilt)]))
    # Bands taper towards their ends.
    canvas.lines(plates, lines, 0.022 + 0.015 * severity, 0.8)
    canvas.lines(plates, [line[3:-3] for line in lines], 0.032 + 0.030 * severity, 1.0)
    bands = canvas.blur(canvas.downsample(plates), 0.014) * scene.lungs[side]
    scene.flood(np.clip((0.45 + 0.5 * severity) * bands, 0, 0.95))
    crowded = ramp(canvas.y, dome_y - 0.30, dome_y) * scene.lungs[side]
    scene.flood((0.10 + 0.34 * severity) * crowded)
    return np.maximum(ramp(bands, 0.15, 0.5), crowded * (severity > 0.6))


def raised_diaphragm(severity: float) -> float:
    """How far the lost volume of an atelectasis lifts the diaphragm, in patient coordinates."""
    return 0.03 + 0.15 * severity if severity else 0.0


def lung_lesion(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """A round nodule (to 3 cm) or mass, densest in the middle, as a ball."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Lung_Lesion"]
    top, base = chest.patient.apex + 0.08, chest.domes[side][1] - 0.05
    y = top + sites.lesion[1] * (base - top)
    x = float(chest.wall_x(side, y)) * sites.lesion[0]
    radius = 0.045 + 0.085 * severity
    distance = np.hypot(canvas.x - x, canvas.y - y) / radius
    lobulated = distance * (1 + 0.08 * canvas.noise(rng, 0.12))
    ball = np.sqrt(np.clip(1 - lobulated**2, 0, 1)) * scene.lungs[side]
    scene.tissue += canvas.blur(ball, 0.006) * (0.42 + 0.35 * severity)
    return (lobulated < 1) * scene.lungs[side]


def lung_opacity(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """An unspecific haze, through which the vessels are still visible."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Lung_Opacity"]
    top, base = chest.patient.apex, chest.domes[side][1]
    at = (chest.half_width * 0.55 * SIGN[side], top + sites.opacity_y * (base - top))
    haze = canvas.spot(at, 0.16 + 0.06 * severity, 0.17 + 0.12 * severity)
    haze = np.clip(haze * (1 + 0.25 * canvas.noise(rng, 0.15)), 0, 1) * scene.lungs[side]
    scene.flood((0.24 + 0.40 * severity) * haze)
    return ramp(haze, 0.25, 0.55)


def pleural_other(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Thickened pleura or plaque: a dense, wavy rim along the lateral wall, with blunted angle."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Pleural_Other"]
    top, base = chest.patient.apex + 0.2, chest.angles[side][1]
    middle = top + 0.6 * (base - top)
    reach = (0.3 + 0.2 * severity) * (base - top)
    rim = np.abs(chest.wall_x(side, canvas.y[:, canvas.size // 2]))[:, None] - np.abs(canvas.x)
    thick = 0.035 + 0.05 * severity
    wavy = thick * (1 + 0.22 * canvas.noise(rng, 0.16))
    along = ramp(np.abs(canvas.y - middle), reach, reach * 0.7)
    own_side = canvas.x * SIGN[side] > 0
    plaque = ramp(rim, wavy + 0.012, wavy - 0.012) * along * own_side * scene.lungs[side]
    scene.flood(0.85 * plaque)
    scene.tissue += (0.05 + 0.18 * severity) * plaque
    return plaque


def fracture(scene: Scene, severity: float, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Neighboring ribs broken: a dark gap, the outer piece displaced, a little callus."""
    canvas, chest, side = scene.canvas, scene.chest, sites.side["Fracture"]
    gaps, pieces, callus = canvas.fine_plane(), canvas.fine_plane(), np.zeros_like(scene.fluid)
    for rib in range(sites.fractured_rib, sites.fractured_rib + 1 + round(1.6 * severity)):
        line = chest.ribs[side][rib]
        at = int(sites.fracture_at * (len(line) - 1))
        x, y = line[at]
        canvas.lines(gaps, [line[at : at + 5]], 0.056, 1.0)
        step = np.array([-SIGN[side] * 0.012, 0.030 + 0.030 * severity], np.float32)
        canvas.lines(pieces, [line[at + 1 : at + 5] + step], 0.052, 0.95)
        canvas.lines(pieces, [line[at + 1 : at + 5] + step], 0.027, 0.6)
        callus = np.maximum(callus, canvas.spot((x, y + 0.015), 0.032, 0.030))
    scene.bone = scene.bone * (1 - 0.85 * canvas.downsample(gaps))
    scene.bone += 0.34 * scene.chest.patient.bone * canvas.downsample(pieces)
    scene.bone += (0.10 + 0.12 * severity) * callus
    return ramp(callus, 0.1, 0.35)


#: In the order of drawing: air outside the lung hides what is under it.
DRAWN: dict[str, Finding] = {
    "Cardiomegaly": cardiomegaly,
    "Enlarged_Cardiomediastinum": wide_mediastinum,
    "Lung_Opacity": lung_opacity,
    "Edema": edema,
    "Consolidation": consolidation,
    "Pneumonia": pneumonia,
    "Atelectasis": atelectasis,
    "Lung_Lesion": lung_lesion,
    "Pneumothorax": pneumothorax,
    "Pleural_Effusion": pleural_effusion,
    "Pleural_Other": pleural_other,
    "Fracture": fracture,
}


def _leads(canvas: Canvas, plane: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """ECG electrodes on the chest with their wires."""
    width = chest.half_width
    spots = xy([-0.75 * width, 0.75 * width, -0.85 * width, 0.9 * width, 0.2], [-0.5, -0.5, 0.25, 0.28, 0.1])
    chosen = rng.permutation(len(spots))[: rng.integers(3, 6)]
    for spot in chosen:
        x, y = spots[spot] + rng.normal(0, 0.06, 2)
        canvas.lines(plane, [ellipse(x, y, 0.026, 0.026, 17, closed=True)], 0.012, 0.75)
        canvas.fill(plane, ellipse(x, y, 0.012, 0.012, 17, closed=True), 0.95)
        end = (np.sign(x) * rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.2))
        bend = (0.5 * (x + end[0]) + rng.normal(0, 0.15), 0.5 * (y + end[1]) + rng.normal(0, 0.1))
        canvas.lines(plane, [curve([(x, y), bend, end], 10)], 0.010, 0.55)


def _central_line(canvas: Canvas, plane: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """A venous catheter through a jugular or subclavian vein into the superior vena cava."""
    tip = (chest.shift - 0.10, rng.uniform(-0.2, 0.02))
    side = rng.choice([-1.0, 1.0])
    if rng.uniform() < 0.5:
        path = [(side * 0.2, -1.1), (side * 0.14, -0.75), (-0.08, -0.45), tip]
    else:
        path = [(side * 0.75, -0.62), (side * 0.4, -0.62), (side * 0.12, -0.52), (-0.10, -0.36), tip]
    canvas.lines(plane, [curve(path, 10)], 0.014, 0.72)


def _endotracheal_tube(canvas: Canvas, plane: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """A tube in the trachea, its tip above the carina."""
    x, tip = chest.shift - 0.01, chest.patient.carina - rng.uniform(0.06, 0.2)
    for edge in (-0.017, 0.017):
        canvas.lines(plane, [curve([(edge, -1.2), (x + edge, -0.7), (x + edge, tip)])], 0.011, 0.7)


def _gastric_tube(canvas: Canvas, plane: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """A tube down the oesophagus into the stomach."""
    x, (dome_x, dome_y) = chest.shift, chest.domes[1]
    path = [(0.01, -1.2), (x + 0.02, -0.4), (x + 0.05, 0.2), (0.1, dome_y + 0.1), (dome_x, dome_y + 0.25)]
    canvas.lines(plane, [curve(path, 10)], 0.015, 0.72)


def _pacemaker(canvas: Canvas, plane: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """A generator below the left collar bone with leads to the right side of the heart."""
    x, y = 0.62 * chest.half_width + 0.03, -0.42 + rng.normal(0, 0.03)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    case_x = x + 0.095 * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.6
    canvas.fill(plane, xy(case_x, y + 0.08 * np.sin(angle)), 1.0)
    floor = chest.domes[1][1]
    for tip in ((chest.shift + 0.16, floor + 0.0), (chest.shift - 0.12, floor - 0.24)):
        path = [(x, y - 0.06), (0.28, -0.56), (0.02, -0.46), (-0.09, -0.2), (-0.10, 0.08), tip]
        canvas.lines(plane, [curve(path, 10)], 0.014, 0.85)


def _chest_tube(canvas: Canvas, plane: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """A drain through the lateral wall up towards the apex."""
    side = int(rng.integers(0, 2))
    sign = SIGN[side]
    low = rng.uniform(0.1, 0.35)
    wall = float(chest.wall_x(side, low))
    top = rng.uniform(-0.5, -0.3)
    path = xy([wall + sign * 0.3, wall * 0.98, wall * 0.75, wall * 0.55], [low + 0.15, low, -0.1, top])
    canvas.lines(plane, [curve(path, 10)], 0.024, 0.55)
    canvas.lines(plane, [curve(path, 10)], 0.008, 0.9)


DEVICES: dict[str, Callable[[Canvas, np.ndarray, Chest, np.random.Generator], None]] = {
    "leads": _leads,
    "line": _central_line,
    "tube": _endotracheal_tube,
    "gastric": _gastric_tube,
    "pacemaker": _pacemaker,
    "drain": _chest_tube,
}


def add_devices(scene: Scene, devices: Iterable[str], rng: np.random.Generator) -> None:
    """Draws devices, named as in `DEVICES`, over everything else."""
    plane = scene.canvas.fine_plane()
    for device in devices:
        DEVICES[device](scene.canvas, plane, scene.chest, rng)
    scene.bone += 1.05 * scene.canvas.downsample(plane)
