import json
import runpy
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "comparison.py"


def test_quick_benchmark_distinguishes_equal_settings_and_a_real_difference(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["comparison.py", "--quick", "--json", "--simulations", "12"])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["simulations"] == 12
    claimed = {name: values["claimed"] for name, values in result["results"].items()}
    assert claimed["a real difference"]["settings"]["roc_auc"] > 0.7
    # A difference between models of different seeds must not become a claim about their settings.
    dominated = claimed["seeds dominate"]
    assert dominated["models"]["roc_auc"] > 0.5 > dominated["settings"]["roc_auc"]
    assert "settings" not in claimed["one run per setting"]
