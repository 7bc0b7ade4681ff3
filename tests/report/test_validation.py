"""What a run concluded from is read back row for row."""

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.report.validation import best_validation


def test_the_best_epochs_validation_rows_belong_together(write_run):
    folder, metrics = write_run()
    folder.update(best_epoch=1, operating_points={"Edema": {"threshold": 0.2}})
    validation = best_validation(folder)
    assert validation.epoch == 1
    assert validation.targets == ["Edema", "Mass"]
    assert validation.labels.index.tolist() == [5, 6, 7, 8]
    np.testing.assert_array_equal(validation.labels, metrics.val_actual)
    np.testing.assert_array_equal(validation.probabilities, metrics.val_probability_hx[1])
    assert validation.patients.tolist() == [10, 11, 10, 11]
    assert validation.thresholds.tolist() == [0.2, 0.25]  # the second has no operating point yet
    assert validation.images["Image_Path"].tolist() == ["5.png", "6.png", "7.png", "8.png"]


def test_a_probability_at_the_threshold_is_predicted_positive(write_run):
    folder, metrics = write_run()
    at = float(metrics.val_probability_hx[2]["Edema"].iloc[1])
    folder.update(operating_points={"Edema": {"threshold": at}})
    assert best_validation(folder).predicted["Edema"].tolist() == [True, True, True, False]


def test_a_run_without_an_epoch_has_none(write_run):
    folder, _ = write_run(epochs=0)
    with pytest.raises(HilumError, match="no epoch has ended yet"):
        best_validation(folder)
