"""A picture from its description: view, size, repeatability."""

import numpy as np
import pytest

from hilum.phantom.canvas import Canvas
from hilum.phantom.drawing import Exposure, Shot, draw_exposure, draw_shot, expose, frontal_scene
from hilum.phantom.findings import DEVICES
from hilum.randomness import generator


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


PLAIN = Exposure(photons=1e6, scatter=0.0, gamma=1.0, black=0.2, white=99.0, focus=0.0)


def film(**changed) -> np.ndarray:
    canvas = Canvas(96)
    steps = np.repeat(np.linspace(0.5, 3, 8, dtype=np.float32), 12)
    return expose(canvas, np.tile(steps, (96, 1)), PLAIN._replace(**changed), generator(0, "film"))


def test_denser_is_whiter():
    columns = film().mean(axis=0)
    assert (np.diff(columns[6::12]) > 0).all()
    assert columns[-1] > 240


def test_fewer_photons_make_more_grain():
    assert film(photons=3000)[:, 50].std() > 3 * film(photons=1e6)[:, 50].std()


def test_portable_films_have_more_scatter_and_fewer_photons():
    draws = {
        kind: [draw_exposure(generator(0, "x", n), portable=kind) for n in range(50)]
        for kind in (True, False)
    }
    scatter = {kind: np.mean([one.scatter for one in exposures]) for kind, exposures in draws.items()}
    photons = {kind: np.mean([one.photons for one in exposures]) for kind, exposures in draws.items()}
    assert scatter[True] > 2 * scatter[False]
    assert photons[True] < photons[False] / 2


def test_scatter_hides_what_lies_in_dense_tissue():
    stripes = np.tile(np.repeat(np.array([0.5, 2.5], np.float32), 24), (96, 2))
    stripes[46:50] += 0.3

    def dense_over_thin(scatter: float) -> float:
        shown = expose(Canvas(96), stripes, PLAIN._replace(scatter=scatter), generator(0, "film"))
        detail = shown[47:49].mean(axis=0) - shown[30:40].mean(axis=0)
        return detail[30:42].mean() / detail[54:66].mean()

    assert dense_over_thin(1.0) < 0.7 * dense_over_thin(0.0)
