"""What this process gets from its machine: CPU cores, and the request to end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Number of CPU cores that this process may use: those of its affinity mask, or all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def raise_on_sigterm(error: type[BaseException]) -> Iterator[None]:
    """In the block, SIGTERM raises `error`. Machines and schedulers send it to ask a process to end.

    It has no effect outside the main thread, which alone receives signals.
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
