import signal
import subprocess
import sys
import time

import pytest

from hilum.sweeps.process import Child, child_environment, why_it_ended


@pytest.mark.parametrize(
    ("code", "said", "why"),
    [
        (-9, "epoch 1", "killed by SIGKILL: by hand, or by the system because memory ran out"),
        (-11, "", "crashed with SIGSEGV"),
        (-15, "", "ended by SIGTERM"),
        (2, "a\nerror: 2 settings:\n  one\n  two\n", "2 settings: one two (exit code 2)"),
        (1, "Traceback …\nRuntimeError: no\n\n", "RuntimeError: no (exit code 1)"),
        (1, "", "it said nothing (exit code 1)"),
        (1, "x" * 1000, "x" * 400 + " … (exit code 1)"),
    ],
)
def test_the_reason_is_a_line(code, said, why):
    assert why_it_ended(code, said) == why


def test_what_a_run_started_does_not_outlive_it(tmp_path):
    code = (
        "import os, signal, subprocess, sys\n"
        "sleeper = subprocess.Popen(['sleep', '60'])\n"
        "print(sleeper.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    child = Child([sys.executable, "-c", code], tmp_path / "logs" / "a.log", child_environment(None))
    while child.ended() is None:
        time.sleep(0.01)
    assert child.ended() == -signal.SIGSEGV
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", child.last_words().strip()], capture_output=True, text=True
    )
    assert state.stdout.strip()[:1] in ("", "Z")


def test_words_of_an_attempt_before_are_not_the_reason(tmp_path):
    log = tmp_path / "a.log"
    for words in ("first", "second"):
        child = Child([sys.executable, "-S", "-c", f"print({words!r})"], log, child_environment(4))
        child.process.wait()
    assert child.last_words() == "second\n"
    assert "first" in log.read_text()


def test_the_number_of_threads_is_what_the_sweep_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert child_environment(2)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in child_environment(None)
