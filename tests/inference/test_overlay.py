"""Tests of hilum.inference.overlay: pictures, and the occlusion check of each."""

import csv
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hilum.errors import HilumError
from hilum.inference.overlay import OVERLAY_COLUMNS, captioned, fit_to_image, overlay, with_comment
from hilum.inference.predict import run_predict


def test_predict_writes_a_picture_and_a_check_for_each_suggested_finding(run, frontal, tmp_path, capsys):
    run_predict(run.path, [str(frontal)], heatmaps=tmp_path / "h", csv_file=tmp_path / "found.csv")
    with (tmp_path / "found.csv").open() as file:
        suggested = {row["finding"] for row in csv.DictReader(file) if row["suggested"] == "True"}
    with (tmp_path / "h" / "heatmaps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert suggested
    assert tuple(rows[0]) == OVERLAY_COLUMNS
    assert {row["finding"] for row in rows} == suggested
    assert {row["picture"] for row in rows} == {path.name for path in (tmp_path / "h").glob("*.png")}
    assert {row["note"] for row in rows} == {"research use only"}
    for row in rows:
        assert (row["lowers"] == "true") == (float(row["hidden"]) < float(row["probability"]))
        assert 0 <= float(row["stronger_than"]) <= 1
        rows, columns, _ = cv2.imread(str(tmp_path / "h" / row["picture"])).shape
        assert rows > columns == 64  # the caption is below it
        assert b"tEXtComment\0Research use only" in (tmp_path / "h" / row["picture"]).read_bytes()


def test_a_folder_with_other_pictures_is_an_error_before_reading(run, frontal, tmp_path, monkeypatch):
    (tmp_path / "heatmaps.csv").write_text("old")
    monkeypatch.setattr("hilum.inference.predict.predict", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(HilumError, match=r"already holds a heatmaps\.csv .* Give another folder, or remove"):
        run_predict(run.path, [str(frontal)], heatmaps=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["heatmaps.csv"]


@pytest.fixture
def corner() -> np.ndarray:
    heat = np.zeros((16, 16), np.float32)
    heat[:4, :4] = 1
    return heat


def test_the_radiograph_is_unchanged_where_the_heatmap_is_zero(reader, frontal, corner):
    image = reader.prepare(frontal.read_bytes(), frontal.name)
    picture = overlay(image, corner)
    unchanged = picture[32:, 32:]
    assert (unchanged == image.pixels[32:, 32:, None]).all()
    assert (picture[:8, :8, 0] != picture[:8, :8, 2]).any()  # coloured


@pytest.mark.parametrize("size", [(64, 64), (1024, 900), (300, 1024)])
def test_the_caption_covers_nothing_and_is_complete(size):
    picture = np.full((*size, 3), 90, np.uint8)
    with_caption = captioned(picture)
    assert (with_caption[: size[0]] == picture).all()
    strip = with_caption[size[0] :, :, 0] > 0
    written = np.argwhere(strip)
    assert written.min() > 0  # black all around: no letter is cut off
    assert (written.max(axis=0) < np.array(strip.shape) - 1).all()


def test_the_comment_can_be_read_and_the_picture_is_unchanged():
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    png = with_comment(cv2.imencode(".png", picture)[1].tobytes(), "Research use only")
    assert (cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) == picture).all()
    with Image.open(io.BytesIO(png)) as image:
        assert image.text == {"Comment": "Research use only"}


def test_parts_that_the_model_did_not_see_are_zero(corner):
    cropped = fit_to_image(corner, (100, 200), "crop")
    assert cropped.shape == (100, 200)
    assert cropped[:, :50].max() == cropped[:, 150:].max() == 0
    assert cropped[:20, 52:70].min() > 0.9
    letterboxed = fit_to_image(corner, (100, 200), "letterbox")
    assert letterboxed.shape[1] == 16
    assert abs(letterboxed.shape[0] - 8) <= 1
