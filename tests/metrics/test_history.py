import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from hilum.errors import HilumError
from hilum.metrics import Metrics, UndefinedScoreWarning, combined_scores, itemized_scores

HISTORIES = ("train_probability_hx", "val_probability_hx", "train_prediction_hx", "val_prediction_hx")


def assert_equal(first, second):
    assert first.target_columns == second.target_columns
    np.testing.assert_array_equal(first.target_thresholds, second.target_thresholds)
    assert_frame_equal(first.scores, second.scores)
    assert_frame_equal(first.combined, second.combined)
    for name in HISTORIES:
        ours, theirs = getattr(first, name), getattr(second, name)
        assert list(ours) == list(theirs)
        for epoch in ours:
            assert_frame_equal(ours[epoch], theirs[epoch])


def test_histories_hold_the_sigmoid_of_each_output_and_what_reaches_the_threshold(run):
    metrics = run.metrics({"Fracture": 0.3})
    assert list(metrics.val_probability_hx) == [1, 2]
    probabilities = metrics.val_probability_hx[2]
    expected = torch.sigmoid(torch.tensor(run.logits[2, "val"])).numpy()
    np.testing.assert_allclose(probabilities.to_numpy(), expected, rtol=1e-6)
    assert probabilities.index.name == "ImageID"
    assert list(probabilities.columns) == run.targets
    assert (probabilities.dtypes == np.float32).all()
    predictions = metrics.val_prediction_hx[2]
    assert (predictions.dtypes == np.int8).all()
    np.testing.assert_array_equal(
        predictions, (probabilities >= np.array([0.5, 0.3, 0.5], np.float32)).astype(int)
    )
    assert metrics.df_val_prediction is predictions
    assert metrics.df_train_probability is metrics.train_probability_hx[2]


def test_before_the_first_epoch(run):
    metrics = Metrics(run.targets, run.actual["train"], None)
    assert metrics.df_train_probability is None
    assert metrics.val_actual is None
    assert (len(metrics.scores), len(metrics.combined), metrics.epochs()) == (0, 0, [])


def test_scores_are_those_of_the_functions(run):
    metrics = run.metrics([0.4, 0.5, 0.6])
    scores = metrics.scores
    assert list(scores[["epoch", "part"]].drop_duplicates().itertuples(index=False, name=None)) == [
        (1, "train"),
        (1, "val"),
        (2, "train"),
        (2, "val"),
    ]
    expected = itemized_scores(run.actual["val"], metrics.val_probability_hx[2], run.targets, [0.4, 0.5, 0.6])
    assert_frame_equal(scores.iloc[-3:, 2:].reset_index(drop=True), expected)
    assert list(scores.columns[:3]) == ["epoch", "part", "target"]
    combined = metrics.combined
    assert list(combined.columns) == [
        "epoch",
        "part",
        "loss",
        "accuracy",
        "hamming_loss",
        "recall",
        "precision",
        "f1",
    ]
    assert combined.iloc[-1, 2:].to_dict() == {
        "loss": 0.5,
        **combined_scores(run.actual["val"], metrics.val_prediction_hx[2]),
    }


def test_neither_the_order_of_batches_nor_of_epochs_matters(run):
    assert_equal(run.metrics(), run.metrics(shuffle_seed=3))
    other = Metrics(run.targets, run.actual["train"].iloc[::-1], run.actual["val"])
    for epoch, part in reversed(run.logits):
        run.feed(other, epoch, part, batch_size=7)
        other.close_epoch(epoch, is_validation=part == "val", loss=1 / epoch)
    assert_frame_equal(run.metrics().scores, other.scores)


def test_arrays_and_tensors_give_the_same(run):
    from_arrays, from_tensors = (Metrics(run.targets, run.actual["train"], None) for _ in range(2))
    ids, logits = run.actual["train"].index.to_numpy(), run.logits[1, "train"]
    from_arrays.append_epoch_batch_data(ids, logits)
    from_tensors.append_epoch_batch_data(torch.tensor(ids), torch.tensor(logits, requires_grad=True))
    from_arrays.close_epoch(1)
    from_tensors.close_epoch(1)
    assert_equal(from_arrays, from_tensors)


def test_repeated_images_are_numbered_in_the_order_they_came(run):
    actual = run.actual["train"].iloc[[0, 1, 1, 0, 1]]  # as oversampling leaves it
    metrics = Metrics(run.targets, actual, None)
    metrics.append_epoch_batch_data([101, 100], [[1, 1, 1], [2, 2, 2]])
    metrics.append_epoch_batch_data([101, 100, 101], [[3, 3, 3], [4, 4, 4], [5, 5, 5]])
    with pytest.warns(UndefinedScoreWarning):
        metrics.close_epoch(1)
    table = metrics.predictions(1)
    assert table[["ImageID", "draw"]].to_numpy().tolist() == [
        [100, 0],
        [100, 1],
        [101, 0],
        [101, 1],
        [101, 2],
    ]
    logits = np.log(table["prob_Edema"] / (1 - table["prob_Edema"]))
    np.testing.assert_allclose(logits, [2, 4, 1, 3, 5], rtol=1e-4)
    np.testing.assert_array_equal(table["label_Edema"], run.actual["train"]["Edema"].iloc[[0, 0, 1, 1, 1]])


