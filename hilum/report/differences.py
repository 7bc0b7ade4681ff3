"""What differs between runs, apart from how they score: the possible causes of a difference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.config import DEFAULTS
from hilum.report.terminal import in_words
from hilum.run_folder import RunFolder

#: Settings that no score can depend on: they name the run, show it, feed it faster, warn, or refuse to begin.
WITHOUT_EFFECT = (
    "name",
    "save_path",
    "quiet",
    "epoch_args",
    "num_workers",
    "loggers",
    "mlflow_uri",
    "check_images",
    "strict_leaks",
    "balance_tolerance",
)

#: Settings of how labels are made of what the data set says.
LABEL_SETTINGS = ("uncertain_policy", "blank_policy", "eval_uncertain_policy", "eval_blank_policy")

#: Settings that the split follows from; where one of them differs, another split is no cause of its own.
SPLIT_SETTINGS = (
    "source",
    "source_kwargs",
    "target_columns",
    "number_images",
    "val_fraction",
    "test_fraction",
    "split_unit",
    "split_file",
    "official_split",
    "pack",
    "seed",
)

#: Settings that say on what the run was computed, in part in the group `machine` as it turned out.
MACHINE_SETTINGS = ("device",)

#: What can differ, in the order shown.
GROUPS = ("settings", "data", "split", "labels", "code", "packages", "machine")

#: Groups that need not be equal for two runs to be repeats: the seed draws the split, and a machine
#: changes the last bits of a sum.
_APART_FROM_REPEATS = ("split", "machine")


@dataclass(frozen=True)
class Changed:
    """One thing that differs; values are JSON values, None where a run does not have it."""

    name: str
    reference: Any
    other: Any


@dataclass(frozen=True)
class Differences:
    """What differs between two sides.

    Attributes:
        groups: those of `GROUPS` in which something differs, in that order.
        seeds_only: nothing differs but the seed, and the split if the seed draws it.
        statement: what can be concluded from it, in a sentence.
    """

    groups: dict[str, tuple[Changed, ...]]
    seeds_only: bool
    statement: str


def differences(reference: RunFolder, other: RunFolder, *, repeated: bool = False) -> Differences:
    """What differs between two runs.

    Args:
        reference: the run that the other is compared with.
        other: the other run.
        repeated: each run stands for its repeats over seeds, so that the seed is no difference.
    """
    ours, theirs = _described(reference), _described(other)
    found = {
        group: tuple(
            Changed(name, ours[group].get(name), theirs[group].get(name))
            for name in dict.fromkeys([*ours[group], *theirs[group]])
            if ours[group].get(name) != theirs[group].get(name)
        )
        for group in GROUPS
    }
    found = {group: changes for group, changes in found.items() if changes}
    causes = _causes(found)
    if repeated:
        causes = [name for name in causes if name != "seed"]
        found["settings"] = tuple(change for change in found.get("settings", ()) if change.name != "seed")
        found = {group: changes for group, changes in found.items() if changes}
    return Differences(found, causes == ["seed"], _statement(found, causes))


def repeats_key(run: RunFolder) -> str:
    """Equal for runs that are repeats of each other: all that can matter is equal but the seed."""
    described = _described(run)
    compared = {group: described[group] for group in GROUPS if group not in _APART_FROM_REPEATS}
    compared["settings"] = {name: value for name, value in compared["settings"].items() if name != "seed"}
    return json.dumps(compared | {"targets": run.targets}, sort_keys=True)


def _described(run: RunFolder) -> dict[str, dict[str, Any]]:
    """All that can differ, by group and name.

    A setting that an older run did not have yet is taken to have been what is the default now; whatever
    else it did not record is None.
    """
    record, settings = run.record, DEFAULTS.as_record() | run.settings
    apart = {*WITHOUT_EFFECT, *LABEL_SETTINGS, *MACHINE_SETTINGS}
    catalog, split = record.get("catalog") or {}, record.get("split") or {}
    versions, device = record.get("versions") or {}, record.get("device") or {}
    return {
        "settings": {name: value for name, value in settings.items() if name not in apart}
        | {"own_net": record.get("own_net")},
        "data": {"name": catalog.get("name"), "fingerprint": catalog.get("fingerprint")},
        "split": {"fingerprint": split.get("fingerprint")},
        "labels": {name: settings.get(name) for name in LABEL_SETTINGS},
        "code": {"git_commit": record.get("git_commit"), "hilum": versions.get("hilum")},
        "packages": {name: version for name, version in versions.items() if name != "hilum"},
        "machine": {name: device.get(name) for name in ("type", "name", "threads")}
        | {"platform": record.get("platform")},
    }


def _causes(found: Mapping[str, Sequence[Changed]]) -> list[str]:
    """The names of all that could be the cause; code, packages and machine count as one thing each."""
    names = [change.name for change in found.get("settings", ())]
    if "data" in found and not {"source", "source_kwargs"} & set(names):
        names.append("data")
    if "split" in found and not {"data", *SPLIT_SETTINGS} & set(names):
        names.append("split")
    names += [change.name for change in found.get("labels", ())]
    return names + [group for group in ("code", "packages", "machine") if group in found]


def _statement(found: Mapping[str, Sequence[Changed]], causes: Sequence[str]) -> str:
    if not causes:
        return "Nothing differs between the runs that could matter."
    if len(causes) > 1:
        return (
            f"{len(causes)} things differ ({', '.join(causes)}), so no single cause can be claimed "
            "for a difference in the scores."
        )
    if causes == ["seed"]:
        drawn = ", and the split that it draws" if "split" in found else ""
        return (
            f"Nothing but the seed differs{drawn}: any difference in the scores is how much such runs vary."
        )
    for changes in found.values():
        for change in changes:
            if change.name == causes[0]:
                words = f"{in_words(change.reference)} → {in_words(change.other)}"
                return f"One thing differs: {change.name}, {words}."
    return f"One thing differs: the {causes[0]}."
