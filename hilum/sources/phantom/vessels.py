"""Trees of vessels, or of bronchi, that branch from the root of a lung."""

import numpy as np

_POINTS = 5
_TWIGS = 3


def branching(
    rng: np.random.Generator,
    root: tuple[float, float],
    *,
    fan: tuple[float, float],
    reach: float,
    stems: int = 8,
    levels: int = 3,
) -> list[np.ndarray]:
    """Lines of a tree, one array of shape (branches, points, 2) per level, stems first.

    Args:
        rng: draws it.
        root: (x, y) where the stems start.
        fan: angles in radians between which the stems leave; 0 is to the right, pi / 2 down.
        reach: length of a stem.
        stems: how many leave the root.
        levels: how often they branch, the stems included.
    """
    angle = np.linspace(*fan, stems) + rng.normal(0, 0.12, stems)
    start = np.asarray(root) + rng.normal(0, 0.012, (stems, 2))
    length = reach * rng.uniform(0.65, 1.1, stems)
    tree = []
    along = np.linspace(0, 1, _POINTS)
    for _ in range(levels):
        bend = rng.normal(0, 0.38, len(angle))
        heading = angle[:, None] + bend[:, None] * along[None, 1:]
        step = (length / (_POINTS - 1))[:, None]
        moves = np.stack([np.cos(heading) * step, np.sin(heading) * step], axis=2)
        lines = np.concatenate([start[:, None], start[:, None] + np.cumsum(moves, axis=1)], axis=1)
        tree.append(lines.astype(np.float32))
        joint = rng.integers(1, _POINTS, (len(angle), _TWIGS))
        start = lines[np.arange(len(angle))[:, None], joint].reshape(-1, 2)
        side = rng.choice([-1.0, 1.0], joint.shape)
        angle = (
            heading[np.arange(len(angle))[:, None], joint - 1] + side * rng.uniform(0.3, 0.75, joint.shape)
        ).ravel()
        length = (length[:, None] * rng.uniform(0.3, 0.6, joint.shape)).ravel()
    return tree
