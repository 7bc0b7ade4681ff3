import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hilum.errors import HilumError
from hilum.metrics.predictions import (
    ActualLabels,
    PendingEpoch,
    Predictions,
    draw_numbers,
    labels_of_part,
    predictions_table,
    probabilities_of_part,
    sigmoid,
    targets_of_table,
)
from hilum.metrics.scores import scores_with_intervals


def table(ids, values):
    return pd.DataFrame({"Edema": values}, index=pd.Index(ids, name="ImageID"))


def test_labels_are_found_by_image_id_and_the_first_of_a_repeated_one_counts():
    actual = ActualLabels("train", table([7, 3, 7, 5], [1, 0, 0, np.nan]), ["Edema"])
    np.testing.assert_array_equal(actual.of(np.array([5, 7, 3, 7]))[:, 0], [np.nan, 1, 0, 1])
    assert actual.table.index.tolist() == [3, 5, 7]


def test_unknown_images_are_named():
    actual = ActualLabels("val", table([3, 5], [1, 0]), ["Edema"])
    with pytest.raises(HilumError, match=r"2 ImageIDs of this epoch are not in val_actual, e\.g\. 4, 9"):
        actual.of(np.array([9, 3, 4, 9]))
    with pytest.raises(HilumError, match="not in val_actual"):
        ActualLabels("val", table([], []).set_index(pd.Index([], dtype=int)), ["Edema"]).of(np.array([1]))


def test_unusable_tables_are_refused():
    with pytest.raises(HilumError, match=r"train_actual has no column 'Edma'\. Did you mean 'Edema'\?"):
        ActualLabels("train", table([1], [1]), ["Edma"])
    with pytest.raises(HilumError, match="train_actual is indexed by"):
        ActualLabels("train", table(["a"], [1]), ["Edema"])
    with pytest.raises(HilumError, match=r"train_actual, Edema: 1 of 2 labels .* -1\.0 at ImageID 8"):
        ActualLabels("train", table([4, 8], [1, -1]), ["Edema"])


def small():
    index = pd.Index([3, 3, 8], name="ImageID")
    values = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=np.float32)
    probabilities = pd.DataFrame(values, index=index, columns=["Edema", "Fracture"])
    labels = np.array([[1, np.nan], [1, np.nan], [0, 1]], dtype=np.float32)
    return predictions_table("train", labels, probabilities), probabilities


def test_there_and_back():
    table, probabilities = small()
    assert list(table.columns) == [
        "part",
        "ImageID",
        "draw",
        "label_Edema",
        "label_Fracture",
        "prob_Edema",
        "prob_Fracture",
    ]
    assert table["draw"].tolist() == [0, 1, 0]
    targets = targets_of_table(table)
    assert targets == ("Edema", "Fracture")
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(probabilities_of_part(shuffled, "train", targets), probabilities)
    assert labels_of_part([table, shuffled], "train", targets).index.tolist() == [3, 8]
    assert labels_of_part([table], "val", targets).empty


