"""The exceptions that are meant for the user's eyes."""

from collections.abc import Iterable
from difflib import get_close_matches


class HilumError(ValueError):
    """Something the user gave cannot be used: what, where, what was expected, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class ImageError(HilumError):
    """One image that cannot be used.

    Args:
        code: the kind of reason, for programs: "missing", "unreadable" (damaged, or no image at all),
            "unsupported" (an image, but of a kind that is not read), "multi-frame", "too-large", "too-small".
        problem: what is wrong with which file, a sentence.
        cure: what to do about it where it is part of a data set, a sentence or "".
    """

    def __init__(self, code: str, problem: str, cure: str = ""):
        super().__init__(f"{problem} {cure}".strip())
        self.code = code
        self.problem = problem
        self.cure = cure


def without_worker_traceback(error: HilumError) -> HilumError:
    """The error with its own message only, if a data loader's worker has put a traceback around it.

    >>> error = HilumError("Caught HilumError in worker 0. … hilum.errors.HilumError: a.png: damaged.")
    >>> str(without_worker_traceback(error))
    'a.png: damaged.'
    """
    return HilumError(str(error).rpartition("hilum.errors.HilumError: ")[2].strip())


def nearest(name: str, known: Iterable[str]) -> str:
    """A `Did you mean …?` sentence for a misspelt name, or an empty string if nothing is near."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