def test_predictions_make_an_equal_metrics_again(run, tmp_path):
    metrics = run.metrics({"Edema": 0.35})
    for epoch in metrics.epochs():
        metrics.predictions(epoch).to_parquet(tmp_path / f"{epoch}.parquet")
    metrics.combined.to_parquet(tmp_path / "combined.parquet")
    tables = {epoch: pd.read_parquet(tmp_path / f"{epoch}.parquet") for epoch in (2, 1)}
    again = Metrics.from_predictions(tables, {"Edema": 0.35}, pd.read_parquet(tmp_path / "combined.parquet"))
    assert_equal(metrics, again)
    assert_frame_equal(metrics.train_actual, again.train_actual)
    assert_frame_equal(metrics.predictions(1), again.predictions(1))
    assert Metrics.from_predictions(tables).combined["loss"].isna().all()


def test_a_run_without_validation_can_be_made_again(run):
    metrics = Metrics(run.targets, run.actual["train"], None)
    run.feed(metrics, 1, "train")
    metrics.close_epoch(1)
    again = Metrics.from_predictions({1: metrics.predictions(1)})
    assert again.val_actual is None
    assert_frame_equal(metrics.scores, again.scores)


def test_predictions_that_cannot_be_used(run):
    table = run.metrics().predictions(1)
    with pytest.raises(HilumError, match="no predictions"):
        Metrics.from_predictions({})
    with pytest.raises(HilumError, match="their targets differ"):
        Metrics.from_predictions({1: table, 2: table.drop(columns=["label_Edema", "prob_Edema"])})


def test_thresholds_can_be_changed_afterwards(run):
    metrics = run.metrics()
    before = metrics.scores
    other = metrics.with_thresholds([0.2, 0.3, 0.4])
    assert_equal(other, run.metrics([0.2, 0.3, 0.4]))
    assert_frame_equal(metrics.scores, before)
    assert_frame_equal(other.scores[["roc_auc", "avg_precision"]], before[["roc_auc", "avg_precision"]])


def test_an_undefined_score_is_warned_of_once(run):
    train = run.actual["train"].assign(Edema=0.0, Fracture=np.nan)
    train["Pleural_Effusion"] = 1.0
    with pytest.warns(UndefinedScoreWarning) as caught:
        metrics = run.metrics(train=train)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 3
    assert messages[0].startswith("Edema: none of 60 labelled images is positive in train, so its recall")
    assert messages[1].startswith("Fracture: no image has a known label in train")
    assert messages[2].startswith(
        "Pleural_Effusion: none of 60 labelled images is negative in train, so its ROC AUC is"
    )
    assert all(warning.filename.endswith("conftest.py") for warning in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.with_thresholds(0.3)


def test_a_half_closed_epoch_has_one_part(run):
    metrics = Metrics(run.targets, run.actual["train"], run.actual["val"])
    run.feed(metrics, 1, "val")
    metrics.close_epoch(1, is_validation=True)
    assert set(metrics.predictions(1)["part"]) == {"val"}
    with pytest.raises(HilumError, match="Epoch 1 of 'train' is not closed; closed are: none"):
        metrics.rankings(1, "train")


def test_mistakes_of_the_caller_are_named(run):
    metrics = Metrics(run.targets, run.actual["train"], None)
    with pytest.raises(HilumError, match="Epoch 1 of train is empty"):
        metrics.close_epoch(1)
    with pytest.raises(HilumError, match="this Metrics has no val_actual"):
        metrics.append_epoch_batch_data([100], [[0, 0, 0]], is_validation=True)
    with pytest.raises(HilumError, match=r"outputs \(1, 2\)"):
        metrics.append_epoch_batch_data([100], [[0, 0]])
    with pytest.raises(HilumError, match="Epoch 1 is not closed; closed are none"):
        metrics.predictions(1)
    run.feed(metrics, 1, "train")
    metrics.close_epoch(1)
    with pytest.raises(HilumError, match="Epoch 1 of train is already closed"):
        metrics.close_epoch(1)
    metrics.append_epoch_batch_data([999], [[0, 0, 0]])
    with pytest.raises(HilumError, match=r"1 ImageIDs of this epoch are not in train_actual, e\.g\. 999"):
        metrics.close_epoch(2)


def test_a_diverged_model_is_named_with_its_first_image(run):
    run.logits[1, "val"][7:, 2] = np.nan
    with pytest.raises(HilumError, match=r"Pleural_Effusion: 33 of 40 probabilities .* nan at ImageID 507"):
        run.metrics()


def test_import_waits_for_torch_and_matplotlib():
    heavy = {"torch", "matplotlib", "sklearn", "rich"}
    program = f"import sys, hilum.metrics; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_is_read_back_from_its_folder(run_folder):
    folder, metrics = run_folder
    loaded = Metrics.from_run(folder.path)
    assert loaded.target_columns == metrics.target_columns
    assert loaded.target_thresholds.tolist() == metrics.target_thresholds.tolist()
    pd.testing.assert_frame_equal(loaded.scores, metrics.scores)
    pd.testing.assert_frame_equal(loaded.combined, metrics.combined)
    for name in ("train_probability_hx", "val_probability_hx", "train_prediction_hx", "val_prediction_hx"):
        for epoch in (1, 2):
            pd.testing.assert_frame_equal(getattr(loaded, name)[epoch], getattr(metrics, name)[epoch])


def test_a_missing_or_damaged_table_of_a_run_is_named(run_folder):
    folder, _ = run_folder
    path = folder.path / "predictions" / "epoch-0002.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HilumError, match=r"epoch-0002\.parquet: the file is damaged"):
        Metrics.from_run(folder)
    (folder.path / "combined.parquet").unlink()
    with pytest.raises(HilumError, match=r"combined\.parquet: the file is missing; the run is running"):
        Metrics.from_run(folder)
