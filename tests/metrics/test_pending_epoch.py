import numpy as np
import pytest
import torch

from hilum.errors import HilumError
from hilum.metrics.pending_epoch import PendingEpoch, draw_numbers, sigmoid


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
