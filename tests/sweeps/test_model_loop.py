"""A sweep from its start to its table, through crashes, kills and restarts."""

import json
import os
import signal
import subprocess
import time
from functools import partial

import pytest
from filelock import FileLock

import hilum
from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.sweeps._state import read_state
from hilum.sweeps.model_loop import ModelLoop


def test_one_crash_spoils_one_run(loop):
    """Six runs; one ends in an error, one by SIGKILL; the others have results and a table."""
    runs = [{"learning_rate": 0.1 * number} for number in range(1, 5)]
    runs += [
        {"source_kwargs": {"fail": "there is no such source"}},
        {"source_kwargs": {"kill": signal.SIGKILL}},
    ]
    sweep = loop(runs=runs)
    result = sweep.run(parallel=3)
    assert len(result.run_folders) == 4
    assert result.table["roc_auc"].tolist() == pytest.approx([1.0, 0.9, 0.8, 0.7])
    assert result.table["learning_rate"].tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    erred, killed = result.failures.values()
    assert erred == "there is no such source (exit code 2)"
    assert killed.startswith("killed by SIGKILL")
    states = json.loads((sweep.spec.folder / "sweep.json").read_text())["runs"]
    assert [run["state"] for run in states] == ["finished"] * 4 + ["failed"] * 2
    assert states[5]["exit_code"] == -signal.SIGKILL
    assert "[6/6]" in sweep.printed
    assert f"failed: {killed}" in sweep.printed
    for folder in result.run_folders:
        assert not is_alive(folder.record["pid"])  # so its memory is free


def test_a_sweep_goes_on_where_it_was(loop):
    sweep = loop(grid={"learning_rate": [0.1, 0.2]})
    first = sweep.run()
    pids = [folder.record["pid"] for folder in first.run_folders]
    more = loop(grid={"learning_rate": [0.1, 0.2, 0.3]})
    result = more.run()
    assert [folder.record["pid"] for folder in result.run_folders][:2] == pids
    assert len(result.table) == 3
    assert "Sweep lr continues: 2 finished, 0 failed, 1 pending." in more.printed


def test_failed_runs_start_again_only_if_asked(loop):
    sweep = loop(runs=[{}, {"source_kwargs": {"fail": "a bad day", "once": True}}])
    assert len(sweep.run().failures) == 1
    assert len(sweep.run().failures) == 1
    assert "--retry-failed" in sweep.printed
    result = sweep.run(retry_failed=True)
    assert not result.failures
    assert RunFolder(sweep.spec.folder / result.state.runs[1].name).record["resumed"] == 1
    assert result.state.runs[1].attempts == 2


def test_seeds_are_one_row_with_their_spread(loop):
    result = loop(grid={"learning_rate": [0.1, 0.2]}, seeds=[0, 1, 2]).run(parallel=3)
    best = result.table.iloc[0]
    assert best["learning_rate"] == 0.2
    assert (best["roc_auc"], best["roc_auc_sd"], best["seeds"]) == pytest.approx((0.81, 0.01, 3))
    assert best["recall"] == 0.9  # the frozen operating point's, not the score table's
    assert [name.rpartition("-")[2] for name in best["runs"]] == ["0", "1", "2"]


def test_a_changed_file_is_refused_with_the_change(loop):
    loop({"num_epochs": 1}, grid={"learning_rate": [0.1, 0.2]}).run()
    for base, parts, text in (
        ({"num_epochs": 2}, {"grid": {"learning_rate": [0.1, 0.2]}}, "[base] num_epochs was 1, is 2"),
        (
            {"num_epochs": 1},
            {"grid": {"learning_rate": [0.2]}},
            "[grid] learning_rate was [0.1, 0.2], is [0.2]",
        ),
        ({"num_epochs": 1}, {"grid": {"l2_reg": [0.2]}}, "[grid] learning_rate was [0.1, 0.2], is absent"),
        (
            {"num_epochs": 1},
            {"grid": {"learning_rate": [0.1, 0.2]}, "threads": 7},
            "threads was absent, is 7",
        ),
    ):
        with pytest.raises(HilumError, match="Only runs may be added") as error:
            loop(base, **parts).run()
        assert text in str(error.value)


def test_a_second_sweep_on_the_folder_is_refused(loop):
    sweep = loop(seeds=[0])
    sweep.spec.folder.mkdir()
    with (
        FileLock(sweep.spec.folder / ".lock"),
        pytest.raises(HilumError, match="another process runs this sweep"),
    ):
        sweep.run()


def test_a_folder_with_other_content_is_left_alone(loop):
    sweep = loop(seeds=[0])
    (sweep.spec.folder / "photos").mkdir(parents=True)
    with pytest.raises(HilumError, match="it contains photos"):
        sweep.run()


