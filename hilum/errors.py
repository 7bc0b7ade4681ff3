"""Exceptions whose messages are written for the user, and suggestions for misspelt names."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class HilumError(ValueError):
    """An input cannot be used. The message names the input, its place, what was expected and a remedy.

    The command line prints the message without a traceback and exits with code 2.
    """


class ImageError(HilumError):
    """One image that cannot be used.

    Args:
        code: the reason, for programs: "missing", "unreadable" (damaged, or not an image), "unsupported" (an image
            of a kind that is not supported), "multi-frame", "too-large", "too-small".
        problem: a sentence that names the file and what is wrong with it.
        remedy: a sentence for an image of a data set, or "".
    """

    def __init__(self, code: str, problem: str, remedy: str = ""):
        super().__init__(f"{problem} {remedy}".strip())
        self.code, self.problem, self.remedy = code, problem, remedy


def without_worker_traceback(error: HilumError) -> HilumError:
    """The error with only its own message, without the traceback that a data loader's worker adds.

    >>> error = HilumError("Caught HilumError in worker 0. … hilum.errors.HilumError: a.png: damaged.")
    >>> str(without_worker_traceback(error))
    'a.png: damaged.'
    """
    return HilumError(str(error).rpartition("hilum.errors.HilumError: ")[2].strip())


def nearest(name: str, known: Iterable[str]) -> str:
    """A `Did you mean …?` sentence for a misspelt name, or an empty string if no known name is similar."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def first_lines(lines: Sequence[str], most: int = 10) -> str:
    """The first lines of a list, indented by two spaces from the second on, and the number of the others."""
    more = [f"… and {len(lines) - most:,} more"] if len(lines) > most else []
    return "\n  ".join([*lines[:most], *more])
