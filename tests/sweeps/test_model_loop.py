"""A sweep from its beginning to its table, through crashes, kills and starting again."""

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
from hilum.sweeps.model_loop import ModelLoop
from hilum.sweeps.state import read_state


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
    states = json.loads((sweep.plan.folder / "sweep.json").read_text())["runs"]
    assert [run["state"] for run in states] == ["finished"] * 4 + ["failed"] * 2
    assert states[5]["exit_code"] == -signal.SIGKILL
    assert "[6/6]" in sweep.said
    assert f"failed: {killed}" in sweep.said
    for folder in result.run_folders:
        assert not is_alive(folder.record["pid"])  # and its memory is the system's again


def test_a_sweep_goes_on_where_it_was(loop):
    sweep = loop(grid={"learning_rate": [0.1, 0.2]})
    first = sweep.run()
    pids = [folder.record["pid"] for folder in first.run_folders]
    more = loop(grid={"learning_rate": [0.1, 0.2, 0.3]})
    result = more.run()
    assert [folder.record["pid"] for folder in result.run_folders][:2] == pids
    assert len(result.table) == 3
    assert "Sweep lr goes on: 2 finished, 0 failed, 1 pending." in more.said


def test_failed_runs_are_tried_again_only_if_asked(loop):
    sweep = loop(runs=[{}, {"source_kwargs": {"fail": "a bad day", "once": True}}])
    assert len(sweep.run().failures) == 1
    assert len(sweep.run().failures) == 1
    assert "--retry-failed" in sweep.said
    result = sweep.run(retry_failed=True)
    assert not result.failures
    assert RunFolder(sweep.plan.folder / result.state.runs[1].name).record["resumed"] == 1
    assert result.state.runs[1].attempts == 2


def test_seeds_are_one_row_with_their_spread(loop):
    result = loop(grid={"learning_rate": [0.1, 0.2]}, seeds=[0, 1, 2]).run(parallel=3)
    best = result.table.iloc[0]
    assert best["learning_rate"] == 0.2
    assert (best["roc_auc"], best["roc_auc_sd"], best["seeds"]) == pytest.approx((0.81, 0.01, 3))
    assert best["recall"] == 0.9  # the frozen operating point's, not the score table's
    assert [name.rpartition("-")[2] for name in best["runs"]] == ["0", "1", "2"]


def test_a_changed_file_is_refused_and_the_change_named(loop):
    loop({"num_epochs": 1}, grid={"learning_rate": [0.1, 0.2]}).run()
    for base, parts, words in (
        ({"num_epochs": 2}, {"grid": {"learning_rate": [0.1, 0.2]}}, "[base] num_epochs was 1, is 2"),
        ({"num_epochs": 1}, {"grid": {"learning_rate": [0.2]}}, "[grid] learning_rate no longer has 0.1"),
        ({"num_epochs": 1}, {"grid": {"l2_reg": [0.2]}}, "[grid] learning_rate was [0.1, 0.2], and is gone"),
        ({"num_epochs": 1}, {"grid": {"learning_rate": [0.1, 0.2]}, "threads": 7}, "threads was None, is 7"),
    ):
        with pytest.raises(HilumError, match="Only runs may be added") as error:
            loop(base, **parts).run()
        assert words in str(error.value)


def test_a_second_sweep_on_the_folder_is_refused(loop):
    sweep = loop(seeds=[0])
    sweep.plan.folder.mkdir()
    with (
        FileLock(sweep.plan.folder / ".lock"),
        pytest.raises(HilumError, match="another process runs this sweep"),
    ):
        sweep.run()


def test_a_folder_of_something_else_is_left_alone(loop):
    sweep = loop(seeds=[0])
    (sweep.plan.folder / "photos").mkdir(parents=True)
    with pytest.raises(HilumError, match="such as photos"):
        sweep.run()


def test_threads_are_the_same_however_many_run_at_once(loop, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    sweep = loop(seeds=[0, 1])
    result = sweep.run(parallel=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a sweep that goes on keeps its number
    result = loop(seeds=[0, 1, 2]).run()
    assert [folder.record["device"]["threads"] for folder in result.run_folders] == [3, 3, 3]
    assert "The number of threads decides the last bits" in sweep.said


def test_a_killed_sweep_takes_its_runs_along_and_goes_on(loop, sweep_script, tmp_path):
    """Kill -9 in the middle: the run does not go on as an orphan, and is resumed with the sweep."""
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_runs_and_says_how_to_go_on(number, sweep_script, tmp_path):
    command = sweep_script(runs=[{"source_kwargs": {"sleep": 60}}, {}])
    # A shell's background jobs, and so what this test may be run in, are started with SIGINT ignored.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    folder = tmp_path / "lr" / read_state_when(tmp_path, running_at=0).runs[0].name
    pid = when_there(folder)["pid"]
    with process:
        process.send_signal(number)
        try:
            said, _ = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Go on with the same command." in said
    assert not is_alive(pid)
    assert when_there(folder)["failure"] == "interrupted"  # it was asked, not killed
    assert [run.state for run in read_state(tmp_path / "lr").runs] == ["pending", "pending"]


def test_a_run_that_never_came_to_its_record_is_trained_anew(loop):
    sweep = loop(seeds=[0])
    name = sweep.plan.runs[0].name
    sweep.run()
    state = read_state(sweep.plan.folder)
    (sweep.plan.folder / name / "run.json").unlink()
    state.mark(state.runs[0], state="running")
    assert len(sweep.run().run_folders) == 1


def test_a_run_that_finished_unseen_is_kept(loop):
    sweep = loop(seeds=[0])
    pid = sweep.run().run_folders[0].record["pid"]
    state = read_state(sweep.plan.folder)
    state.mark(state.runs[0], state="running")
    assert sweep.run().run_folders[0].record["pid"] == pid


def test_what_the_call_says_is_checked(loop):
    with pytest.raises(HilumError, match="executor: 'dask' is none; it must be local or ray"):
        loop(seeds=[0]).run(executor="dask")
    with pytest.raises(HilumError, match="parallel is 0"):
        loop(seeds=[0]).run(0)


@pytest.mark.parametrize(("package", "how"), [("ray", "hilum[ray]"), ("optuna", "hilum[sweep]")])
def test_a_missing_package_is_told_before_anything_is_written(loop, monkeypatch, package, how):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    search = {"trials": 1, "settings": {"learning_rate": [0.1]}}
    sweep = loop(search=search) if package == "optuna" else loop(seeds=[0])
    with pytest.raises(HilumError, match=package) as error:
        sweep.run(executor="ray" if package == "ray" else "local")
    assert f"pip install '{how}'" in str(error.value)
    assert not sweep.plan.folder.exists()


def test_it_is_at_the_top_of_the_package():
    assert hilum.ModelLoop is ModelLoop


def read_state_when(tmp_path, running_at: int):
    """The state table once the run at a place of it is running."""

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
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that no one has waited for is still in the table, and no longer at work.
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] != "Z"
