"""The same sweep on a Ray of this machine."""

import warnings

import pytest

from hilum.errors import HilumError
from hilum.run_folder import RunFolder

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many


@pytest.fixture(scope="module")
def cluster():
    """Two CPUs of this machine, without a dashboard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
            environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            environment.delenv("RAY_ADDRESS", raising=False)
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
            yield
            ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_folders_come_back_and_a_crash_spoils_one_run(loop, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sweep = loop(runs=[{"learning_rate": 0.1}, {"learning_rate": 0.2}, {"source_kwargs": {"kill": 9}}])
    result = sweep.run(executor="ray")
    assert result.table["learning_rate"].tolist() == [0.2, 0.1]
    assert [run.state for run in result.state.runs] == ["finished", "finished", "failed"]
    assert result.failures[result.state.runs[2].name].startswith("killed by SIGKILL")
    for folder in result.run_folders:
        assert folder.record["device"]["threads"] == 1
        assert folder.settings["save_path"] == str(sweep.plan.folder)
        assert folder.scores()["roc_auc"].notna().all()
    assert "training" in sweep.state_log(0)
    # What a stop has left in the sweep's folder is sent along, and goes on there.
    (sweep.plan.folder / result.state.runs[2].name / "mark").write_text("kept")
    monkeypatch.setattr("hilum.sweeps.ray_executor._PATHS", ())
    again = sweep.run(executor="ray", retry_failed=True, command=sweep.healed_command)
    assert not again.failures
    healed = RunFolder(sweep.plan.folder / again.state.runs[2].name)
    assert healed.record["resumed"] == 1
    assert (healed.path / "mark").read_text() == "kept"


@pytest.mark.usefixtures("cluster")
def test_more_threads_than_the_cluster_has(loop):
    with pytest.raises(HilumError, match="A run has 64 threads, and the Ray cluster has 2 CPUs"):
        loop(seeds=[0], threads=64).run(executor="ray")
