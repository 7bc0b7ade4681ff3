"""Settings written as TOML; the standard library only reads it."""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def as_toml(settings: Mapping[str, Any]) -> str:
    """One line per setting, tables inline. A setting that is None is left out: TOML has no word for it.

    >>> print(as_toml({"learning_rate": 1e-05, "net_kwargs": {"layers": 34}, "root": None}), end="")
    learning_rate = 1e-05
    net_kwargs = {"layers" = 34}
    """
    return "".join(f"{name} = {_value(value)}\n" for name, value in settings.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = (f"{_text(str(key))} = {_value(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)  # an IntEnum's own repr is no number
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str | PurePath):
        return _text(str(value))
    raise TypeError(f"{value!r} has no form in TOML")


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for those of characters that JSON leaves as they are.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
