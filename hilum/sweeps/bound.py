"""Runs a command that ends when the process that started it ends, whichever way: `bound.py PARENT COMMAND…`.

On Linux the kernel sends SIGKILL to this process when its parent is gone (prctl(2), PR_SET_PDEATHSIG), and that
survives the exec. It is a program of its own, and no function that a fork would call in a process with threads.
Elsewhere an orphan goes on, and the lock of its run folder keeps a second one away from it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Takes the parent's process id and the command from the command line."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was asked
            sys.exit(1)
    # A shell starts what it puts in the background with SIGINT ignored; the run must hear it all the same.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
