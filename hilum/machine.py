"""The machine of this process: its CPU cores, worker processes, and the signal to end."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


def cores() -> int:
    """Number of CPU cores that this process may use: those of its affinity mask, or all cores of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of processes, with one OpenCV thread each, that end when this process ends, even if it is killed."""
    # Not fork: a forked child inherits locks of OpenCV's and torch's threads and may hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    import cv2  # of a data set's images only

    cv2.setNumThreads(1)  # the processes are the parallelism
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def raise_on_sigterm(error: type[BaseException]) -> Iterator[None]:
    """In the block, SIGTERM raises `error`. Schedulers send SIGTERM to ask a process to end.

    Outside the main thread this has no effect, because only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        raise error

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
