"""The largest errors come first, by turns of the targets, with the image where it can be read."""

import base64

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.metrics.predictions import Predictions
from hilum.report.error_gallery import THUMBNAIL_SIDE, RunImages, image_history, largest_errors
from hilum.run_folder import RunFolder


@pytest.fixture
def predictions() -> Predictions:
    """Six images; Edema at 0.5 misses 10, 11 and 12, Mass at 0.3 misses 13; false alarms are 14 and 15."""
    y_true = [[1, 0], [1, 0], [1, 1], [0, 1], [0, 0], [np.nan, 0]]
    y_score = [[0.3, 0.1], [0.1, 0.2], [0.2, 0.3], [0.4, 0.25], [0.9, 0.1], [0.99, 0.8]]
    return Predictions(
        y_true=np.array(y_true, dtype=np.float32),
        y_score=np.array(y_score, dtype=np.float32),
        image_ids=np.arange(10, 16),
        patients=np.arange(100, 106),
        targets=("Edema", "Mass"),
        thresholds=[0.5, 0.3],
    )


@pytest.fixture
def images_at(tmp_path):
    """The images of a run whose data set is in a folder (by source, for a merged data set)."""

    def make(root, paths: dict[int, str] | None = None) -> RunImages:
        paths = paths or {number: f"{number}.png" for number in range(10, 16)}
        record = {"settings": {}, "targets": ["Edema", "Mass"], "catalog": {"image_root": root}}
        folder = RunFolder.create(tmp_path / "runs", None, "run", record)
        folder.write_images(pd.DataFrame({"ImageID": paths.keys(), "Image_Path": paths.values()}))
        return RunImages(folder)

    return make


def found(errors) -> list[tuple]:
    return [(error.target, error.image_id) for error in errors]


def test_missed_images_are_the_positives_with_the_lowest_probabilities_by_turns_of_the_targets(
    predictions, images_at
):
    missed = largest_errors(predictions, images_at(None), missed=True)
    # A probability that equals the threshold, as of image 12, is a positive prediction.
    assert found(missed) == [("Edema", 11), ("Mass", 13), ("Edema", 12), ("Edema", 10)]
    assert [image.probability for image in missed] == pytest.approx([0.1, 0.25, 0.2, 0.3])
    assert (missed[0].threshold, missed[0].patient_id, missed[0].path) == (0.5, 101, "11.png")


def test_false_alarms_are_the_negatives_with_the_highest_probabilities_without_unknown_labels(
    predictions, images_at
):
    assert found(largest_errors(predictions, images_at(None), missed=False)) == [("Edema", 14), ("Mass", 15)]


def test_at_most_the_requested_number_is_returned(predictions, images_at):
    assert found(largest_errors(predictions, images_at(None), missed=True, most=2)) == [
        ("Edema", 11),
        ("Mass", 13),
    ]


def test_images_that_can_be_read_have_a_small_copy(predictions, images_at, tmp_path):
    cv2.imwrite(str(tmp_path / "11.png"), np.full((400, 300), 90, dtype=np.uint8))
    missed = largest_errors(predictions, images_at(str(tmp_path)), missed=True, most=2)
    assert [error.thumbnail is None for error in missed] == [False, True]
    data = base64.b64decode(missed[0].thumbnail.partition("base64,")[2])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels.shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4)
    assert abs(int(pixels.mean()) - 90) <= 1


def test_an_image_of_a_merged_data_set_is_read_in_its_sources_folder(images_at, tmp_path):
    (tmp_path / "there").mkdir()
    cv2.imwrite(str(tmp_path / "there" / "a.png"), np.zeros((8, 8), dtype=np.uint8))
    images = images_at({"nih": str(tmp_path / "there")}, {1: "nih/a.png", 2: "mimic/a.png"})
    assert images.thumbnail(1).startswith("data:image/jpeg;base64,")
    assert images.thumbnail(2) is None
    assert images_at(None, {1: "nih/a.png"}).thumbnail(1) is None


def test_a_run_of_an_earlier_version_has_no_images(write_run):
    folder, _ = write_run(with_images=False)
    images = RunImages(folder)
    assert images.table is None
    assert (images.path(5), images.pixels(5), images.thumbnail(5)) == (None, None, None)


def test_the_history_of_an_image_has_its_probabilities_by_epoch(write_run):
    folder, metrics = write_run()
    history = image_history(folder, 6)
    assert history.index.tolist() == [1, 2]
    np.testing.assert_array_equal(history.loc[2], metrics.val_probability_hx[2].loc[6])
    assert image_history(folder, 6, part="train").empty
