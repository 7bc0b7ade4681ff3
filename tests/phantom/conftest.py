"""Pictures to look at: a description with few words, and its layers."""

import pytest

from hilum.phantom.canvas import Canvas
from hilum.phantom.drawing import Shot, frontal_scene


@pytest.fixture
def shot():
    """Describes a picture of one of some patients, who differ in sex and anatomy."""

    def describe(
        patient: int = 1, projection: str = "PA", devices: tuple[str, ...] = (), **severities: float
    ):
        return Shot(0, patient, 1, 1, patient % 2 == 0, 60, projection, severities, devices)

    return describe


@pytest.fixture
def paint(shot):
    """The scene and the masks of a described picture, not moved on the film."""
    return lambda *described, **severities: frontal_scene(shot(*described, **severities), Canvas(128))
