import json
import runpy
import sys
import warnings
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "pointing.py"


def test_quick_benchmark_counts_games_by_finding_and_method(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pointing.py", "--quick", "--json"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images lack some findings
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["methods"]) == {"integrated-gradients", "grad-cam"}
    for games in result["methods"].values():
        assert [game["target"] for game in games] == [
            *("Pleural_Effusion", "Cardiomegaly", "Consolidation", "Pneumothorax")
        ]
        assert all(0 <= game["hits"] <= game["games"] <= 3 for game in games)
