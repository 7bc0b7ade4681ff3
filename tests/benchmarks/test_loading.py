import json
import runpy
import sys
import warnings
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "loading.py"


def test_quick_benchmark_measures_every_pipeline_and_the_ratios(monkeypatch, capsys):
    pytest.importorskip("psutil")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the peers' imports
        pytest.importorskip("torchxrayvision")
        monkeypatch.setattr(sys, "argv", ["loading.py", "--quick", "--json"])
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    sides = {"document", "torchxrayvision", "pack", "jpeg"}
    assert set(result["images_per_second"]) == sides
    assert all(rate["median"] > 0 for rate in result["images_per_second"].values())
    ratio = result["ratios"]["pack_to_document"]
    assert ratio["runs"] == 1
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert result["scale"]["many_to_few"]["runs"] == 1
    assert set(result["scale"]["worker_mb"]) == {"100", "300"}