def test_survives_parquet(tmp_path):
    table, _ = small()
    table.to_parquet(tmp_path / "epoch.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "epoch.parquet"), table)


def test_other_tables_are_refused():
    table, _ = small()
    with pytest.raises(HilumError, match="wrong here: draw"):
        targets_of_table(table.drop(columns="draw"))
    with pytest.raises(HilumError, match="wrong here: prob_Edema"):
        targets_of_table(table.drop(columns="prob_Edema"))
    with pytest.raises(HilumError, match="wrong here: their order"):
        targets_of_table(table[table.columns[::-1]])


def test_batches_come_back_in_order_from_tensors_of_any_float():
    pending = PendingEpoch("train", 2)
    pending.append(
        torch.tensor([5, 6]), torch.tensor([[1.0, 2], [3, 4]], dtype=torch.bfloat16, requires_grad=True)
    )
    pending.append(torch.tensor([7]), torch.tensor([[5.0, 6]], dtype=torch.float64))
    ids, logits = pending.read()
    assert (ids.dtype, logits.dtype) == (np.int64, np.float32)
    assert ids.tolist() == [5, 6, 7]
    assert logits.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_arrays_and_lists_do_too():
    pending = PendingEpoch("train", 1)
    pending.append([5], [[1]])
    pending.append(np.array([6], dtype=np.int32), np.array([[2.0]]))
    ids, logits = pending.read()
    assert (ids.tolist(), logits.tolist()) == ([5, 6], [[1], [2]])
    pending.clear()
    assert len(pending) == 0


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_memory_that_is_written_again_does_not_change_what_was_appended(make):
    pending, outputs = PendingEpoch("train", 2), make((3, 2))
    pending.append(np.arange(3), outputs)
    outputs += 1
    assert pending.read()[1].sum() == 0


@pytest.mark.parametrize(("ids", "outputs"), [((3,), (3, 4)), ((2,), (3, 2)), ((3, 1), (3, 2)), ((3,), (3,))])
def test_other_shapes_are_refused(ids, outputs):
    with pytest.raises(HilumError, match=r"train batch: ids are \(.*expected \(B,\) and \(B, 2\)"):
        PendingEpoch("train", 2).append(np.zeros(ids, dtype=int), np.zeros(outputs))


def test_ids_must_be_integers():
    pending = PendingEpoch("train", 1)
    pending.append(np.zeros(1), np.zeros((1, 1)))
    with pytest.raises(HilumError, match="ids are float64"):
        pending.read()


def test_sigmoid_neither_overflows_nor_loses_small_probabilities():
    logits = np.array([-np.inf, -1000, -80, -20, 0, 20, 1000, np.inf], dtype=np.float32)
    expected = torch.sigmoid(torch.tensor(logits, dtype=torch.float64)).numpy().astype(np.float32)
    np.testing.assert_array_equal(sigmoid(logits), expected)
    assert sigmoid(logits)[2] > 0
    assert np.isnan(sigmoid(np.array([np.nan])))[0]


def test_draw_numbers_of_nothing():
    assert draw_numbers(np.array([], dtype=np.int64)).tolist() == []


def two_targets(**changes):
    given = {
        "y_true": np.array([[1, 0], [0, 1], [np.nan, 1]], dtype=np.float32),
        "y_score": np.array([[0.7, 0.2], [0.1, 0.6], [0.3, 0.4]], dtype=np.float32),
        "image_ids": np.array([3, 5, 8]),
        "patients": np.array(["b", "a", "b"]),
        "targets": ["Edema", "Fracture"],
        "thresholds": [0.7, 0.5],
    }
    return Predictions(**given | changes)


def test_predictions_keep_their_precision_and_name_patients_by_position():
    predictions = two_targets()
    assert (predictions.y_true.dtype, predictions.y_score.dtype) == (np.float32, np.float32)
    assert (predictions.targets, predictions.thresholds.dtype) == (("Edema", "Fracture"), np.float64)
    assert predictions.patient_codes.tolist() == [1, 0, 1]
    assert (len(predictions), predictions.patient_count) == (3, 2)
    assert two_targets(y_true=[[1, 0], [0, 1], [1, 1]]).y_true.dtype == np.float64
    table = predictions.as_table(predictions.y_score)
    assert table.loc[5, "Fracture"] == np.float32(0.6)


def test_a_probability_at_the_threshold_is_predicted_positive():
    # The nearest float32 of 0.7 is below 0.7 in float64.
    assert two_targets().predicted.tolist() == [[True, False], [False, True], [False, False]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_true": np.zeros((3, 1))}, r"y_true is \(3, 1\) and y_score \(3, 2\)"),
        ({"y_true": np.zeros(3), "y_score": np.zeros(3)}, r"expected both to be \(images, targets\)"),
        ({"targets": ["Edema"]}, r"targets is \(1,\); expected one per target, \(2,\)"),
        ({"image_ids": [1]}, r"image_ids is \(1,\); expected one per image, \(3,\)"),
        ({"patients": [1, 2]}, r"patients is \(2,\); expected one per image, \(3,\)"),
        ({"patients": [1, np.nan, 2]}, "1 of 3 images have no patient, the first is ImageID 5 in row 1"),
        ({"patients": [None, "a", "b"]}, "1 of 3 images have no patient, the first is ImageID 3 in row 0"),
        ({"patients": pd.array([1, 2, pd.NA], dtype="Int64")}, "the first is ImageID 8 in row 2"),
        ({"thresholds": [0.5]}, r"thresholds is \(1,\); expected one per target, \(2,\)"),
        ({"thresholds": [0.5, 1.5]}, r"thresholds are \[0\.5, 1\.5\]; expected numbers from 0 to 1"),
        ({"thresholds": [0.5, np.nan]}, "expected numbers from 0 to 1"),
        ({"y_true": [[1, 0], [0.3, 1], [1, 1]]}, r"Edema: 1 of 3 labels .* 0\.3 at ImageID 5"),
        ({"y_score": [[1, 0], [0, 1], [1, 2]]}, r"Fracture: 1 of 3 probabilities .* 2\.0 at ImageID 8"),
        ({"y_score": [[1, 0], [0, 1], [1, np.nan]]}, "Fracture: 1 of 3 probabilities"),
    ],
)
def test_values_that_do_not_fit_are_named(changes, message):
    with pytest.raises(HilumError, match=message):
        two_targets(**changes)


