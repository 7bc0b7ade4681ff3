"""A sweep that goes on must be the sweep that was begun: what is another in its file, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

from hilum.errors import HilumError
from hilum.sweeps.plan import SweepPlan


def refuse_changes(before: Mapping[str, Any], plan: SweepPlan, keys: set[str]) -> None:
    """Raises unless all runs of a sweep are still asked for; more of them are fine.

    Args:
        before: `SweepPlan.as_record` of the sweep as it was begun.
        plan: what is asked for now.
        keys: of the runs that there are.

    Raises:
        HilumError: a run would go or be another. The message names what changed.
    """
    now = plan.as_record()
    changed = list(_changes_of_the_whole(before, now))
    if plan.search is None and not keys <= {run.key for run in plan.runs}:
        changed += _changes_of_tables(before, now) or [
            "the default of a setting, by another version of Hilum"
        ]
    elif plan.search is not None:
        changed += _changes_of_tables(before, now)
    if changed:
        raise HilumError(
            f"{plan.origin}: the sweep in {plan.folder} was begun otherwise: {'; '.join(changed)}. "
            "Only runs may be added. Set it back, or give the sweep another name."
        )


def _changes_of_the_whole(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if before["threads"] != now["threads"]:
        yield f"threads was {before['threads']}, is {now['threads']}"
    searched, searches = before["search"], now["search"]
    if (searched is None) != (searches is None):
        yield f"[search] was {'not there' if searched is None else 'there'}"
    elif searched is not None:
        for name, value in searched.items():
            if name == "trials" and searches["trials"] >= value:
                continue
            yield from _differing(f"[search] {name}", value, searches.get(name))


def _changes_of_tables(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name in {**before["base"], **now["base"]}:
        found += _differing(f"[base] {name}", before["base"].get(name), now["base"].get(name))
    for name in {**before["grid"], **now["grid"]}:
        old, new = before["grid"].get(name), now["grid"].get(name)
        if old is None or new is None:
            found.append(f"[grid] {name} was {'not there' if old is None else f'{old}, and is gone'}")
        else:
            gone = [value for value in old if value not in new]
            found += [f"[grid] {name} no longer has {', '.join(map(repr, gone))}"] if gone else []
    found += [f"[[runs]] no longer has {run}" for run in before["runs"] if run not in now["runs"]]
    old, new = before["seeds"], now["seeds"]
    if old is None or new is None:
        found += _differing("seeds", old, new)
    else:
        gone = [seed for seed in old if seed not in new]
        found += [f"seeds no longer has {', '.join(map(str, gone))}"] if gone else []
    return found


def _differing(name: str, old: Any, new: Any) -> list[str]:
    if old == new:
        return []
    return [
        f"{name} was {'not there' if old is None else repr(old)}, is {'gone' if new is None else repr(new)}"
    ]
