"""The machine of this process: its CPU cores, and the signal to end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Number of CPU cores that this process may use: those of its affinity mask, or all cores of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
