import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.metrics.actual_labels import ActualLabels


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
