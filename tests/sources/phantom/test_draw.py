"""A picture from its description: view, size, repeatability."""

import numpy as np
import pytest

from hilum.sources.phantom.canvas import Canvas
from hilum.sources.phantom.devices import DEVICES
from hilum.sources.phantom.draw import Shot, draw_shot, frontal_scene


def test_a_picture_is_grey_square_and_repeatable(shot):
    image, masks = draw_shot(shot(Edema=0.5), 128)
    again, _ = draw_shot(shot(Edema=0.5), 128)
    assert image.shape == (128, 128)
    assert image.dtype == np.uint8
    assert image.std() > 30
    assert set(masks) == {"Edema", "Lung_Opacity"}
    np.testing.assert_array_equal(image, again)


@pytest.mark.parametrize("projection", ["AP", "PA", "LL", "RL", ""])
@pytest.mark.parametrize("size", [32, 65, 320])
def test_every_view_and_size_is_drawn(shot, projection, size):
    image, masks = draw_shot(shot(3, projection, tuple(DEVICES), Fracture=0.5, Pleural_Effusion=1.0), size)
    assert image.shape == (size, size)
    assert bool(masks) == (projection != "")


def test_a_patient_is_the_same_in_every_study_but_posed_anew():
    first, later = (Shot(0, 9, study, 1, True, 50, "PA") for study in (1, 2))
    chests = [frontal_scene(one, Canvas(64))[0].chest for one in (first, later)]
    assert chests[0].patient == chests[1].patient
    assert not np.array_equal(draw_shot(first, 64)[0], draw_shot(later, 64)[0])


def test_findings_stay_on_their_side_from_study_to_study():
    shots = [Shot(0, 9, study, 1, True, 50, "PA", {"Pneumothorax": 0.6}) for study in (1, 2)]
    first, later = (frontal_scene(one, Canvas(128))[1]["Pneumothorax"] > 0.5 for one in shots)
    assert np.mean(first == later) > 0.97
