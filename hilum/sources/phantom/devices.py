"""Support devices: what hospital patients carry in and on the chest."""

from collections.abc import Callable, Iterable

import numpy as np

from hilum.sources.phantom.anatomy import Chest
from hilum.sources.phantom.canvas import Canvas, curve
from hilum.sources.phantom.frontal import Scene

Plane = np.ndarray


def _ring(centre: tuple[float, float], radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 17)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def _leads(canvas: Canvas, plane: Plane, chest: Chest, rng: np.random.Generator) -> None:
    """ECG electrodes on the chest with their wires."""
    width = chest.half_width
    spots = [
        (-0.75 * width, -0.5),
        (0.75 * width, -0.5),
        (-0.85 * width, 0.25),
        (0.9 * width, 0.28),
        (0.2, 0.1),
    ]
    chosen = rng.permutation(len(spots))[: rng.integers(3, 6)]
    for spot in chosen:
        x, y = np.asarray(spots[spot]) + rng.normal(0, 0.06, 2)
        canvas.lines(plane, [_ring((x, y), 0.026)], 0.012, 0.75)
        canvas.patch(plane, _ring((x, y), 0.012), 0.95)
        end = (np.sign(x) * rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.2))
        bend = (0.5 * (x + end[0]) + rng.normal(0, 0.15), 0.5 * (y + end[1]) + rng.normal(0, 0.1))
        canvas.lines(plane, [curve([(x, y), bend, end], 10)], 0.010, 0.55)


def _central_line(canvas: Canvas, plane: Plane, chest: Chest, rng: np.random.Generator) -> None:
    """A venous catheter through a jugular or subclavian vein into the superior vena cava."""
    tip = (chest.shift - 0.10, rng.uniform(-0.2, 0.02))
    side = rng.choice([-1.0, 1.0])
    if rng.uniform() < 0.5:
        path = [(side * 0.2, -1.1), (side * 0.14, -0.75), (-0.08, -0.45), tip]
    else:
        path = [(side * 0.75, -0.62), (side * 0.4, -0.62), (side * 0.12, -0.52), (-0.10, -0.36), tip]
    canvas.lines(plane, [curve(path, 10)], 0.014, 0.72)


def _endotracheal_tube(canvas: Canvas, plane: Plane, chest: Chest, rng: np.random.Generator) -> None:
    """A tube in the trachea, its tip above the carina."""
    x, tip = chest.shift - 0.01, chest.patient.carina - rng.uniform(0.06, 0.2)
    for edge in (-0.017, 0.017):
        canvas.lines(plane, [curve([(edge, -1.2), (x + edge, -0.7), (x + edge, tip)])], 0.011, 0.7)


def _gastric_tube(canvas: Canvas, plane: Plane, chest: Chest, rng: np.random.Generator) -> None:
    """A tube down the oesophagus into the stomach."""
    x, (dome_x, dome_y) = chest.shift, chest.domes[1]
    path = [(0.01, -1.2), (x + 0.02, -0.4), (x + 0.05, 0.2), (0.1, dome_y + 0.1), (dome_x, dome_y + 0.25)]
    canvas.lines(plane, [curve(path, 10)], 0.015, 0.72)


def _pacemaker(canvas: Canvas, plane: Plane, chest: Chest, rng: np.random.Generator) -> None:
    """A generator below the left collar bone with leads to the right side of the heart."""
    x, y = 0.62 * chest.half_width + 0.03, -0.42 + rng.normal(0, 0.03)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    case = np.stack(
        [x + 0.095 * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.6, y + 0.08 * np.sin(angle)], axis=1
    )
    canvas.patch(plane, case, 1.0)
    floor = chest.domes[1][1]
    for tip in ((chest.shift + 0.16, floor + 0.0), (chest.shift - 0.12, floor - 0.24)):
        path = [(x, y - 0.06), (0.28, -0.56), (0.02, -0.46), (-0.09, -0.2), (-0.10, 0.08), tip]
        canvas.lines(plane, [curve(path, 10)], 0.014, 0.85)


def _chest_tube(canvas: Canvas, plane: Plane, chest: Chest, rng: np.random.Generator) -> None:
    """A drain through the lateral wall up towards the apex."""
    side = int(rng.integers(0, 2))
    sign = (-1.0, 1.0)[side]
    low = rng.uniform(0.1, 0.35)
    wall = float(chest.wall_x(side, low))
    path = [
        (wall + sign * 0.3, low + 0.15),
        (wall * 0.98, low),
        (wall * 0.75, -0.1),
        (wall * 0.55, rng.uniform(-0.5, -0.3)),
    ]
    canvas.lines(plane, [curve(path, 10)], 0.024, 0.55)
    canvas.lines(plane, [curve(path, 10)], 0.008, 0.9)


DEVICES: dict[str, Callable[[Canvas, Plane, Chest, np.random.Generator], None]] = {
    "leads": _leads,
    "line": _central_line,
    "tube": _endotracheal_tube,
    "gastric": _gastric_tube,
    "pacemaker": _pacemaker,
    "drain": _chest_tube,
}


def add_devices(scene: Scene, devices: Iterable[str], rng: np.random.Generator) -> None:
    """Draws devices, named as in `DEVICES`, over everything else."""
    plane = scene.canvas.detail()
    for device in devices:
        DEVICES[device](scene.canvas, plane, scene.chest, rng)
    scene.bone += 1.05 * scene.canvas.settle(plane)
