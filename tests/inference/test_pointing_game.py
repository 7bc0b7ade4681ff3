"""Tests of hilum.inference.pointing_game."""

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.inference.pointing_game import distance_to, write_pointing
from hilum.report.run_page import write_report
from hilum.run_folder import RunFolder


def test_the_maximum_counts_whatever_the_sizes():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 6:8] = 255
    heat = np.zeros((4, 4), np.float32)
    assert distance_to(mask, heat) == np.inf  # nothing speaks for it
    heat[1, 3] = 0.4
    assert distance_to(mask, heat) == 0
    heat[3, 3] = 0.5  # the lower right quarter's middle, pixel (7, 7): 4 rows below the finding
    assert distance_to(mask, heat) == pytest.approx(4 / 8)


def test_the_game_is_played_and_shown_in_the_report(run, tmp_path):
    result = write_pointing(RunFolder(run.path), most=2)
    games = {game["target"]: game for game in result["findings"]}
    assert set(games) == {"Pleural_Effusion", "Cardiomegaly", "Consolidation", "Pneumothorax"}
    effusion = games["Pleural_Effusion"]
    assert 0 <= effusion["hits"] <= effusion["games"] == 2
    assert effusion["hits"] <= effusion["near"] <= effusion["games"]
    assert effusion["low"] <= effusion["share"] <= effusion["high"]
    assert 0 < effusion["chance"] < 0.5
    page = write_report(RunFolder(run.path), tmp_path / "report.html").read_text()
    assert "Do the heatmaps point at the finding?" in page


def test_other_images_have_no_masks(run, tmp_path):
    folder = RunFolder(run.path)
    folder.record["catalog"] = folder.record["catalog"] | {"name": "nih"}
    with pytest.raises(HilumError, match="needs a phantom with masks; the run's images are nih"):
        write_pointing(folder)
