"""The worst mistakes come first, each finding in its turn, with the image where it can be read."""

import base64

import cv2
import numpy as np
import pandas as pd
import pytest

from hilum.report.error_gallery import THUMBNAIL_SIDE, hardest_images, missing_thumbnails, thumbnail
from hilum.report.validation import Validation


@pytest.fixture
def validation() -> Validation:
    """Six images; Edema at 0.5 misses 10, 11 and 12, Mass at 0.3 misses 13; false alarms are 14 and 15."""
    index = pd.Index(range(10, 16), name="ImageID")
    labels = pd.DataFrame({"Edema": [1, 1, 1, 0, 0, np.nan], "Mass": [0, 0, 1, 1, 0, 0.0]}, index=index)
    given = pd.DataFrame(
        {"Edema": [0.3, 0.1, 0.2, 0.4, 0.9, 0.99], "Mass": [0.1, 0.2, 0.3, 0.25, 0.1, 0.8]}, index=index
    )
    return Validation(
        epoch=1,
        labels=labels.astype(np.float32),
        probabilities=given.astype(np.float32),
        patients=np.arange(100, 106),
        thresholds=np.array([0.5, 0.3]),
        images=pd.DataFrame({"Image_Path": [f"{number}.png" for number in index]}, index=index),
    )


def found(images) -> list[tuple]:
    return [(image.target, image.image_id) for image in images]


def test_missed_images_are_the_positives_with_the_lowest_probabilities_each_finding_in_turn(validation):
    missed = hardest_images(validation, None, missed=True)
    # A probability that equals the threshold, as of image 12, is a positive prediction.
    assert found(missed) == [("Edema", 11), ("Mass", 13), ("Edema", 12), ("Edema", 10)]
    assert [image.probability for image in missed] == pytest.approx([0.1, 0.25, 0.2, 0.3])
    assert (missed[0].threshold, missed[0].patient_id, missed[0].path) == (0.5, 101, "11.png")


def test_false_alarms_are_the_negatives_with_the_highest_and_an_unknown_label_is_none(validation):
    assert found(hardest_images(validation, None, missed=False)) == [("Edema", 14), ("Mass", 15)]


def test_no_more_are_given_than_asked_for(validation):
    assert found(hardest_images(validation, None, missed=True, most=2)) == [("Edema", 11), ("Mass", 13)]


def test_images_that_can_be_read_have_a_small_copy_and_the_others_are_counted(validation, tmp_path):
    cv2.imwrite(str(tmp_path / "11.png"), np.full((400, 300), 90, dtype=np.uint8))
    missed = hardest_images(validation, str(tmp_path), missed=True, most=2)
    assert missing_thumbnails(missed) == 1
    data = base64.b64decode(missed[0].thumbnail.partition("base64,")[2])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels.shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 3 // 4)
    assert abs(int(pixels.mean()) - 90) <= 1


def test_a_merged_data_sets_image_is_read_in_its_sources_folder(tmp_path):
    (tmp_path / "there").mkdir()
    cv2.imwrite(str(tmp_path / "there" / "a.png"), np.zeros((8, 8), dtype=np.uint8))
    roots = {"nih": str(tmp_path / "there")}
    assert thumbnail(roots, "nih/a.png").startswith("data:image/jpeg;base64,")
    assert thumbnail(roots, "mimic/a.png") is None
    assert thumbnail(None, "a.png") is None
