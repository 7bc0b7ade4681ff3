import json
import runpy
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "uncertainty.py"


def test_quick_benchmark_gives_equal_replicates_and_coverage_by_score(monkeypatch, capsys):
    arguments = ["uncertainty.py", "--quick", "--json", "--runs", "1", "--simulations", "3"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["benchmark"] == "uncertainty"
    assert result["largest_difference"] < 1e-9
    assert result["speedup"]["runs"] == 1
    assert result["speedup"]["min"] <= result["speedup"]["median"] <= result["speedup"]["max"]
    for method in ("hilum", "percentile", "images_percentile"):
        assert set(result["coverage"][method]) == {"roc_auc", "avg_precision", "recall", "precision"}
        for shares in result["coverage"][method].values():
            assert all(0 <= share <= 1 for share in shares.values())
