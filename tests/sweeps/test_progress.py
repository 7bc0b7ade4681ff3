"""Lines where there is no terminal, a table where there is one."""

import io

import pytest
from rich.console import Console

from hilum.sweeps._progress import SweepView
from hilum.sweeps._spec import make_spec
from hilum.sweeps._state import open_state


@pytest.fixture
def state(tmp_path):
    """A sweep of 40 runs, of which one runs, one failed, and one has finished without a folder."""
    state = open_state(make_spec({"seeds": range(40), "save_path": tmp_path, "name": "s"}))
    state.runs[19].state, state.runs[19].seconds = "finished", 3725.0
    state.runs[20].state, state.runs[20].started = "running", "2024-01-01T00:00:00+00:00"
    state.runs[21].state, state.runs[21].failure = "failed", "no [memory]"
    return state


def test_lines_have_the_count_and_what_happened(state):
    printed = io.StringIO()
    with SweepView(state, Console(file=printed, width=200), total=50) as view:
        view.started(state.runs[20], resumed=True)
        view.ended(state.runs[19])
        view.ended(state.runs[21])
        view.refresh()
    lines = printed.getvalue().splitlines()
    assert lines[0] == "Sweep s continues: 1 finished, 1 failed, 37 pending."
    assert "--retry-failed" in lines[1]
    lines = lines[2:]
    assert lines[:2] == ["[2/50] s-seed-20 resumed", "[2/50] s-seed-19 finished in 3,725 s"]
    assert lines[2].startswith("[2/50] s-seed-21 failed: no [memory]. Log: ")
    assert lines[2].endswith("s-seed-21.log")


def test_a_terminal_gets_the_rows_around_the_running_run(state):
    printed = io.StringIO()
    console = Console(file=printed, width=100, force_terminal=True)
    with SweepView(state, console) as view:
        rows = view.table(most=6)
        view.started(state.runs[20])
    assert list(rows.columns[0].cells) == [f"s-seed-{number}" for number in range(18, 24)]
    assert next(iter(rows.columns[5].cells)) == "–"
    assert list(rows.columns[5].cells)[1] == "1:02:05"
    assert "seed-20 started" not in printed.getvalue()  # the table shows it


def test_a_run_without_a_folder_has_no_scores(state):
    assert SweepView(state, Console(file=io.StringIO())).progress(state.runs[0]) == (0, 0, {})
