"""An image from its plan: view, size, repeatability, and the lateral view."""

import numpy as np
import pytest

from hilum.phantom._anatomy import draw_patient
from hilum.phantom._canvas import Canvas
from hilum.phantom._findings import DEVICES
from hilum.phantom.drawing import ImagePlan, draw_image, frontal_scene, lateral_attenuation
from hilum.randomness import generator


def test_an_image_is_gray_square_and_repeatable(plan):
    image, masks = draw_image(plan(Edema=0.5), 128)
    again, _ = draw_image(plan(Edema=0.5), 128)
    assert image.shape == (128, 128)
    assert image.dtype == np.uint8
    assert image.std() > 30
    assert set(masks) == {"Edema", "Lung_Opacity"}
    np.testing.assert_array_equal(image, again)


@pytest.mark.parametrize("projection", ["AP", "PA", "LL", "RL", ""])
@pytest.mark.parametrize("size", [32, 65, 320])
def test_every_view_and_size_is_drawn(plan, projection, size):
    image, masks = draw_image(plan(3, projection, tuple(DEVICES), Fracture=0.5, Pleural_Effusion=1.0), size)
    assert image.shape == (size, size)
    assert bool(masks) == (projection != "")


def test_a_patient_is_the_same_in_every_study_in_another_posture():
    first, later = (ImagePlan(0, 9, study, 1, True, 50, "PA") for study in (1, 2))
    chests = [frontal_scene(one, Canvas(64))[0].chest for one in (first, later)]
    assert chests[0].patient == chests[1].patient
    assert not np.array_equal(draw_image(first, 64)[0], draw_image(later, 64)[0])


def test_findings_stay_on_their_side_from_study_to_study():
    plans = [ImagePlan(0, 9, study, 1, True, 50, "PA", {"Pneumothorax": 0.6}) for study in (1, 2)]
    first, later = (frontal_scene(one, Canvas(128))[1]["Pneumothorax"] > 0.5 for one in plans)
    assert np.mean(first == later) > 0.97


def attenuation(**severities: float) -> np.ndarray:
    patient = draw_patient(generator(0, "anatomy"), female=True, age=60)
    return lateral_attenuation(Canvas(96), patient, severities, generator(0, "lateral"))


@pytest.mark.parametrize("name", ["Cardiomegaly", "Pleural_Effusion", "Consolidation", "Lung_Opacity"])
def test_what_fills_the_lung_makes_it_denser(name):
    added = attenuation(**{name: 0.8}) - attenuation()
    assert added.max() > 0.15
    assert added.mean() > 0.001


def test_effusion_collects_below_and_behind():
    rows, columns = np.nonzero(attenuation(Pleural_Effusion=0.4) - attenuation() > 0.2)
    assert rows.mean() > 55
    assert columns.mean() > 48
