"""A run in its own process, and why that process ended."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired

#: (settings file, run folder to resume or None) -> the command line that trains.
Command = Callable[[Path, Path | None], list[str]]

#: Runs the command in its arguments, bound to the life of the process whose id is the first argument.
#: On Linux the kernel sends SIGKILL to this process when its parent ends (prctl(2), PR_SET_PDEATHSIG = 1), and
#: exec keeps that. A function called after fork would not be safe in a process with threads. Elsewhere an orphan
#: continues; the lock of its run folder keeps other processes out.
_BOUND = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)
# A shell starts background jobs with SIGINT ignored; the run must receive it.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(command[0], command)
"""

_LONGEST_REASON = 400
_TAIL_BYTES = 20_000


def hilum_command(settings: Path, resume: Path | None) -> list[str]:
    """`hilum train` with a settings file, or `hilum resume` of a stopped run."""
    arguments = ["resume", str(resume)] if resume else ["train", str(settings)]
    return [sys.executable, "-m", "hilum", *arguments]


def child_environment(threads: int | None) -> dict[str, str]:
    """The environment of this process, with the sweep's number of threads."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return environment | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


class Child:
    """A process that appends its output to a log file, and ends when this process ends.

    The kernel ties it to the thread that creates it, so that thread must wait for it. `command` has the full path
    of the program.
    """

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        # -I -S: Python starts in milliseconds, because it does not search for packages.
        bound_command = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]
        with log.open("ab") as file:
            file.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
            self._start_of_log = file.tell()
            file.flush()
            # In its own group: Ctrl-C reaches only the sweep, which then stops its runs one by one.
            self.process = Popen(
                bound_command, stdin=DEVNULL, stdout=file, stderr=STDOUT, env=environment, process_group=0
            )

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        code = self.process.poll()
        if code:  # the run's own children, such as the loader's workers, must not outlive it
            self._kill_group()
        return code

    def interrupt(self) -> None:
        """Asks the process to stop, as Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> None:
        """Waits until the process ends, at most this long."""
        with suppress(TimeoutExpired):
            self.process.wait(seconds)

    def kill(self) -> None:
        """Ends the process and its own children at once."""
        self._kill_group()
        self.process.wait()

    def output(self) -> str:
        """The end of this process's output."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._start_of_log, end - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def end_reason(exit_code: int, output: str) -> str:
    """Why a process ended, in one line: its signal, or its error message.

    >>> end_reason(2, "error: source 'ih' is unknown.")
    "source 'ih' is unknown. (exit code 2)"
    """
    if exit_code < 0:
        name = next((each.name for each in signal.Signals if each == -exit_code), f"signal {-exit_code}")
        if name == "SIGKILL":
            return "killed by SIGKILL: by a user, or by the system because memory ran out"
        crashes = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT")
        return f"crashed with {name}" if name in crashes else f"ended by {name}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    message = " ".join(lines[errors[-1] :]).removeprefix("error: ") if errors else "".join(lines[-1:])
    if len(message) > _LONGEST_REASON:
        message = f"{message[:_LONGEST_REASON]} …"
    return f"{message or 'without output'} (exit code {exit_code})"
