import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    runpy.run_path(str(BENCHMARK), run_name="__main__")


def test_every_pipeline_trains_at_a_small_size_on_the_cpu(monkeypatch, capsys):
    pytest.importorskip("timm")
    run(monkeypatch, "--device", "cpu", "--quick", "--json")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["networks"]) == {"resnet50", "densenet121"}
    for values in result["networks"].values():
        assert set(values["images_per_second"]) == {"hilum", "document", "timm"}
        assert set(values["ratios"]) == {"hilum_to_document", "hilum_to_timm"}
        assert all(rate["median"] > 0 for rate in values["images_per_second"].values())
        assert all(0 <= wait["median"] < 1 for wait in values["waiting_for_data"].values())
        assert set(values["peak_bytes"].values()) == {None}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_an_error(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert ended.value.code == 2
    assert "this machine has no GPU; --device cpu --quick checks the script" in capsys.readouterr().err
