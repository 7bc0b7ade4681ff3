import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "scores.py"


@pytest.mark.parametrize("data", ["nih", "phantom"])
def test_quick_benchmark_has_mean_spread_and_interval_of_each_finding(data, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scores.py", data, "--quick", "--json", "--seeds", "2"])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["data"] == data
    assert record["seeds"] == 2
    assert record["settings"]["root"] is None
    assert [row["target"] for row in record["rows"]][-1] == "mean over the findings"
    assert len(record["rows"]) == 6
    effusion = next(row for row in record["rows"] if row["target"] == "Pleural_Effusion")
    auc = effusion["roc_auc"]
    assert auc["seeds"] == 2
    assert 0 <= auc["low"] <= auc["mean"] <= auc["high"] <= 1
    assert auc["sd"] >= 0
    assert len(effusion["positives"]) == 2


def test_seeds_with_an_undefined_score_are_left_out():
    summarize_seeds = runpy.run_path(str(BENCHMARK))["summarize_seeds"]
    scores = ("roc_auc", "avg_precision", "recall", "precision")
    tables = []
    for value in (0.6, 0.8, np.nan):
        row = {f"{score}{end}": value for score in scores for end in ("", "_low", "_high")}
        tables.append(pd.DataFrame([{"target": "Hernia", "positives": 0 if np.isnan(value) else 2, **row}]))
    (row,) = summarize_seeds(tables)
    assert row["positives"] == [2, 2, 0]
    assert row["recall"] == {"mean": 0.7, "sd": 0.1414, "low": 0.7, "high": 0.7, "seeds": 2}
    (row,) = summarize_seeds(tables[2:])
    assert row["recall"] == {"mean": None, "sd": None, "low": None, "high": None, "seeds": 0}
