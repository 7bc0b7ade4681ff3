"""Slots: one per CUDA device, or one; a stopped run stays on its device; and the same sweep on a Ray cluster."""

import json
import warnings

import pytest

from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.sweeps import _executors as executors
from hilum.sweeps._executors import local_slots, mark_ended, next_run
from hilum.sweeps._spec import make_spec
from hilum.sweeps._state import SweepState, open_state


@pytest.fixture
def state(tmp_path) -> SweepState:
    """A new sweep of two runs in `tmp_path / "s"`."""
    return open_state(make_spec({"seeds": [0, 1], "save_path": tmp_path, "name": "s"}))


def write_record(state: SweepState, number: int, **record) -> None:
    """Writes a run.json for a run of the sweep."""
    folder = state.folder / state.runs[number].name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": 1, "started": "", "settings": {}} | record))


def test_one_run_on_each_device(monkeypatch):
    monkeypatch.setattr(executors, "cuda_devices", lambda: 2)
    assert local_slots([{}], None) == ["cuda:0", "cuda:1"]
    assert local_slots([{"device": "cuda"}], 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert local_slots([{"device": "cpu"}], 2) == [None, None]
    assert local_slots([{"devices": 2}], None) == [None]


def test_one_run_at_a_time_without_a_device(monkeypatch):
    monkeypatch.setattr(executors, "cuda_devices", lambda: 0)
    assert local_slots([{}], None) == [None]
    assert local_slots([{}], 2) == [None, None]


def test_a_run_whose_settings_name_a_device_is_given_none(tmp_path):
    spec = make_spec({"base": {"device": "cuda:1"}, "seeds": [0], "save_path": tmp_path})
    assert next_run(open_state(spec), "cuda:0", ["cuda:0"]).device is None


def test_a_stopped_run_stays_on_its_device(state):
    slots = ["cuda:0", "cuda:1"]
    first = state.runs[0]
    first.device = "cuda:1"
    write_record(state, 0)
    assert next_run(state, "cuda:0", slots) is state.runs[1]
    assert next_run(state, "cuda:1", slots) is first
    assert next_run(state, "cuda:0", ["cuda:0"]) is first  # its device is missing: its own error states that
    assert first.device == "cuda:1"


def test_a_run_has_finished_if_its_folder_says_so(state):
    mark_ended(state, state.runs[0], 0, "", 1.0)
    assert state.runs[0].state == "failed"
    assert "the status in its folder is missing" in state.runs[0].failure
    write_record(state, 1, status="finished", targets=[])
    mark_ended(state, state.runs[1], 1, "OSError: no space for figures", 1.0)
    assert state.runs[1].state == "finished"
    assert "OSError: no space for figures (exit code 1)" in state.runs[1].note


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two CPUs of this machine, without a dashboard."""
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
        warnings.simplefilter("ignore")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        environment.delenv("RAY_ADDRESS", raising=False)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray gives many of its own
@pytest.mark.usefixtures("cluster")
def test_ray_returns_the_folders_and_a_crash_ends_one_run(loop, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sweep = loop(runs=[{"learning_rate": 0.1}, {"learning_rate": 0.2}, {"source_kwargs": {"kill": 9}}])
    result = sweep.run(executor="ray")
    assert result.table["learning_rate"].tolist() == [0.2, 0.1]
    assert [run.state for run in result.state.runs] == ["finished", "finished", "failed"]
    assert result.failures[result.state.runs[2].name].startswith("killed by SIGKILL")
    for folder in result.run_folders:
        assert folder.record["device"]["threads"] == 1
        assert folder.settings["save_path"] == str(sweep.spec.folder)
        assert folder.scores()["roc_auc"].notna().all()
    assert "training" in sweep.run_log(0)
    # The folder of a stopped run is sent to a node, and the run resumes there.
    (sweep.spec.folder / result.state.runs[2].name / "mark").write_text("kept")
    monkeypatch.setattr(executors, "_PATHS", ())
    again = sweep.run(executor="ray", retry_failed=True, command=sweep.healed_command)
    assert not again.failures
    healed = RunFolder(sweep.spec.folder / again.state.runs[2].name)
    assert healed.record["resumed"] == 1
    assert (healed.path / "mark").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("cluster")
def test_more_threads_than_the_cluster_has_cpus(loop):
    with pytest.raises(HilumError, match="A run has 64 threads, and the Ray cluster has 2 CPUs"):
        loop(seeds=[0], threads=64).run(executor="ray")
