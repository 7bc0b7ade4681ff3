"""What a sweep file asks for: settings of all runs, and what varies. Everything is checked before a run starts."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, StrictInt, ValidationError, model_validator
from pydantic_core import ErrorDetails

from hilum.config import DEFAULTS, RunConfig, SettingsError, setting_fields, with_current_names
from hilum.errors import HilumError, nearest

#: Scores that a search can optimize: validation, best epoch, mean over the targets that have the score.
Metric = Literal["recall", "roc_auc", "precision", "avg_precision", "f1", "loss"]

#: Settings that the sweep gives to each run.
_OF_THE_SWEEP = {
    "name": "the sweep names its runs; `name` at the top of the file names the sweep",
    "save_path": "all runs are in the sweep's folder; `save_path` at the top of the file is where that is",
}
_LONGEST_NAME = 100

_Model = TypeVar("_Model", bound=BaseModel)


def with_overrides(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The base with some settings replaced.

    A dotted key replaces one entry of a table; a key without dots replaces the whole setting.

    Raises:
        HilumError: a dotted key into a setting that is not a table in the base.

    >>> with_overrides({"net_kwargs": {"layers": 18, "drop_out_percent": 0.1}}, {"net_kwargs.layers": 34})
    {'net_kwargs': {'layers': 34, 'drop_out_percent': 0.1}}
    """
    settings = dict(base)
    # Whole tables first, so that the order of the keys does not matter.
    for key in sorted(overrides, key=lambda key: "." in key):
        setting, *path = key.split(".")
        inner = settings.get(setting, {})
        if path and not isinstance(inner, Mapping):
            raise HilumError(f"{key} needs {setting} to be a table, not {inner!r}.")
        settings[setting] = _replaced(inner, path, overrides[key])
    return settings


