"""Each finding is visible where radiologists look for it, and its mask covers it."""

import numpy as np
import pytest

from hilum.phantom._anatomy import RIBS
from hilum.phantom._findings import DEVICES, DRAWN, draw_sites
from hilum.randomness import generator
from hilum.targets import CHEXPERT_TARGETS

PATIENTS = range(1, 7)


def width(mask: np.ndarray) -> int:
    columns = np.flatnonzero(mask.any(axis=0))
    return columns[-1] - columns[0] + 1


def test_every_target_is_drawn():
    assert set(DRAWN) == set(CHEXPERT_TARGETS)


@pytest.mark.parametrize("name", CHEXPERT_TARGETS)
@pytest.mark.parametrize("projection", ["AP", "PA"])
def test_a_finding_changes_the_image_most_where_its_mask_is(paint, name, projection):
    inside, outside = [], []
    for patient in PATIENTS:
        healthy, _ = paint(patient, projection)
        ill, masks = paint(patient, projection, **{name: 0.8})
        assert 0.001 < (masks[name] > 0.5).mean() < 0.45
        change = np.abs(ill.attenuation() - healthy.attenuation())
        inside.append(change[masks[name] > 0.5].mean())
        outside.append(change[masks[name] <= 0.5].mean())
    assert np.mean(inside) > 3 * np.mean(outside)


@pytest.mark.parametrize("name", CHEXPERT_TARGETS)
def test_a_severe_finding_changes_more_than_a_mild_one(paint, name):
    change = {}
    for severity in (0.1, 0.9):
        scenes = [(paint(patient)[0], paint(patient, **{name: severity})[0]) for patient in PATIENTS]
        change[severity] = np.mean([np.abs(a.attenuation() - b.attenuation()).mean() for a, b in scenes])
    assert change[0.9] > 1.4 * change[0.1] > 0


@pytest.mark.parametrize("projection", ["AP", "PA"])
@pytest.mark.parametrize("patient", PATIENTS)
def test_the_cardiothoracic_ratio_shows_cardiomegaly(paint, patient, projection):
    ratios = []
    for found in ({}, {"Cardiomegaly": 0.05}, {"Cardiomegaly": 1.0}):
        scene, masks = paint(patient, projection, **found)
        heart = masks.get("Cardiomegaly", scene.heart) > 0.5
        ratios.append(width(heart) / width(np.maximum(*scene.lungs) > 0.5))
    healthy, mild, severe = ratios
    assert healthy < 0.5 < mild < severe < 0.75


@pytest.mark.parametrize("patient", PATIENTS)
def test_effusion_is_in_the_lower_half_of_the_lungs_and_is_white(paint, patient):
    scene, masks = paint(patient, Pleural_Effusion=0.5)
    fluid = masks["Pleural_Effusion"] > 0.5
    lungs = np.maximum(*scene.lungs) > 0.5
    rows = np.flatnonzero(lungs.any(axis=1))
    assert np.flatnonzero(fluid.any(axis=1)).mean() > rows.mean()
    assert (fluid & ~lungs).sum() == 0
    healthy, _ = paint(patient)
    assert scene.attenuation()[fluid].mean() > healthy.attenuation()[fluid].mean() + 0.2


@pytest.mark.parametrize("patient", PATIENTS)
def test_pneumothorax_is_dark_and_without_vessels(paint, patient):
    scene, masks = paint(patient, Pneumothorax=0.7)
    space = masks["Pneumothorax"] > 0.5
    mirrored = space[:, ::-1] & (np.maximum(*scene.lungs) > 0.5)
    assert scene.vessels[space].std() < 0.5 * scene.vessels[mirrored].std()
    assert scene.attenuation()[space].mean() < scene.attenuation()[mirrored].mean()


def test_edema_is_on_both_sides(paint):
    _, masks = paint(Edema=0.6)
    wings = masks["Edema"] > 0.5
    left, right = wings[:, :64].sum(), wings[:, 64:].sum()
    assert 0.4 < left / right < 2.5


def test_atelectasis_raises_the_diaphragm_of_its_side(paint):
    healthy, ill = paint(2)[0].chest, paint(2, Atelectasis=0.8)[0].chest
    lifted = [before[1] - after[1] for before, after in zip(healthy.domes, ill.domes, strict=True)]
    assert sorted(lifted) == [0.0, pytest.approx(0.15, abs=0.01)]


def test_the_mediastinum_widens(paint):
    healthy, ill = paint(4)[0].chest, paint(4, Enlarged_Cardiomediastinum=0.8)[0].chest
    assert np.ptp(ill.mediastinum[:, 0]) > 1.5 * np.ptp(healthy.mediastinum[:, 0])


def test_a_nodule_is_round(paint):
    _, masks = paint(5, Lung_Lesion=0.8)
    ball = masks["Lung_Lesion"] > 0.5
    assert width(ball) == pytest.approx(width(ball.T), rel=0.35)


def test_pleural_thickening_hugs_the_wall(paint):
    scene, masks = paint(3, Pleural_Other=0.8)
    rows, columns = np.nonzero(masks["Pleural_Other"] > 0.5)
    side = int(columns.mean() > 64)
    wall = scene.chest.wall_x(side, scene.canvas.y[rows, 0])
    assert np.abs(scene.canvas.x[rows, columns] - wall).max() < 0.15


def test_every_rib_that_may_break_exists():
    last = [draw_sites(generator(0, "sites", number)).fractured_rib + 1 + round(1.6) for number in range(200)]
    assert max(last) <= RIBS


@pytest.mark.parametrize("device", DEVICES)
def test_devices_are_dense_and_only_add(paint, device):
    without, _ = paint(2, "AP")
    scene, _ = paint(2, "AP", (device,))
    added = scene.attenuation() - without.attenuation()
    assert added.min() > -1e-5
    assert added.max() > 0.4
