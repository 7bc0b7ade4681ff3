"""Image plans with few arguments, and the layers of the drawn image."""

import pytest

from hilum.phantom._canvas import Canvas
from hilum.phantom.drawing import ImagePlan, frontal_scene


@pytest.fixture
def plan():
    """Plans an image of one of several patients, who differ in sex and anatomy."""

    def make(patient: int = 1, projection: str = "PA", devices: tuple[str, ...] = (), **severities: float):
        return ImagePlan(0, patient, 1, 1, patient % 2 == 0, 60, projection, severities, devices)

    return make


@pytest.fixture
def paint(plan):
    """The scene and the masks of a planned image, without a shift or a rotation."""
    return lambda *args, **severities: frontal_scene(plan(*args, **severities), Canvas(128))
