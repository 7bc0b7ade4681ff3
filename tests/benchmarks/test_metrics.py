import json
import runpy
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "metrics.py"


def test_quick_benchmark_gives_equal_scores(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["metrics.py", "--quick", "--json", "--runs", "1"])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["largest_difference"] < 1e-6
    assert result["speedup"]["runs"] == 1
    assert result["speedup"]["min"] <= result["speedup"]["median"] <= result["speedup"]["max"]
    share = result["appending_share_of_densenet121_epoch"]
    assert 0 < share["min"] <= share["median"] <= share["max"] < 1
