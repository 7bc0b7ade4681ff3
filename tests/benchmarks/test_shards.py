import json
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("litdata", reason="litdata is not installed: pip install hilum[shards]")
pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install hilum[dev]")

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "shards.py"


def test_quick_benchmark_measures_bytes_and_requests_per_image(monkeypatch, capsys):
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "replaced by the benchmark")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setattr(sys, "argv", ["shards.py", "--quick", "--json", "--runs", "1"])
    runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["equal"]
    assert result["pixels_per_image"] < result["bytes_per_image"] < result["pixels_per_image"] + 16
    assert result["chunks"] == 4
    assert result["requests_per_chunk"] == 2  # HEAD and GET
    assert result["requests_per_chunk_written"] == 2  # HEAD and PUT
    assert result["warm_ratio"]["min"] <= result["warm_ratio"]["median"] <= result["warm_ratio"]["max"]
    fetched = {share: values["median"] for share, values in result["cache"]["fetched_per_image"].items()}
    assert fetched["1"] == 0 < fetched["0.5"] < fetched["0.25"] <= 1
