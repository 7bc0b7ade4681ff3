"""What a sweep file gives for one setting: a list, or a range."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hilum.errors import HilumError, nearest

SCALES = ("linear", "log")
_RANGE_KEYS = ("from", "to", "steps", "scale")


def is_range(value: Any) -> bool:
    """Whether a table is meant as a range, and not as a setting's own table."""
    return isinstance(value, Mapping) and bool({"from", "to"} & set(value))


def values_of(given: Any) -> list[Any]:
    """The values of a list, an array or a range table.

    A range holds both its ends; its values are rounded to 12 digits, and are whole numbers where its ends
    and steps are.

    Raises:
        HilumError: an empty list, no list, or a range that makes no sense. The message has no subject:
            the caller puts the setting before it.

    >>> values_of({"from": 1e-6, "to": 1e-3, "steps": 4, "scale": "log"})
    [1e-06, 1e-05, 0.0001, 0.001]
    """
    if isinstance(given, Mapping):
        return _of_range(given)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise HilumError(f"{given!r} is one value; give a list such as [{given!r}], or a range.")
    values = [plain(value) for value in given]
    if not values:
        raise HilumError("the list is empty; give at least one value.")
    return values


def check_range(given: Mapping[str, Any], known: Iterable[str]) -> tuple[float, float, str]:
    """The ends and the scale of a range table.

    Args:
        given: the table.
        known: the keys that it may have.

    Raises:
        HilumError: an unknown or missing key, ends that are no numbers or in the wrong order, or a
            logarithmic range that does not begin above 0.
    """
    known = tuple(known)
    for name in given:
        if name not in known:
            raise HilumError(
                f"a range has no {name!r}.{nearest(str(name), known)} It has {', '.join(known)}."
            )
    missing = [name for name in ("from", "to") if name not in given]
    if missing:
        raise HilumError(f"the range lacks {' and '.join(missing)}.")
    low, high, scale = plain(given["from"]), plain(given["to"]), given.get("scale", "linear")
    for name, end in (("from", low), ("to", high)):
        if isinstance(end, bool) or not isinstance(end, int | float) or not np.isfinite(end):
            raise HilumError(f"{name} is {end!r}; the ends of a range are numbers.")
    if not low < high:
        raise HilumError(f"the range goes from {low:g} to {high:g}; from must be below to.")
    if scale not in SCALES:
        raise HilumError(f"scale is {scale!r}; it must be {' or '.join(SCALES)}.")
    if scale == "log" and low <= 0:
        raise HilumError(f"from is {low:g}; a logarithmic range begins above 0.")
    return low, high, scale


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's own number."""
    return value.item() if isinstance(value, np.generic) else value


def _of_range(given: Mapping[str, Any]) -> list[Any]:
    low, high, scale = check_range(given, _RANGE_KEYS)
    steps = given.get("steps")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise HilumError(
            f"steps is {steps!r}; it is the number of values with both ends, a whole number from 2 on."
        )
    spaced = (np.geomspace if scale == "log" else np.linspace)(low, high, steps)
    values = [float(f"{value:.12g}") for value in spaced]
    if isinstance(low, int) and isinstance(high, int) and all(value.is_integer() for value in values):
        return [int(value) for value in values]
    return values
