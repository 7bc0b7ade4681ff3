import numpy as np
import pandas as pd
import pytest
import torch

from hilum.errors import HilumError
from hilum.metrics.predictions import (
    ActualLabels,
    PendingEpoch,
    draw_numbers,
    labels_of_part,
    ledger_of_part,
    probabilities_of_part,
    sigmoid,
    targets_of_ledger,
)


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
    return ledger_of_part("train", labels, probabilities), probabilities


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
    targets = targets_of_ledger(table)
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
        targets_of_ledger(table.drop(columns="draw"))
    with pytest.raises(HilumError, match="wrong here: prob_Edema"):
        targets_of_ledger(table.drop(columns="prob_Edema"))
    with pytest.raises(HilumError, match="wrong here: their order"):
        targets_of_ledger(table[table.columns[::-1]])


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
