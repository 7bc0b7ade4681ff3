import os
import signal
import subprocess
import sys
import threading

import cv2
import pytest

from hilum.machine import cores, raise_on_sigterm, worker_pool


def test_cores_are_those_of_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert cores() == 2


def test_without_an_affinity_mask_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_sigterm_raises_in_the_block_only():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), raise_on_sigterm(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_may_enter_the_block():
    entered = []

    def enter():
        with raise_on_sigterm(KeyboardInterrupt):
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered


def test_workers_use_one_thread_of_opencv():
    with worker_pool(1) as pool:
        assert pool.submit(cv2.getNumThreads).result() == 1


POOL_AT_WORK = """
import time
from hilum.machine import worker_pool

if __name__ == "__main__":
    with worker_pool(2) as pool:
        pool.submit(print, "at work", flush=True)
        pool.submit(time.sleep, 600)
        pool.submit(time.sleep, 600).result()
"""


def test_the_workers_of_a_killed_process_end(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(POOL_AT_WORK, encoding="utf-8")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "at work\n"
        process.kill()
        # The workers have the pipe too: it ends when the last of them has ended.
        assert process.communicate(timeout=60) == ("", None)
