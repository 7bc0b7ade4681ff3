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


def test_at_a_toy_size_on_the_cpu_every_side_trains(monkeypatch, capsys):
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_that_is_said(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert ended.value.code == 2
    assert "there is no GPU here; --device cpu --quick tries the script out" in capsys.readouterr().err
