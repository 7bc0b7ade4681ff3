"""From what a sweep file says to its list of runs, every setting checked before anything starts."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hilum.config import RunConfig, setting_fields, settings_from_toml
from hilum.errors import HilumError, nearest
from hilum.sweeps.names import run_name
from hilum.sweeps.overrides import with_overrides
from hilum.sweeps.search_space import SearchSpace, read_search
from hilum.sweeps.setting_checks import admits_table, complaint, value_complaint
from hilum.sweeps.values import is_range, plain, values_of

#: The keys of a sweep file.
FILE_KEYS = ("name", "save_path", "base", "grid", "runs", "seeds", "repeats", "search", "threads")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        overrides: dotted setting -> value, where it differs from the base by the sweep's doing.
        settings: all that is given for it, as `RunConfig` takes them, without name and save_path.
        key: equal for runs with equal settings, defaults included.
    """

    name: str
    overrides: dict[str, Any]
    settings: dict[str, Any]
    key: str


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep consists of.

    Attributes:
        origin: the file it was read from, or words for where it comes from; messages begin with it.
        name: of the sweep's folder.
        save_path: the folder of that.
        base: settings that all runs have.
        grid: dotted setting -> its values; every combination is a run.
        explicit: overrides of single runs.
        seeds: each combination and each single run is repeated with these; None leaves the base's seed.
        search: what Optuna looks for, in place of grid and explicit.
        threads: of each run's process (OMP_NUM_THREADS); None leaves it to the environment.
        runs: all of them, in order; none yet if there is a search.
    """

    origin: str
    name: str
    save_path: Path
    base: dict[str, Any]
    grid: dict[str, list[Any]]
    explicit: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...] | None
    search: SearchSpace | None
    threads: int | None
    runs: tuple[PlannedRun, ...]

    @property
    def folder(self) -> Path:
        """Where the sweep lies."""
        return self.save_path / self.name

    def as_record(self) -> dict[str, Any]:
        """What was asked for, as JSON values."""
        return {
            "base": self.base,
            "grid": self.grid,
            "runs": list(self.explicit),
            "seeds": None if self.seeds is None else list(self.seeds),
            "search": None if self.search is None else self.search.as_record(),
            "threads": self.threads,
        }


def read_plan(path: str | Path, flags: Mapping[str, Any] | None = None) -> SweepPlan:
    """The plan in a TOML file.

    Args:
        path: of the file.
        flags: settings that win over its base; `name` and `save_path` are the sweep's.

    Raises:
        HilumError: the file cannot be read, or what is in it cannot be used; all mistakes are named.
    """
    path, flags = Path(path), dict(flags or {})
    given = settings_from_toml(path)
    mistakes = []
    for key in given:
        if key not in FILE_KEYS:
            where = " Settings of a run go into [base]." if key in setting_fields() else ""
            mistakes.append(f"there is no {key!r} in a sweep file.{where or nearest(key, FILE_KEYS)}")
    known = {key: value for key, value in given.items() if key in FILE_KEYS}
    known |= {key: flags.pop(key) for key in ("name", "save_path") if key in flags}
    known.setdefault("name", path.stem)
    return make_plan(**known, origin=str(path), flags=flags, mistakes=mistakes)


def make_plan(
    base: Mapping[str, Any] | RunConfig | None = None,
    *,
    grid: Mapping[str, Any] | None = None,
    runs: Sequence[Mapping[str, Any]] | None = None,
    seeds: Sequence[int] | None = None,
    repeats: int | None = None,
    search: Mapping[str, Any] | None = None,
    name: str = "sweep",
    save_path: str | Path = "runs",
    threads: int | None = None,
    origin: str = "ModelLoop",
    flags: Mapping[str, Any] | None = None,
    mistakes: Sequence[str] = (),
) -> SweepPlan:
    """The plan of the same parts as a sweep file has; `docs/sweeps.md` tells of each.

    Raises:
        HilumError: something cannot be used; all mistakes are named at once.
    """
    mistakes, flags = list(mistakes), dict(flags or {})
    base = _table("[base]", _given(base), mistakes) | flags
    for key, value in base.items():
        mistakes += complaint("[base]", key) or value_complaint("[base]", key, value)
    values = dict(_grid_values(_table("[grid]", grid or {}, mistakes), mistakes))
    explicit = _explicit_runs(runs, mistakes)
    seeds = _seeds(seeds, repeats, base, mistakes)
    space = None if search is None else read_search(_table("[search]", search, mistakes), mistakes)
    mistakes += _in_each_others_way(base, values, explicit, seeds, space, flags)
    mistakes += _of_the_whole(name, save_path, threads)
    _refuse(origin, mistakes)
    plan = SweepPlan(origin, name, Path(save_path), base, values, explicit, seeds, space, threads, runs=())
    return SweepPlan(**(vars(plan) | {"runs": _all_runs(plan)}))


def planned_run(plan: SweepPlan, overrides: Mapping[str, Any], taken: set[str]) -> PlannedRun:
    """A run with these overrides of the plan's base.

    Raises:
        HilumError: the settings cannot go together.
    """
    settings = with_overrides(plan.base, overrides)
    record = RunConfig(**settings).as_record()
    key = json.dumps({name: value for name, value in record.items() if name not in ("name", "save_path")})
    return PlannedRun(run_name(plan.name, overrides, taken), dict(overrides), settings, key)


def repeated(plan: SweepPlan, overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The overrides once for each of the plan's seeds."""
    if plan.seeds is None:
        return [dict(overrides)]
    return [{**overrides, "seed": seed} for seed in plan.seeds]


