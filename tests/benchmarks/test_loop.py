import json
import runpy
import sys
import warnings
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "loop.py"


def test_quick_benchmark_measures_every_loop_and_the_ratios(monkeypatch, capsys):
    pytest.importorskip("timm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the peers' imports
        pytest.importorskip("pytorch_lightning")
        monkeypatch.setattr(sys, "argv", ["loop.py", "--quick", "--json", "--device", "cpu"])
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["seconds"]) == {"hilum", "bare", "lightning", "timm"}
    assert set(result["ratios"]) == {"wall", "cpu_time"}
    for ratios in result["ratios"].values():
        assert set(ratios) == {"hilum_to_bare", "hilum_to_lightning", "hilum_to_timm"}
        for ratio in ratios.values():
            assert ratio["runs"] == 1
            assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
