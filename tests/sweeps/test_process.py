import signal
import subprocess
import sys
import time

import pytest

from hilum.sweeps.process import Child, child_environment, end_reason


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (-9, "epoch 1", "killed by SIGKILL: by a user, or by the system because memory ran out"),
        (-11, "", "crashed with SIGSEGV"),
        (-15, "", "ended by SIGTERM"),
        (2, "a\nerror: 2 settings:\n  one\n  two\n", "2 settings: one two (exit code 2)"),
        (1, "Traceback …\nRuntimeError: no\n\n", "RuntimeError: no (exit code 1)"),
        (1, "", "without output (exit code 1)"),
        (1, "x" * 1000, "x" * 400 + " … (exit code 1)"),
    ],
)
def test_the_reason_is_one_line(code, output, reason):
    assert end_reason(code, output) == reason


def test_a_runs_own_children_do_not_outlive_it(tmp_path):
    code = (
        "import os, signal, subprocess, sys\n"
        "sleeper = subprocess.Popen(['sleep', '60'])\n"
        "print(sleeper.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    child = Child([sys.executable, "-c", code], tmp_path / "logs" / "a.log", child_environment(None))
    while child.poll() is None:
        time.sleep(0.01)
    assert child.poll() == -signal.SIGSEGV
    deadline = time.monotonic() + 60  # a busy machine delivers the signal late
    while process_state(child.output().strip()) not in ("", "Z"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def process_state(pid: str) -> str:
    """The first letter of `ps`: Z for a zombie; empty if there is no such process."""
    command = ["ps", "-o", "stat=", "-p", pid]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()[:1]


def test_the_output_is_that_of_the_last_attempt(tmp_path):
    log = tmp_path / "a.log"
    for text in ("first", "second"):
        child = Child([sys.executable, "-S", "-c", f"print({text!r})"], log, child_environment(4))
        child.process.wait()
    assert child.output() == "second\n"
    assert "first" in log.read_text()


def test_the_number_of_threads_is_the_sweeps(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert child_environment(2)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in child_environment(None)
