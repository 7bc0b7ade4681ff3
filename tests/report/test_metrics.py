"""The metrics read back from a folder are those that were written."""

import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.report.metrics import read_metrics
from hilum.run_folder import RunFolder


def test_scores_losses_thresholds_and_histories_come_back(write_run):
    folder, metrics = write_run()
    loaded = read_metrics(RunFolder(folder.path))
    assert loaded.target_columns == metrics.target_columns
    assert loaded.target_thresholds.tolist() == [0.5, 0.25]
    assert loaded.epochs() == [1, 2]
    pd.testing.assert_frame_equal(loaded.scores, metrics.scores)
    pd.testing.assert_frame_equal(loaded.combined, metrics.combined)
    for epoch in (1, 2):
        for history in (
            "train_probability_hx",
            "val_probability_hx",
            "train_prediction_hx",
            "val_prediction_hx",
        ):
            pd.testing.assert_frame_equal(getattr(loaded, history)[epoch], getattr(metrics, history)[epoch])


def test_a_run_without_an_epoch_has_no_metrics(write_run):
    folder, _ = write_run(epochs=0)
    with pytest.raises(HilumError, match=r"combined\.parquet: the file is missing; the run is running"):
        read_metrics(folder)


def test_a_damaged_table_is_named(write_run):
    folder, _ = write_run()
    path = folder.path / "predictions" / "epoch-0002.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HilumError, match=r"epoch-0002\.parquet: the file is damaged"):
        read_metrics(folder)