def test_threads_are_the_same_however_many_run_at_once(loop, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    sweep = loop(seeds=[0, 1])
    result = sweep.run(parallel=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a sweep that continues keeps its number
    result = loop(seeds=[0, 1, 2]).run()
    assert [folder.record["device"]["threads"] for folder in result.run_folders] == [3, 3, 3]
    assert "The number of threads decides the last bits" in sweep.printed


@pytest.mark.slow
def test_a_killed_sweep_ends_its_runs_and_continues(loop, sweep_script, tmp_path):
    """Kill -9 during a run: the run ends, too, and is resumed with the sweep."""
    parts = {"runs": [{}, {"source_kwargs": {"sleep": 60}}, {"seed": 5}]}
    process = subprocess.Popen(sweep_script(**parts), stdout=subprocess.DEVNULL)
    folder = tmp_path / "lr" / read_state_when(tmp_path, running_at=1).runs[1].name
    pid = when_there(folder)["pid"]
    process.kill()
    process.wait()
    wait_until(lambda: not is_alive(pid))
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "running"
    assert [run.state for run in read_state(tmp_path / "lr").runs] == ["finished", "running", "pending"]
    first_pid = when_there(tmp_path / "lr" / "lr-base")["pid"]
    sweep = loop(**parts)
    result = sweep.run(command=sweep.healed_command)
    assert [run.state for run in result.state.runs] == ["finished"] * 3
    assert RunFolder(folder).record["resumed"] == 1
    assert RunFolder(folder.parent / "lr-base").record["pid"] == first_pid


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_runs_and_prints_how_to_continue(number, sweep_script, tmp_path):
    command = sweep_script(runs=[{"source_kwargs": {"sleep": 60}}, {}])
    # A shell starts background jobs, such as this test may be, with SIGINT ignored.
    default = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=default)
    folder = tmp_path / "lr" / read_state_when(tmp_path, running_at=0).runs[0].name
    pid = when_there(folder)["pid"]
    with process:
        process.send_signal(number)
        try:
            printed, _ = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "The same command continues the sweep." in printed
    assert not is_alive(pid)
    assert when_there(folder)["failure"] == "interrupted"  # it was interrupted, not killed
    assert [run.state for run in read_state(tmp_path / "lr").runs] == ["pending", "pending"]


def test_a_run_that_ended_before_its_record_is_trained_again(loop):
    sweep = loop(seeds=[0])
    name = sweep.spec.plan_runs()[0].name
    sweep.run()
    state = read_state(sweep.spec.folder)
    (sweep.spec.folder / name / "run.json").unlink()
    state.mark(state.runs[0], state="running")
    assert len(sweep.run().run_folders) == 1


def test_a_run_that_finished_after_the_sweep_was_killed_is_kept(loop):
    sweep = loop(seeds=[0])
    pid = sweep.run().run_folders[0].record["pid"]
    state = read_state(sweep.spec.folder)
    state.mark(state.runs[0], state="running")
    assert sweep.run().run_folders[0].record["pid"] == pid


def test_the_arguments_of_run_are_checked(loop):
    with pytest.raises(HilumError, match="executor: 'dask' must be local or ray"):
        loop(seeds=[0]).run(executor="dask")
    with pytest.raises(HilumError, match="parallel is 0"):
        loop(seeds=[0]).run(0)


@pytest.mark.parametrize(("package", "how"), [("ray", "hilum[ray]"), ("optuna", "hilum[sweep]")])
def test_a_missing_package_is_reported_before_anything_is_written(loop, monkeypatch, package, how):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    search = {"trials": 1, "settings": {"learning_rate": [0.1]}}
    sweep = loop(search=search) if package == "optuna" else loop(seeds=[0])
    with pytest.raises(HilumError, match=package) as error:
        sweep.run(executor="ray" if package == "ray" else "local")
    assert f"pip install '{how}'" in str(error.value)
    assert not sweep.spec.folder.exists()


def test_it_is_at_the_top_of_the_package():
    assert hilum.ModelLoop is ModelLoop


def read_state_when(tmp_path, running_at: int):
    """The state once the run with this number is running."""

    def is_running() -> bool:
        if not (tmp_path / "lr" / "sweep.json").exists():
            return False
        return read_state(tmp_path / "lr").runs[running_at].state == "running"

    wait_until(is_running)
    return read_state(tmp_path / "lr")


def when_there(folder) -> dict:
    wait_until((folder / "run.json").exists)
    return json.loads((folder / "run.json").read_text())


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for is a zombie.
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] != "Z"
