import json
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "service_load.py"
GOALS = {
    "no error but 503",
    "p99 below 10 x single",
    "throughput at least one client's",
    "memory grows by less than 5 %",
}


def test_quick_benchmark_gets_responses_and_the_exit_code_reports_the_goals(monkeypatch, capsys):
    monkeypatch.setattr("hilum.training.run.write_figures", lambda folder, metrics: [])
    monkeypatch.setattr("hilum.training.run.write_report", lambda folder: None)
    monkeypatch.setattr(sys, "argv", ["service_load.py", "--quick", "--json", "--clients", "4"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["clients"] == 4
    assert result["errors"] == {}
    assert result["statuses"]["200"] > 0
    assert set(result["statuses"]) <= {"200", "503"}
    for figure in ("single_median_s", "p50_s", "p99_s", "per_second", "throughput_ratio", "resident_mib"):
        assert result[figure] > 0, figure
    assert result["warm_up_share"] == 0.25
    # Whether the other goals are reached depends on the load of the machine.
    assert set(result["goals_reached"]) == GOALS
    assert result["goals_reached"]["no error but 503"]
    assert ended.value.code == (0 if all(result["goals_reached"].values()) else 1)
