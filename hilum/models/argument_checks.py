"""Checks of the values in `net_kwargs`."""

from typing import Any

from hilum.errors import HilumError


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """The value, if it is a whole number of at least `least`.

    Raises:
        HilumError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise HilumError(f"net_kwargs: {name} must be a whole number, {least} or more; it is {value!r}.")
    return value


def whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    """The values, if they are a list of whole numbers, 1 or more.

    Raises:
        HilumError: they are not.
    """
    if (
        not isinstance(value, list | tuple)
        or not value
        or any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in value)
    ):
        raise HilumError(
            f"net_kwargs: {name} must be a list of whole numbers, 1 or more, such as [16, 32]; it is {value!r}."
        )
    return tuple(value)


def share(name: str, value: Any) -> float:
    """The value, if it is a number from 0 up to, not including, 1.

    Raises:
        HilumError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise HilumError(f"net_kwargs: {name} must be 0 or more and below 1; it is {value!r}.")
    return value


def one_of(name: str, value: Any, allowed: tuple) -> Any:
    """The value, if it is among those allowed.

    Raises:
        HilumError: it is not.
    """
    if isinstance(value, bool) or value not in list(allowed):
        raise HilumError(
            f"net_kwargs: {name} must be one of {', '.join(map(str, allowed))}; it is {value!r}."
        )
    return value
