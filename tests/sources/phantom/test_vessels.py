"""Branching trees: levels, roots, reach."""

from itertools import pairwise

import numpy as np

from hilum.randomness import generator
from hilum.sources.phantom.vessels import branching


def test_stems_leave_the_root_and_branches_their_parents():
    tree = branching(generator(0, "tree"), (0.2, -0.1), fan=(-1, 1), reach=0.4, stems=7, levels=3)
    assert [level.shape[0] for level in tree] == [7, 21, 63]
    assert np.abs(tree[0][:, 0] - (0.2, -0.1)).max() < 0.08
    for parents, children in pairwise(tree):
        joints = parents.reshape(-1, 2)
        nearest = np.linalg.norm(children[:, :1] - joints[None], axis=2).min(axis=1)
        assert nearest.max() < 1e-6


def test_branches_grow_shorter():
    tree = branching(generator(1, "tree"), (0, 0), fan=(0, 3), reach=0.4)
    lengths = [np.linalg.norm(np.diff(level, axis=1), axis=2).sum(axis=1).mean() for level in tree]
    assert lengths[0] > 1.5 * lengths[1] > 2 * lengths[2]
