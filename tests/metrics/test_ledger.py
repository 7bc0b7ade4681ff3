import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.metrics.ledger import labels_of_part, ledger_of_part, probabilities_of_part, targets_of_ledger


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