def _all_runs(plan: SweepPlan) -> tuple[PlannedRun, ...]:
    if plan.search is not None:
        return ()
    combinations = [
        dict(zip(plan.grid, combination, strict=True))
        for combination in itertools.product(*plan.grid.values())
    ]
    if plan.explicit and not plan.grid:
        combinations = []
    mistakes, taken, by_key = [], set(), {}
    for overrides in [*combinations, *plan.explicit]:
        for each in repeated(plan, overrides):
            try:
                run = planned_run(plan, each, taken)
            except HilumError as error:
                mistakes.append(f"the run with {_in_words(each)}: {error}")
                continue
            first = by_key.setdefault(run.key, run)
            if first is not run:
                mistakes.append(
                    f"the same run twice: {_in_words(first.overrides)} and {_in_words(each)} have the same settings."
                )
    _refuse(plan.origin, mistakes)
    return tuple(by_key.values())


def _given(base: Any) -> Any:
    if isinstance(base, RunConfig):
        record = base.as_record()
        return {name: record[name] for name in record if name in base.given and record[name] is not None}
    return {} if base is None else base


def _table(name: str, given: Any, mistakes: list[str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        mistakes.append(f"{name} must be a table of settings, and is {given!r}.")
        return {}
    return {str(key): _json_value(value) for key, value in given.items()}


def _json_value(value: Any) -> Any:
    """Python's paths, tuples and NumPy's numbers as what a TOML file would have given."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return plain(value)
    return [_json_value(item) for item in value]


def _grid_values(grid: Mapping[str, Any], mistakes: list[str]) -> Iterator[tuple[str, list[Any]]]:
    for key, given in _flat(grid):
        wrong = complaint("[grid]", key)
        if wrong:
            mistakes += wrong
            continue
        try:
            values = values_of(given)
        except HilumError as error:
            mistakes.append(f"[grid] {key}: {error}")
            continue
        wrong = [words for value in values for words in value_complaint("[grid]", key, value)]
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            wrong.append(
                f"[grid] {key}: the value {twice[0]!r} is there twice; it would be the same run twice."
            )
        mistakes += wrong
        yield key, values


def _flat(grid: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Tables of settings that are tables themselves, as dotted keys; ranges and lists as they are."""
    for key, given in grid.items():
        nested = isinstance(given, Mapping) and not is_range(given)
        if nested and admits_table(key):
            for inner, values in _flat_below(given):
                yield f"{key}.{inner}", values
        else:
            yield key, given


def _flat_below(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, given in table.items():
        if isinstance(given, Mapping) and not is_range(given):
            for inner, values in _flat_below(given):
                yield f"{key}.{inner}", values
        else:
            yield key, given


def _explicit_runs(runs: Any, mistakes: list[str]) -> tuple[dict[str, Any], ...]:
    if runs is None:
        return ()
    if isinstance(runs, str | Mapping) or not isinstance(runs, Sequence) or not runs:
        mistakes.append(f"runs must be a list of tables, [[runs]] in a file, at least one; it is {runs!r}.")
        return ()
    tables = [_table(_run_number(place), run, mistakes) for place, run in enumerate(runs, 1)]
    for place, table in enumerate(tables, 1):
        for key, value in table.items():
            where = _run_number(place)
            mistakes += complaint(where, key) or value_complaint(where, key, value)
    return tuple(tables)


def _run_number(place: int) -> str:
    return f"[[runs]] number {place}"


def _seeds(seeds: Any, repeats: Any, base: Mapping[str, Any], mistakes: list[str]) -> tuple[int, ...] | None:
    if seeds is not None and repeats is not None:
        mistakes.append("seeds and repeats say the same thing twice; leave one of them out.")
        return None
    if repeats is not None:
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            mistakes.append(f"repeats is {repeats!r}; it must be a whole number from 1 on.")
            return None
        first = base.get("seed", 0)
        return tuple(range(first, first + repeats)) if isinstance(first, int) else None
    if seeds is None:
        return None
    try:
        values = values_of(seeds)
    except HilumError as error:
        mistakes.append(f"seeds: {error}")
        return None
    before = len(mistakes)
    mistakes += [words for seed in values for words in value_complaint("seeds, as", "seed", seed)]
    mistakes += [
        f"seeds: {seed!r} is there twice; it would be the same run twice."
        for place, seed in enumerate(values)
        if seed in values[:place]
    ]
    if "seed" in base:
        mistakes.append("[base] seed does nothing where seeds are given; leave one of them out.")
    return tuple(values) if len(mistakes) == before else None


def _in_each_others_way(
    base: Mapping[str, Any],
    grid: Mapping[str, Any],
    explicit: Sequence[Mapping[str, Any]],
    seeds: tuple[int, ...] | None,
    search: SearchSpace | None,
    flags: Mapping[str, Any],
) -> Iterator[str]:
    fixed = {"[grid]": grid, "[search.settings]": search.parameters if search else {}}
    varied = fixed | {_run_number(place): run for place, run in enumerate(explicit, 1)}
    for table, settings in varied.items():
        if seeds is not None and "seed" in settings:
            yield f"{table} seed: seeds or repeats are given too; leave one of them out."
        for key in flags:
            if key in settings and table in fixed:
                yield f"--{key.replace('_', '-')} does nothing, because {table} gives {key}; leave one of them out."
    if search is not None and (grid or explicit):
        yield "[search] chooses the settings itself; leave out [grid] and [[runs]]."
    if not (grid or explicit or seeds or search):
        yield "nothing varies; give [grid], [[runs]], seeds, repeats or [search]."


def _of_the_whole(name: Any, save_path: Any, threads: Any) -> Iterator[str]:
    for key, value in (("name", name), ("save_path", save_path)):
        try:
            RunConfig(**{key: value})
        except HilumError as error:
            yield f"{key}: {str(error).removeprefix(f'Setting {key}: ')}"
    if name is None:
        yield "name: the sweep's folder needs a name."
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        yield f"threads is {threads!r}; it must be a whole number from 1 on."


def _in_words(overrides: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in overrides.items()) or "no changes"


def _refuse(origin: str, mistakes: Sequence[str]) -> None:
    mistakes = list(dict.fromkeys(mistakes))
    if len(mistakes) == 1:
        raise HilumError(f"{origin}: {mistakes[0]}")
    if mistakes:
        raise HilumError(f"{origin}: {len(mistakes)} mistakes:\n  " + "\n  ".join(mistakes))
