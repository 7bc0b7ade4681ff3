"""Settings changed by name, where `net_kwargs.layers` is the entry `layers` of the setting `net_kwargs`."""

from collections.abc import Mapping
from typing import Any

from hilum.errors import HilumError


def with_overrides(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The base with some of it replaced.

    A dotted key changes one entry of a table and leaves its others; a key without dots replaces it all.

    Raises:
        HilumError: a dotted key into a setting that the base gives as something other than a table.

    >>> with_overrides({"net_kwargs": {"layers": 18, "drop_out_percent": 0.1}}, {"net_kwargs.layers": 34})
    {'net_kwargs': {'layers': 34, 'drop_out_percent': 0.1}}
    """
    settings = dict(base)
    # Whole tables first, so that the order of the keys does not matter.
    for key in sorted(overrides, key=lambda key: "." in key):
        setting, *path = key.split(".")
        if not path:
            settings[setting] = overrides[key]
            continue
        inner = settings.get(setting, {})
        if not isinstance(inner, Mapping):
            raise HilumError(f"{key} needs {setting} to be a table, and it is {inner!r}.")
        settings[setting] = _set(inner, path, overrides[key])
    return settings


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _set(table: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    inner = table.get(first)
    return {**table, first: _set(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}
