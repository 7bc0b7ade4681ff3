"""A simple lateral view: the patient faces the left edge of the film."""

from collections.abc import Mapping

import numpy as np

from hilum.sources.phantom.anatomy import Patient
from hilum.sources.phantom.canvas import Canvas, curve, ramp, ribbons
from hilum.sources.phantom.findings import OPACITIES
from hilum.sources.phantom.vessels import branching


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