def test_patients_are_of_one_kind():
    mixed = two_targets(patients=np.array([1, "a", 2], dtype=object))
    with pytest.raises(HilumError, match="text and numbers mixed"):
        _ = mixed.patient_codes


def test_targets_and_rows_are_selected_together():
    predictions = two_targets()
    selected = predictions.select(targets=["Fracture"], rows=np.array([False, True, True]))
    assert selected.targets == ("Fracture",)
    assert selected.y_true.tolist() == [[1], [1]]
    np.testing.assert_array_equal(selected.y_score, predictions.y_score[1:, 1:])
    assert (selected.image_ids.tolist(), selected.patients.tolist()) == ([5, 8], ["a", "b"])
    assert selected.thresholds.tolist() == [0.5]
    assert predictions.select(rows=np.array([2, 0])).image_ids.tolist() == [8, 3]
    with pytest.raises(HilumError, match=r"no target 'Fractur'\. Did you mean 'Fracture'"):
        predictions.select(targets=["Fractur"])


def test_other_thresholds_leave_the_predictions_as_they_are():
    predictions = two_targets()
    assert predictions.with_thresholds({"Edema": 0.2}).thresholds.tolist() == [0.2, 0.5]
    assert predictions.with_thresholds(0.1).predicted.all(axis=0).tolist() == [True, True]
    assert predictions.thresholds.tolist() == [0.7, 0.5]


def test_the_bootstrap_is_computed_once_per_arguments():
    predictions = two_targets()
    once = predictions.bootstrap(replicates=20, seed=3)
    assert predictions.bootstrap(replicates=20, seed=3) is once
    assert predictions.bootstrap(replicates=20, seed=4) is not once
    assert predictions.with_thresholds(0.1).bootstrap(replicates=20, seed=3) is not once
    np.testing.assert_array_equal(
        once.replicates["roc_auc"], two_targets().bootstrap(replicates=20, seed=3).replicates["roc_auc"]
    )


def test_images_are_aggregated_by_study(make_predictions):
    y_true = np.array([[1, np.nan], [0, 0], [np.nan, np.nan], [np.nan, 0], [0, 1]])
    y_score = np.array([[0.9, 0.1], [0.1, 0.3], [0.4, 0.6], [0.2, 0.2], [0.7, 0.5]], dtype=np.float32)
    predictions = make_predictions(y_true, y_score, patients=[2, 2, 1, 1, 3])
    for how, expected in (
        ("mean", [[0.3, 0.4], [0.5, 0.2], [0.7, 0.5]]),
        ("max", [[0.4, 0.6], [0.9, 0.3], [0.7, 0.5]]),
    ):
        studies = predictions.aggregate(np.array(["b", "b", "a", "a", "c"]), how)
        # Positive if one image is, unknown if none is known.
        np.testing.assert_array_equal(studies.y_true, [[np.nan, 0], [1, 0], [0, 1]])
        np.testing.assert_allclose(studies.y_score, expected, rtol=1e-6)
        assert studies.y_score.dtype == np.float32
        assert studies.image_ids.tolist() == [2, 0, 4]
        assert studies.patients.tolist() == [1, 2, 3]


