"""What this machine gives to this process."""

import os


def cores() -> int:
    """Number of CPU cores that this process may use: those of its affinity mask, or all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
