import math

import pandas as pd

from hilum.sweeps.results import best_first, reference_and_best

RULE = [("recall", 0.01), ("roc_auc", 0.002), ("precision", 0.0)]


def test_a_difference_within_the_tolerance_does_not_count():
    rows = [(0.900, 0.80, 0.5), (0.909, 0.70, 0.9), (0.905, 0.801, 0.4), (0.5, 0.99, 0.99), (math.nan,) * 3]
    table = pd.DataFrame(rows, columns=["recall", "roc_auc", "precision"])
    # The first three are equal in recall, the first and third of them in ROC AUC; precision decides.
    assert best_first(table, RULE) == [0, 2, 1, 3, 4]


def test_the_columns_are_the_settings_that_vary(loop):
    result = loop(
        {"net_kwargs": {"layers": 18}, "l2_reg": 0.1},
        runs=[{"net_kwargs.layers": 34}, {"learning_rate": 0.2}],
    ).run(parallel=2)
    assert result.table.columns[:2].tolist() == ["net_kwargs.layers", "learning_rate"]
    assert result.table.iloc[0][:2].tolist() == [18, 0.2]


def test_the_reference_is_the_base_or_the_first(loop):
    result = loop(grid={"learning_rate": [1e-2, 1e-4]}, seeds=[0]).run(parallel=2)
    reference, best = reference_and_best(result.state, result.table)
    assert reference == ["lr-learning_rate-0.0001-seed-0"]  # the default of a run
    assert best == ["lr-learning_rate-0.01-seed-0"]
    folder = result.state.folder
    assert result.compare_command == f"hilum compare {folder / reference[0]} {folder / best[0]}"
    record = result.as_record()
    assert record["table"][0]["settings"] == {"learning_rate": 0.01}
    assert record["table"][0]["roc_auc_sd"] is None
    assert "A row of one seed has no standard deviation" in " ".join(record["notes"])