def test_the_scores_of_studies_are_those_of_the_aggregated_rows(make_predictions):
    draw = np.random.default_rng(5)
    patients = draw.integers(0, 60, 300)
    studies = patients * 10 + draw.integers(0, 3, 300)
    labels = (draw.random((300, 1)) < 0.3).astype(float)
    probabilities = np.clip(0.3 * labels + 0.7 * draw.random((300, 1)), 0, 1)
    predictions = make_predictions(labels, probabilities, patients).aggregate(studies, "max")
    (row,) = scores_with_intervals(predictions, replicates=200).to_dict("records")
    distinct = np.unique(studies)
    truth = np.array([labels[studies == study].max() for study in distinct])
    given = np.array([probabilities[studies == study].max() for study in distinct])
    assert row["positives"] + row["negatives"] == len(distinct)
    assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, given))
    assert row["recall"] == pytest.approx(np.mean(given[truth == 1] >= 0.5))
    assert row["roc_auc_low"] < row["roc_auc"] < row["roc_auc_high"]


def test_an_unknown_aggregate_and_other_groups_are_named():
    with pytest.raises(HilumError, match=r"how is .maxx.\. Did you mean .max."):
        two_targets().aggregate(np.arange(3), "maxx")
    with pytest.raises(HilumError, match=r"groups is \(1,\); expected one group per image, \(3,\)"):
        two_targets().aggregate(np.array([1]))


def test_the_best_epoch_of_a_run_is_read_with_its_frozen_thresholds(run_folder):
    folder, metrics = run_folder
    with pytest.raises(HilumError, match="no epoch has ended yet"):
        Predictions.from_run(folder)
    folder.update(best_epoch=1)
    predictions = Predictions.from_run(folder)
    np.testing.assert_array_equal(predictions.y_true, metrics.val_actual)
    np.testing.assert_array_equal(predictions.y_score, metrics.val_probability_hx[1])
    assert predictions.image_ids.tolist() == metrics.val_actual.index.tolist()
    assert predictions.patients.tolist() == [number // 2 for number in predictions.image_ids]
    assert predictions.thresholds.tolist() == [0.3, 0.25, 0.5]


def test_another_epoch_and_part_of_a_run_is_read(run_folder):
    folder, metrics = run_folder
    predictions = Predictions.from_run(folder.path, epoch=2, part="train")
    np.testing.assert_array_equal(predictions.y_true, metrics.actual(2, "train"))
    np.testing.assert_array_equal(predictions.y_score, metrics.train_probability_hx[2])
    with pytest.raises(HilumError, match="epoch 2: there are no predictions of the part 'test'"):
        Predictions.from_run(folder, epoch=2, part="test")
    with pytest.raises(HilumError, match="epoch-0009"):
        Predictions.from_run(folder, epoch=9)


def test_a_table_that_has_been_read_is_not_read_again(run_folder):
    folder, metrics = run_folder
    table = folder.predictions(2)
    (folder.path / "predictions" / "epoch-0002.parquet").unlink()
    predictions = Predictions.from_run(folder, epoch=2, table=table)
    np.testing.assert_array_equal(predictions.y_score, metrics.val_probability_hx[2])


def test_files_that_do_not_belong_together_are_named(run_folder):
    folder, _ = run_folder
    table = folder.predictions(1)
    with pytest.raises(HilumError, match=r"run, epoch 1: .* wrong here: prob_Edema"):
        Predictions.from_run(folder, epoch=1, table=table.drop(columns="prob_Edema"))
    with pytest.raises(HilumError, match=r"run, epoch 1: Edema: \d+ of \d+ probabilities"):
        Predictions.from_run(folder, epoch=1, table=table.assign(prob_Edema=np.float32("nan")))
    folder.write_split(folder.split().iloc[:0])
    with pytest.raises(HilumError, match=r"run, epoch 1: \d+ of \d+ images have no patient"):
        Predictions.from_run(folder, epoch=1)
