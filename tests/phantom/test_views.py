"""The lateral view shows a large heart, fluid and opacities."""

import numpy as np
import pytest

from hilum.phantom.anatomy import draw_patient
from hilum.phantom.canvas import Canvas
from hilum.phantom.views import lateral_attenuation
from hilum.randomness import generator


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
