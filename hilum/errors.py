"""The one exception that is meant for the user's eyes."""

from collections.abc import Iterable
from difflib import get_close_matches


class HilumError(ValueError):
    """Something the user gave cannot be used: what, where, what was expected, what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """A `Did you mean …?` sentence for a misspelt name, or an empty string if nothing is near."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
