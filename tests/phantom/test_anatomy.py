"""The outlines of the chest, measured as radiologists measure them."""

from itertools import pairwise

import numpy as np
import pytest

from hilum.phantom._anatomy import SIDES, SIGN, branching, draw_patient, frontal_chest
from hilum.randomness import generator


def chest_of(number: int, **posture):
    patient = draw_patient(generator(0, "anatomy", number), female=number % 2 == 0, age=60)
    return frontal_chest(patient, generator(0, "posture", number), **{"portable": False} | posture)


def cardiothoracic_ratio(chest) -> float:
    walls = np.concatenate(chest.walls)
    return np.ptp(chest.heart[:, 0]) / np.ptp(walls[:, 0])


@pytest.mark.parametrize("portable", [False, True])
def test_a_healthy_heart_is_less_than_half_as_wide_as_the_chest(portable):
    ratios = [cardiothoracic_ratio(chest_of(number, portable=portable)) for number in range(40)]
    assert min(ratios) > 0.37
    assert max(ratios) < 0.5


@pytest.mark.parametrize("number", range(6))
def test_the_heart_is_to_the_left_between_the_lungs(number):
    heart = chest_of(number).heart
    assert heart[:, 0].max() > 1.4 * -heart[:, 0].min() > 0


@pytest.mark.parametrize("number", range(6))
def test_sides_are_where_they_belong_and_the_right_dome_is_higher(number):
    chest = chest_of(number)
    for side in SIDES:
        assert SIGN[side] * chest.lungs[side][:, 0].mean() > 0.2
        assert SIGN[side] * chest.hila[side][0] > 0
        assert chest.angles[side][1] > chest.domes[side][1]
    assert chest.domes[0][1] < chest.domes[1][1]


def test_in_bed_hearts_look_larger_and_breaths_are_shallower():
    upright, in_bed = ([chest_of(n, portable=portable) for n in range(40)] for portable in (False, True))
    ratio = [np.mean([cardiothoracic_ratio(chest) for chest in chests]) for chests in (upright, in_bed)]
    angle = [np.mean([chest.angles[0][1] for chest in chests]) for chests in (upright, in_bed)]
    assert ratio[1] > ratio[0] + 0.01
    assert angle[1] < angle[0] - 0.04


def test_stems_leave_the_root_and_branches_their_parents():
    branches = branching(generator(0, "tree"), (0.2, -0.1), fan=(-1, 1), reach=0.4, stems=7, levels=3)
    assert [level.shape[0] for level in branches] == [7, 21, 63]
    assert np.abs(branches[0][:, 0] - (0.2, -0.1)).max() < 0.08
    for parents, children in pairwise(branches):
        joints = parents.reshape(-1, 2)
        nearest = np.linalg.norm(children[:, :1] - joints[None], axis=2).min(axis=1)
        assert nearest.max() < 1e-6


def test_branches_grow_shorter():
    branches = branching(generator(1, "tree"), (0, 0), fan=(0, 3), reach=0.4)
    lengths = [np.linalg.norm(np.diff(level, axis=1), axis=2).sum(axis=1).mean() for level in branches]
    assert lengths[0] > 1.5 * lengths[1] > 2 * lengths[2]
