"""Packages that a sweep may need, asked for before anything starts."""

import importlib.util

from hilum.errors import HilumError


def require(package: str, extra: str, what: str) -> None:
    """Raises a HilumError that says how to install a package, unless it is there.

    Args:
        package: the name to import.
        extra: of Hilum, that brings it.
        what: needs it, in words.
    """
    if importlib.util.find_spec(package) is None:
        raise HilumError(f"{what} needs the package {package}. Install it with: pip install 'hilum[{extra}]'")
