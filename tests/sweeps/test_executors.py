"""Places: one per CUDA device, or one; and a stopped run stays on its device."""

import json

import pytest

from hilum.sweeps import executors
from hilum.sweeps.executors import mark_ended, next_run
from hilum.sweeps.plan import make_plan
from hilum.sweeps.state import begin


@pytest.fixture
def two_devices(monkeypatch) -> None:
    """As if there were two."""
    monkeypatch.setattr(executors, "cuda_devices", lambda: 2)


@pytest.mark.usefixtures("two_devices")
def test_a_run_on_each_device():
    assert executors.places([{}], None) == ["cuda:0", "cuda:1"]
    assert executors.places([{"device": "cuda"}], 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert executors.places([{"device": "cpu"}], 2) == [None, None]
    assert executors.places([{"devices": 2}], None) == [None]
    assert executors.device_for({"device": "cuda:1"}, "cuda:0") is None


def test_one_at_a_time_without_a_device(monkeypatch):
    monkeypatch.setattr(executors, "cuda_devices", lambda: 0)
    assert executors.places([{}], None) == [None]
    assert executors.places([{}], 2) == [None, None]


def test_a_stopped_run_stays_on_its_device(tmp_path):
    state = begin(make_plan(seeds=[0, 1], save_path=tmp_path, name="s"))
    places = ["cuda:0", "cuda:1"]
    first = state.runs[0]
    first.device = "cuda:1"
    (state.folder / first.name).mkdir(parents=True)
    (state.folder / first.name / "run.json").write_text("{}")
    assert next_run(state, "cuda:0", places) is state.runs[1]
    assert next_run(state, "cuda:1", places) is first
    assert next_run(state, "cuda:0", ["cuda:0"]) is first  # its device is gone: it says so itself
    assert first.device == "cuda:1"


def test_only_a_finished_folder_is_a_finished_run(tmp_path):
    state = begin(make_plan(seeds=[0, 1], save_path=tmp_path, name="s"))
    mark_ended(state, state.runs[0], 0, "", 1.0)
    assert state.runs[0].failure == "its process ended well, but its folder says that the run is not there"
    record = {"format": 1, "status": "finished", "started": "", "settings": {}, "targets": []}
    (tmp_path / "s" / state.runs[1].name).mkdir()
    (tmp_path / "s" / state.runs[1].name / "run.json").write_text(json.dumps(record))
    mark_ended(state, state.runs[1], 1, "OSError: no space for figures", 1.0)
    assert state.runs[1].state == "finished"
    assert state.runs[1].note == "it had finished, then: OSError: no space for figures (exit code 1)"
