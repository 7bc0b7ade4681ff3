"""What is wrong with one setting of a sweep: in words, after the table that it stands in."""

from typing import Any

from hilum.config import RunConfig, setting_fields
from hilum.errors import HilumError, nearest
from hilum.sweeps.overrides import with_overrides

#: What the sweep gives each run itself.
_OF_THE_SWEEP = {
    "name": "each run's name is made from what is particular about it; `name` at the top names the sweep.",
    "save_path": "all runs lie in the sweep's folder; `save_path` at the top says where that is.",
}


def complaint(table: str, key: str) -> list[str]:
    """What is wrong with a key, if anything: no such setting, one that is not a sweep's to vary, or no table.

    Args:
        table: where it stands, in words: `[grid]`.
        key: the setting, or an entry of it after a dot.
    """
    setting, _, inside = key.partition(".")
    if setting in _OF_THE_SWEEP:
        return [f"{table} {setting}: {_OF_THE_SWEEP[setting]}"]
    if setting not in setting_fields():
        return [f"{table}: there is no setting {setting!r}.{nearest(setting, setting_fields())}"]
    if inside and not admits_table(setting):
        return [f"{table} {key}: {setting} is no table, so it has no {inside!r}."]
    return []


def value_complaint(table: str, key: str, value: Any) -> list[str]:
    """What is wrong with a value of a known setting, if anything."""
    setting = key.partition(".")[0]
    try:
        RunConfig(**with_overrides({}, {key: value}))
    except HilumError as error:
        return [f"{table} {key}: {str(error).removeprefix(f'Setting {setting}: ')}"]
    return []


def admits_table(setting: str) -> bool:
    """Whether a setting may be a table, such as `net_kwargs`."""
    field = setting_fields().get(setting)
    return field is not None and "dict" in str(field.annotation)


def is_whole(setting: str) -> bool | None:
    """Whether a setting is a whole number: never a fraction, always, or None where it may be either."""
    if "." in setting:
        return None
    kind = str(setting_fields()[setting].annotation)
    if "int" in kind:
        return None if "float" in kind else True
    return False
