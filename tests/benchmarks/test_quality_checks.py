import json
import runpy
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "quality_checks.py"


def test_negatives_are_detected_and_the_bundle_agrees(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quality_checks.py", "--quick", "--json"])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    counts = record["counts"]
    assert counts["correct"]["images"] == counts["negative"]["images"] == record["images"] > 30
    assert counts["correct"].get("inverted", 0) == 0
    assert counts["negative"]["inverted"] >= 0.9 * record["images"]
    assert counts["noise"]["images"] == 10
    assert record["largest_probability_difference"] < 1e-4
