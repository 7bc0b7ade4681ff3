"""Names of runs that say what is particular about each, and are good names of folders."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 100


def run_name(sweep: str, overrides: Mapping[str, Any], taken: set[str]) -> str:
    """A name that is not taken, whatever the file system makes of upper and lower case; it is added to `taken`.

    >>> run_name("lr", {"learning_rate": 1e-05, "seed": 0}, set())
    'lr-learning_rate-1e-5-seed-0'
    """
    said = "-".join(f"{key}-{_words(value)}" for key, value in overrides.items()) or "base"
    name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{sweep}-{said}").strip("-")
    if len(name) > _LONGEST:
        whole = hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()
        name = f"{name[:_LONGEST]}-{whole[:8]}"
    unique, number = name, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique.lower())
    return unique


def _words(value: Any) -> str:
    if isinstance(value, float):
        return re.sub(r"e([+-])0+", r"e\1", f"{value:.4g}").replace("e+", "e")
    if isinstance(value, Mapping):
        return "-".join(f"{key}-{_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "_".join(map(_words, value))
    return str(value)
