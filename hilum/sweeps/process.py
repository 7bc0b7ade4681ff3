"""A run as a process of its own, and how it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hilum.sweeps import bound

#: (settings file, run folder to resume or None) -> the command line that trains.
Command = Callable[[Path, Path | None], list[str]]

_LONGEST_REASON = 400
_TAIL_BYTES = 20_000


def hilum_command(settings: Path, resume: Path | None) -> list[str]:
    """`hilum train` with a file of settings, or `hilum resume` of a run that was stopped."""
    doing = ["resume", str(resume)] if resume else ["train", str(settings)]
    return [sys.executable, "-m", "hilum", *doing]


def child_environment(threads: int | None) -> dict[str, str]:
    """This process's, with the number of threads that the sweep was begun with."""
    environment = dict(os.environ)
    environment.pop("OMP_NUM_THREADS", None)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


class Child:
    """A process that writes to a log and ends when this one does.

    The kernel ties it to the thread that makes it (see `bound`), so that must be one that waits for it.

    Args:
        command: with the whole path of the program.
        log: gets what it says, after what is there.
        environment: of the process.
    """

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        # A program by its path in isolation: Python is up in a few milliseconds, before hilum is looked for.
        bound_command = [sys.executable, "-I", "-S", bound.__file__, str(os.getpid()), *command]
        with log.open("ab") as file:
            file.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
            self._start_of_log = file.tell()
            file.flush()
            # A group of its own: Ctrl-C reaches the sweep alone, which then stops its runs one by one.
            self.process = subprocess.Popen(
                bound_command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )

    def ended(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        code = self.process.poll()
        if code:  # what the run had started, such as its loader's workers, does not outlive it
            self._signal_group(signal.SIGKILL)
        return code

    def interrupt(self) -> None:
        """Asks it to stop as Ctrl-C would."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Ends it and what it has started, at once."""
        self._signal_group(signal.SIGKILL)
        self.process.wait()

    def last_words(self) -> str:
        """The end of what this process said."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._start_of_log, end - _TAIL_BYTES))
            return file.read().decode(errors="replace")

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def why_it_ended(exit_code: int, last_words: str) -> str:
    """The reason in a line: the signal, or the error's last line.

    >>> why_it_ended(2, "error: source 'ih' is unknown.")
    "source 'ih' is unknown. (exit code 2)"
    """
    if exit_code < 0:
        return _signal_in_words(-exit_code)
    lines = [line.strip() for line in last_words.splitlines() if line.strip()]
    errors = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    said = " ".join(lines[errors[-1] :]).removeprefix("error: ") if errors else "".join(lines[-1:])
    if len(said) > _LONGEST_REASON:
        said = f"{said[:_LONGEST_REASON]} …"
    return f"{said or 'it said nothing'} (exit code {exit_code})"


def _signal_in_words(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name == "SIGKILL":
        return "killed by SIGKILL: by hand, or by the system because memory ran out"
    if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        return f"crashed with {name}"
    return f"ended by {name}"
