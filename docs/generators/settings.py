"""The page of every setting, generated from `hilum.config.RunConfig`."""

import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from hilum.config import setting_fields, setting_groups

_INTRODUCTION = """# Settings of a run

Each is defined once, in `hilum/config.py`; this page is generated from it. A setting is a flag
(`--learning-rate 1e-3`), a line of a TOML file (`learning_rate = 1e-3`) or an argument (`learning_rate=1e-3`); flags
win over the file. Tables and lists are written as in TOML: `--net-kwargs '{layers = 34}'`. An unknown name or an
impossible value stops the run before it begins.
"""


def groups() -> dict[str, list[str]]:
    """Heading -> names of settings: the groups of `RunConfig`, each headed by its docstring."""
    return {(kind.__doc__ or "").strip(): list(kind.model_fields) for kind in setting_groups().values()}


def settings_page() -> str:
    """Markdown."""
    parts = [_INTRODUCTION]
    for heading, names in groups().items():
        parts += [
            f"## {heading}",
            "",
            "| setting | default | values | meaning |",
            "| --- | --- | --- | --- |",
        ]
        parts += [_row(name, setting_fields()[name]) for name in names]
        parts.append("")
    return "\n".join(parts)


def _row(name: str, field: FieldInfo) -> str:
    # Braces are Markdown's attributes unless they are code.
    description = re.sub(r"\{[^}]*\}", r"`\g<0>`", field.description or "").replace("|", r"\|")
    return f"| `{name}` {{#{name}}} | {_default(field.default)} | {_values(field)} | {description} |"


def _default(value: Any) -> str:
    if value is None or value in ({}, ()):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`" + ", ".join(map(str, value)) + "`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _values(field: FieldInfo) -> str:
    limits = _limits(field.metadata)
    kinds = list(dict.fromkeys(_kinds(field.annotation)))
    words = " or ".join(kinds)
    return f"{words}, {limits}" if limits else words


def _limits(metadata: list[Any]) -> str:
    """Such as "0 to 1", "1 or more", "above 0"."""
    found = {
        name: getattr(item, name)
        for item in metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(item, name)
    }
    low = f"{found['ge']:g}" if "ge" in found else f"above {found['gt']:g}" if "gt" in found else None
    high = found.get("le", found.get("lt"))
    if high is not None and high > 2**62:
        high = None
    if low and high is not None:
        return f"{low} to {'below ' if 'lt' in found else ''}{high:g}"
    if low:
        return low if low.startswith("above") else f"{low} or more"
    return "" if high is None else f"up to {high:g}"


def _kinds(annotation: Any) -> list[str]:
    """The kinds of values as text, without None."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    if origin is Annotated:
        kind, *metadata = get_args(annotation)
        inner = [item for part in metadata for item in getattr(part, "metadata", [part])]
        limits = _limits(inner)
        return [f"{_kinds(kind)[0]}, {limits}" if limits else _kinds(kind)[0]]
    if origin is Literal:
        return [f"`{value}`" for value in get_args(annotation)]
    if origin is tuple:
        kinds = [kind for part in get_args(annotation) if part is not Ellipsis for kind in _kinds(part)]
        return ["list of " + " or ".join(kinds)]
    if origin is dict:
        return ["table"]
    words = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        Path: "path",
        types.NoneType: "",
    }
    return [words[annotation]] if words.get(annotation) else []
