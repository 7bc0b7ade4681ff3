import json
import runpy
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "phantom.py"


def test_quick_benchmark_draws_and_reports_its_rate(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["phantom.py", "--quick", "--json"])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["images"] == 40
    assert result["images_per_second"]["runs"] == 1
    assert result["images_per_second"]["median"] > 0