def _replaced(table: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    table = _mapping(table)
    return {**table, path[0]: _replaced(table.get(path[0]), path[1:], value)}


def _mapping(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def run_key(record: Mapping[str, Any]) -> str:
    """Text that is equal for runs with equal settings, from `RunConfig.as_record` of this or an older version."""
    record = DEFAULTS.as_record() | with_current_names(record)
    return json.dumps({name: value for name, value in record.items() if name not in _OF_THE_SWEEP})


def run_name(sweep: str, overrides: Mapping[str, Any], names: set[str]) -> str:
    """A folder name that states the overrides and is not among `names`; it is added to them.

    >>> run_name("lr", {"learning_rate": 1e-05, "seed": 0}, set())
    'lr-learning_rate-1e-5-seed-0'
    """
    name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{sweep}-{_name_part(overrides) or 'base'}").strip("-")
    if len(name) > _LONGEST_NAME:
        whole = hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()
        name = f"{name[:_LONGEST_NAME]}-{whole[:8]}"
    return unused_name(name, names)


def unused_name(name: str, names: set[str]) -> str:
    """The name, numbered if it is among `names` in any case; it is added to them, in lower case."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    unused = next(each for each in itertools.chain([name], numbered) if each.lower() not in names)
    names.add(unused.lower())
    return unused


def _name_part(value: Any) -> str:
    if isinstance(value, float):
        return re.sub(r"e([+-])0+", r"e\1", f"{value:.4g}").replace("e+", "e")
    if isinstance(value, Mapping):
        return "-".join(f"{key}-{_name_part(item)}" for key, item in value.items())
    return "_".join(map(_name_part, value)) if isinstance(value, list | tuple) else str(value)


class _Table(BaseModel, extra="forbid", frozen=True):
    """A table of a sweep file. It refuses unknown keys."""


class Interval(_Table):
    """A range `{from, to, scale}`: both ends included, values spread evenly or over the logarithm."""

    low: Any = Field(alias="from")
    high: Any = Field(alias="to")
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _check_ends(self) -> "Interval":
        if not all(type(end) in (int, float) and math.isfinite(end) for end in (self.low, self.high)):
            raise ValueError(f"`from` and `to` must be numbers, not {self.low!r} and {self.high!r}")
        if not self.low < self.high:
            raise ValueError(f"the range goes from {self.low:g} to {self.high:g}; `from` must be below `to`")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"`from` is {self.low:g}; a logarithmic range must begin above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether both ends are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Range(Interval):
    """A range `{from, to, steps, scale}` of a grid: `steps` values, both ends included."""

    steps: StrictInt = Field(ge=2)

    def values(self) -> list[Any]:
        """The values, to 12 digits; whole numbers if the ends and all values are."""
        spaced = (np.geomspace if self.scale == "log" else np.linspace)(self.low, self.high, self.steps)
        values = [float(f"{value:.12g}") for value in spaced]
        return [*map(int, values)] if self.whole and all(map(float.is_integer, values)) else values


def _json_value(value: Any) -> Any:
    """A value of Python or NumPy as a TOML file would give it."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    return [*map(_json_value, value)] if isinstance(value, Iterable) and not isinstance(value, str) else value


def _as_table(given: Any) -> dict[str, Any]:
    """A table of settings, under their current names."""
    if isinstance(given, RunConfig):
        record = given.as_record()
        given = {name: record[name] for name in record if name in given.given and record[name] is not None}
    if not isinstance(given, Mapping):
        raise ValueError(f"must be a table of settings, not {given!r}")
    return with_current_names(_json_value(given))


def _dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a grid; tables in a setting that is a table, such as `net_kwargs`, become dotted keys."""
    for key, given in table.items():
        nested = isinstance(given, Mapping) and not {"from", "to"} & set(given)
        if nested and (prefix or dict in _kinds(key)):
            yield from _dotted(given, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", given


def _kinds(setting: str) -> set[Any]:
    """The types that a setting may have: int, float, dict, …; empty for an entry of a table."""
    field = setting_fields().get(setting)
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return {get_origin(kind) or kind for kind in kinds}


def _values(table: str, key: str, given: Any) -> list[Any]:
    """The values of a list or a range, each checked."""
    values = _parsed(Range, given, f"{table} {key}").values() if isinstance(given, Mapping) else given
    if not isinstance(values, list):
        raise ValueError(f"{given!r} is one value; give a list such as [{given!r}], or a range")
    if not values:
        raise ValueError("the list is empty; give at least one value")
    _check(line for value in values for line in _setting_problems(table, key, value))
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{value!r} is there twice; give each value once")
    return values


def _search_values(table: str, key: str, given: Any) -> Interval | list[Any]:
    if not isinstance(given, Mapping):
        return _values(table, key, given)
    interval, kinds = _parsed(Interval, given, f"{table} {key}"), _kinds(key)
    if int in kinds and float not in kinds and not interval.whole:
        raise ValueError("the setting is a whole number, so `from` and `to` must be whole numbers")
    _check(line for end in (interval.low, interval.high) for line in _setting_problems(table, key, end))
    if kinds and int not in kinds:
        return interval.model_copy(update={"low": float(interval.low), "high": float(interval.high)})
    return interval


def _settings(table: str, key: str, given: Any) -> dict[str, Any]:
    settings, table = _as_table(given), f"{table} {key}".strip()
    _check(line for each in settings for line in _setting_problems(table, each, settings[each]))
    return settings


def _setting_problems(table: str, key: str, value: Any) -> list[str]:
    """What is wrong with one setting of a table, if anything."""
    setting = key.partition(".")[0]
    if setting in _OF_THE_SWEEP and table:
        return [f"{table} {setting}: {_OF_THE_SWEEP[setting]}."]
    try:
        RunConfig(**with_overrides({}, {key: value}))
    except SettingsError as error:
        lines = (problem.removeprefix(f"Setting {setting}: ") for problem in error.problems)
        return [f"{table} {key}: {line}".strip() for line in lines]
    return []


def _runs(given: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not given:
        raise ValueError(f"must be a list of tables, [[runs]] in a file, at least one; not {given!r}")
    numbered = {f"number {number}": run for number, run in enumerate(given, 1)}
    return tuple(_collected("[[runs]]", numbered, _settings).values())


def _searched_settings(given: Any) -> dict[str, Any]:
    if not (settings := _as_table(given)):
        raise ValueError("give a list of choices, or a range {from, to}, for at least one setting")
    return _collected("[search.settings]", settings, _search_values)


def _collected(table: str, items: Mapping[str, Any], parse: Callable[[str, str, Any], Any]) -> dict[str, Any]:
    """Each item parsed; the mistakes of all are raised together."""
    parsed, problems = {}, []
    for key, given in items.items():
        try:
            parsed[key] = parse(table, key, given)
        except SettingsError as error:
            problems += error.problems
        except ValueError as error:
            problems.append(f"{table} {key}: {error}.")
    _check(problems)
    return parsed


def _check(problems: Iterable[str]) -> None:
    if lines := list(dict.fromkeys(problems)):
        raise SettingsError(lines)


def _parsed(model: type[_Model], given: Mapping[str, Any], table: str = "") -> _Model:
    """A table as its model. Raises SettingsError with one line per mistake."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        lines = [line for detail in error.errors() for line in _explain(detail, model, table)]
        raise SettingsError(lines) from None


def _explain(detail: ErrorDetails, model: type[BaseModel], table: str) -> list[str]:
    """Table, key, value and what is allowed."""
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, SettingsError):
        return cause.problems
    key = str(detail["loc"][0]) if detail["loc"] else ""
    place = f"{table} {key}".strip()
    if detail["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        run_setting = not table and key in setting_fields()
        remedy = " Settings of a run go into [base]." if run_setting else nearest(key, known)
        return [f"{place}: there is no such key.{remedy} The keys are {', '.join(known)}."]
    choices = re.findall(r"'([^']+)'", detail["msg"]) if detail["type"] == "literal_error" else []
    message = detail["msg"].removeprefix("Value error, ").replace("Field required", "this key is missing")
    message = message.replace("Input should", f"{detail['input']!r} must")
    return [f"{place}: {message}.{nearest(str(detail['input']), choices)}"]


class Search(_Table):
    """The table [search]: `trials` combinations of `settings`, drawn by `sampler` to optimize `metric`."""

    trials: StrictInt = Field(ge=1)
    metric: Metric = "roc_auc"
    direction: Literal["maximize", "minimize"]
    sampler: Literal["tpe", "random"] = "tpe"
    seed: StrictInt = Field(0, ge=0)
    settings: Annotated[dict[str, Interval | list[Any]], BeforeValidator(_searched_settings)]

    def as_record(self) -> dict[str, Any]:
        """The table as JSON values."""
        settings = self.model_dump(include={"settings"}, by_alias=True, exclude_unset=True)
        return self.model_dump(exclude={"settings"}) | settings


def _search(given: Any) -> Search:
    if not isinstance(given, Mapping):
        raise ValueError(f"must be a table, not {given!r}")
    direction = "minimize" if given.get("metric") == "loss" else "maximize"
    return _parsed(Search, {"direction": direction, "settings": {}} | _json_value(given), "[search]")


@dataclass
class SweepRun:
    """A run of a sweep, and its state."""

    name: str  # of its folder
    overrides: dict[str, Any]  # dotted setting -> value, where the sweep changes the base
    settings: dict[str, Any]  # as `RunConfig` takes them, without name and save_path
    key: str  # equal for runs with equal settings, see `run_key`
    state: str = "pending"  # or running, finished, failed
    attempts: int = 0  # how often it was started
    device: str | None = None  # that the sweep gave it; None if its settings decide
    started: str | None = None  # the last attempt, UTC, ISO 8601
    seconds: float | None = None  # of the last attempt
    exit_code: int | None = None  # of its process; negative is the signal that ended it
    failure: str | None = None  # why it failed
    note: str | None = None  # a remark on a run that did not fail


class SweepSpec(_Table):
    """A sweep: the keys of its file, which docs/sweeps.md and `ModelLoop` explain."""

    name: str
    save_path: Path = Path("runs")
    base: Annotated[dict[str, Any], BeforeValidator(partial(_settings, "[base]", ""))] = {}
    grid: Annotated[
        dict[str, list[Any]],
        BeforeValidator(lambda given: _collected("[grid]", dict(_dotted(_as_table(given))), _values)),
    ] = {}
    runs: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_runs)] = ()
    seeds: Annotated[
        tuple[int, ...] | None,
        BeforeValidator(lambda given: tuple(_values("seeds, as", "seed", _json_value(given)))),
    ] = None
    repeats: StrictInt | None = Field(None, ge=1)
    search: Annotated[Search | None, BeforeValidator(_search)] = None
    threads: StrictInt | None = Field(None, ge=1)

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.save_path / self.name

    @property
    def all_seeds(self) -> tuple[int, ...] | None:
        """The seeds of each combination, from `seeds` or `repeats`; None: the base's seed alone."""
        if self.repeats is None:
            return self.seeds
        first = self.base.get("seed", 0)
        return tuple(range(first, first + self.repeats))

    def plan_runs(self) -> list[SweepRun]:
        """All runs, in order; empty for a search, which adds its runs one by one.

        Raises:
            SettingsError: settings that cannot go together, or the same run twice.
        """
        if self.search is not None:
            return []
        grid = [] if self.runs and not self.grid else itertools.product(*self.grid.values())
        combinations = [dict(zip(self.grid, values, strict=True)) for values in grid]
        problems: list[str] = []
        names: set[str] = set()
        runs: dict[str, SweepRun] = {}
        for overrides in itertools.chain.from_iterable(map(self.repeated, [*combinations, *self.runs])):
            try:
                run = self.plan_run(overrides, names)
            except HilumError as error:
                problems.append(f"the run with {_as_text(overrides)}: {error}")
                continue
            first = runs.setdefault(run.key, run)
            if first is not run:
                problems.append(f"the same run twice: {_as_text(first.overrides)} and {_as_text(overrides)}.")
        _check(problems)
        return list(runs.values())

    def plan_run(self, overrides: Mapping[str, Any], names: set[str]) -> SweepRun:
        """A run with these overrides of the base; its name, in lower case, is added to `names`.

        Raises:
            HilumError: the settings cannot go together.
        """
        settings = with_overrides(self.base, overrides)
        key = run_key(RunConfig(**settings).as_record())
        return SweepRun(run_name(self.name, overrides, names), dict(overrides), settings, key)

    def repeated(self, overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The overrides, once for each seed."""
        if self.all_seeds is None:
            return [dict(overrides)]
        return [{**overrides, "seed": seed} for seed in self.all_seeds]

    def as_record(self) -> dict[str, Any]:
        """What was asked for, as JSON values, without the folder."""
        record = self.model_dump(include={"base", "grid", "runs", "threads"}) | {"runs": list(self.runs)}
        seeds = None if self.all_seeds is None else list(self.all_seeds)
        return record | {"seeds": seeds, "search": self.search and self.search.as_record()}


def _as_text(overrides: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in overrides.items()) or "no changes"


def make_spec(
    given: Mapping[str, Any], *, origin: str = "ModelLoop", flags: Mapping[str, Any] | None = None
) -> SweepSpec:
    """The sweep of these keys of a sweep file; None is as if a key were left out.

    Args:
        given: key -> value.
        origin: the file; every error message begins with it.
        flags: settings that overrule the base; `name` and `save_path` are the sweep's.

    Raises:
        HilumError: something cannot be used; the message lists all mistakes.
    """
    flags = dict(flags or {})
    given = {"name": "sweep"} | {key: value for key, value in given.items() if value is not None}
    given |= {key: flags.pop(key) for key in ("name", "save_path") if flags.get(key) is not None}
    problems = [*_conflicts(given, flags)]
    for key in ("name", "save_path"):
        problems += _setting_problems("", key, given[key]) if key in given else []
    try:
        if flags:
            given["base"] = _as_table(given.get("base", {})) | _as_table(flags)
        spec = _parsed(SweepSpec, given)
        if not problems:
            spec.plan_runs()
    except SettingsError as error:
        problems += error.problems
    if problems:
        count = f"{len(problems)} mistakes:\n  " if len(problems) > 1 else ""
        raise HilumError(f"{origin}: {count}" + "\n  ".join(problems))
    return spec


def _conflicts(given: Mapping[str, Any], flags: Mapping[str, Any]) -> Iterator[str]:
    """Parts of a sweep that exclude each other, whether or not each is in order."""
    searched = _mapping(_mapping(given.get("search")).get("settings"))
    varied = {"[grid]": dict(_dotted(_mapping(given.get("grid")))), "[search.settings]": searched}
    for flag, table in itertools.product(flags, varied):
        if flag in varied[table]:
            yield f"--{flag.replace('_', '-')} has no effect, because {table} gives {flag}; leave one of them out."
    if {"seeds", "repeats"} & set(given):
        runs = given["runs"] if isinstance(given.get("runs"), list | tuple) else []
        varied |= {f"[[runs]] number {number}": _mapping(run) for number, run in enumerate(runs, 1)}
        varied |= {"[base]": _mapping(given.get("base"))} if "seeds" in given else {}
        for table in (table for table, settings in varied.items() if "seed" in settings):
            yield f"{table} seed: seeds or repeats are given too; leave one of them out."
    if "seeds" in given and "repeats" in given:
        yield "seeds and repeats exclude each other; leave one of them out."
    if "search" in given and ("grid" in given or "runs" in given):
        yield "[search] chooses the settings itself; leave out [grid] and [[runs]]."
    if not {"grid", "runs", "seeds", "repeats", "search"} & set(given):
        yield "nothing varies; give [grid], [[runs]], seeds, repeats or [search]."
