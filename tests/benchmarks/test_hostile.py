import json
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "hostile.py"


def test_the_same_seed_makes_the_same_files():
    hostile_files = runpy.run_path(str(BENCHMARK))["hostile_files"]
    first, second = (list(hostile_files(60, seed=3, side=64)) for _ in range(2))
    assert first == second
    assert {mutation for mutation, _, _ in first} >= {
        "truncated",
        "huge_header",
        "zip_archive",
        "svg_image",
        "empty",
        "compression_bomb",
    }


def test_quick_benchmark_gets_errors_with_reasons(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hostile.py", "--quick", "--json"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0
    assert result["failed"] == []
    assert result["refused"] + result["read"] == 40
    assert result["refused"] > 25
    assert result["same_process"]
    assert result["names_logged"] == 0
