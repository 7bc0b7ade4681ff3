"""Tests of hilum.inference.heatmaps, on a network whose evidence is known."""

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.inference.heatmaps import Heatmaps, fine_layer, over_image


class Spot(nn.Module):
    """Logit 0 rises with the gray levels of one square, logit 1 falls with them."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(4)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 32, 32) to (B, 2)."""
        square = self.pool(images.float() / 255)[:, :, 2, 5] * self.weight
        return torch.cat([square - 0.3, 0.3 - square], dim=1) * 8


@pytest.fixture
def image() -> np.ndarray:
    """Gray, with a bright square where `Spot` looks."""
    pixels = np.full((32, 32), 60, np.uint8)
    pixels[8:12, 20:24] = 230
    return pixels


#: Of `Spot`: an opacity, and what is darker than the lung.
TARGETS = ("Lung_Lesion", "pneumothorax")

#: As of training images that are alike all over.
FLAT = {"mean_image": np.zeros((16, 16)).tolist()}


@pytest.mark.parametrize("reference", [None, FLAT])
@pytest.mark.parametrize("target", [0, 1])
def test_bright_and_dark_evidence_is_found_where_it_is(image, target, reference):
    pixels = image if target == 0 else 255 - image
    heat = Heatmaps(Spot(), TARGETS, reference)(pixels, target)
    row, column = np.unravel_index(np.argmax(heat), (32, 32))
    assert 8 <= row < 12
    assert 20 <= column < 24
    assert heat.dtype == np.float32
    assert heat.max() == 1


class TwoSpots(Spot):
    """Logit 0 rises with two squares alike."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 32, 32) to (B, 2)."""
        cells = self.pool(images.float() / 255)
        return ((cells[:, :, 2, 5] + cells[:, :, 2, 1]) * self.weight).expand(-1, 2)


def test_evidence_beyond_the_average_chest_is_hotter_than_what_every_chest_shows(image):
    image[8:12, 4:8] = 240  # a little brighter than the other square, and as in the average
    average = np.zeros((16, 16))
    average[4:6, 2:4] = 1
    assert _hottest(Heatmaps(TwoSpots(), TARGETS)(image, 0)) == "left"
    assert _hottest(Heatmaps(TwoSpots(), TARGETS, {"mean_image": average.tolist()})(image, 0)) == "right"


def _hottest(heat: np.ndarray) -> str:
    return "left" if heat[:, :16].max() > heat[:, 16:].max() else "right"


def test_hiding_the_place_lowers_the_probability_and_hiding_another_does_not(image):
    heatmaps = Heatmaps(Spot(), TARGETS)
    check = heatmaps.occlusion_check(image, 0, heatmaps(image, 0))
    assert check.lowers
    assert check.hidden < 0.5 < check.probability
    assert check.stronger_than > 0.7
    elsewhere = np.zeros((32, 32), np.float32)
    elsewhere[28, 3] = 1
    assert not heatmaps.occlusion_check(image, 0, elsewhere).lowers


def test_cells_lie_over_the_pixels_that_their_convolutions_are_centred_on():
    cells = np.zeros((4, 4), np.float32)
    cells[1, 2] = 1
    assert np.unravel_index(np.argmax(over_image(cells, (32, 32))), (32, 32)) == (8, 16)


def test_a_layer_fine_enough_to_point():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1))
    assert fine_layer(net, torch.zeros(1, 1, 32, 32)) is net[1]
    assert fine_layer(net, torch.zeros(1, 1, 8, 8)) is net[1]  # of 2 x 2: the last has one cell
    with pytest.raises(HilumError, match="needs a layer of feature maps"):
        fine_layer(nn.Flatten(), torch.zeros(1, 1, 8, 8))
