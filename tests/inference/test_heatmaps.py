"""Tests of hilum.inference.heatmaps: on a network whose evidence is known, and the pointing game on a run."""

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.inference.heatmaps import Heatmaps, distance_to, fine_layer, over_image, write_pointing_game
from hilum.report.run_page import write_report
from hilum.run_folder import RunFolder


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
    """Gray, with a bright square that `Spot` uses."""
    pixels = np.full((32, 32), 60, np.uint8)
    pixels[8:12, 20:24] = 230
    return pixels


#: Of `Spot`: an opacity, and what is darker than the lung.
TARGETS = ("Lung_Lesion", "pneumothorax")

#: Of training images of one gray level.
FLAT = {"mean_image": np.zeros((16, 16)).tolist()}


@pytest.mark.parametrize("reference", [None, FLAT])
@pytest.mark.parametrize("target", [0, 1])
def test_the_maximum_is_at_bright_and_at_dark_evidence(image, target, reference):
    pixels = image if target == 0 else 255 - image
    heat = Heatmaps(Spot(), TARGETS, reference)(pixels, target)
    row, column = np.unravel_index(np.argmax(heat), (32, 32))
    assert 8 <= row < 12
    assert 20 <= column < 24
    assert heat.dtype == np.float32
    assert heat.max() == 1


class TwoSpots(Spot):
    """Logit 0 rises with two squares equally."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 32, 32) to (B, 2)."""
        cells = self.pool(images.float() / 255)
        return ((cells[:, :, 2, 5] + cells[:, :, 2, 1]) * self.weight).expand(-1, 2)


def test_evidence_beyond_the_average_chest_counts_more(image):
    image[8:12, 4:8] = 240  # a little brighter than the other square, and part of the average chest
    average = np.zeros((16, 16))
    average[4:6, 2:4] = 1
    assert _side_of_maximum(Heatmaps(TwoSpots(), TARGETS)(image, 0)) == "left"
    assert (
        _side_of_maximum(Heatmaps(TwoSpots(), TARGETS, {"mean_image": average.tolist()})(image, 0)) == "right"
    )


def _side_of_maximum(heat: np.ndarray) -> str:
    return "left" if heat[:, :16].max() > heat[:, 16:].max() else "right"


def test_hiding_the_evidence_lowers_the_probability_and_hiding_another_place_does_not(image):
    heatmaps = Heatmaps(Spot(), TARGETS)
    check = heatmaps.occlusion_check(image, 0, heatmaps(image, 0))
    assert check.lowers
    assert check.hidden < 0.5 < check.probability
    assert check.stronger_than > 0.7
    elsewhere = np.zeros((32, 32), np.float32)
    elsewhere[28, 3] = 1
    assert not heatmaps.occlusion_check(image, 0, elsewhere).lowers


def test_cells_are_over_the_pixels_that_their_convolutions_are_centred_on():
    cells = np.zeros((4, 4), np.float32)
    cells[1, 2] = 1
    assert np.unravel_index(np.argmax(over_image(cells, (32, 32))), (32, 32)) == (8, 16)


def test_the_layer_of_grad_cam_is_fine_enough():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1))
    assert fine_layer(net, torch.zeros(1, 1, 32, 32)) is net[1]
    assert fine_layer(net, torch.zeros(1, 1, 8, 8)) is net[1]  # of 2 x 2: the last has one cell
    with pytest.raises(HilumError, match="needs a layer of feature maps"):
        fine_layer(nn.Flatten(), torch.zeros(1, 1, 8, 8))


def test_the_distance_of_the_maximum_does_not_depend_on_the_sizes():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 6:8] = 255
    heat = np.zeros((4, 4), np.float32)
    assert distance_to(mask, heat) == np.inf  # no evidence
    heat[1, 3] = 0.4
    assert distance_to(mask, heat) == 0
    heat[3, 3] = 0.5  # the lower right quarter's middle, pixel (7, 7): 4 rows below the finding
    assert distance_to(mask, heat) == pytest.approx(4 / 8)


def test_the_pointing_game_is_written_and_shown_in_the_report(run, tmp_path):
    result = write_pointing_game(RunFolder(run.path), most=2)
    games = {game["target"]: game for game in result["findings"]}
    assert set(games) == {"Pleural_Effusion", "Cardiomegaly", "Consolidation", "Pneumothorax"}
    effusion = games["Pleural_Effusion"]
    assert 0 <= effusion["hits"] <= effusion["games"] == 2
    assert effusion["hits"] <= effusion["near"] <= effusion["games"]
    assert effusion["low"] <= effusion["share"] <= effusion["high"]
    assert 0 < effusion["chance"] < 0.5
    page = write_report(RunFolder(run.path), tmp_path / "report.html").read_text()
    assert "do the heatmaps point at the finding?" in page


def test_the_pointing_game_needs_masks(run, tmp_path):
    folder = RunFolder(run.path)
    folder.record["catalog"] = folder.record["catalog"] | {"name": "nih"}
    with pytest.raises(HilumError, match="needs a phantom with masks; the run's images are nih"):
        write_pointing_game(folder)
