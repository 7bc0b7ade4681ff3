"""The result of a comparison of runs, as dataclasses that are read, drawn and written as JSON.

A *change* is a setting, a data set or a version that is not the same in two runs. A *difference* is a score of B
minus that of A. A *claim* is what the differences show, about these models or about the settings. A *flip* is an
image that one model predicts right and the other wrong.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic_core import to_jsonable_python

from hilum.config import DEFAULTS, LabelSettings
from hilum.metrics.comparison import ScoreDifference
from hilum.report.format import format_setting
from hilum.run_folder import RunFolder

#: Of the record in `hilum compare --json` and of /v1/comparison.
RECORD_FORMAT = 2

#: Name of the mean in tables and figures of targets.
MEAN = "Mean of the targets"

SAME_IMAGES = "same images"
PAIRS_BY_SEED = "pairs by seed"

#: How the predictions of an image can flip from A to B, the most serious first.
FLIP_KINDS = ("new_false_negative", "new_false_positive", "fixed_false_negative", "fixed_false_positive")

#: Settings that cannot change a score: of names, output, speed, warnings and checks.
WITHOUT_EFFECT = (
    *("name", "save_path", "quiet", "epoch_args", "loggers", "mlflow_uri"),
    *("num_workers", "check_images", "strict_leaks", "balance_tolerance"),
)

#: Settings that determine the split; where one of them changed, another split is not a cause of its own.
SPLIT_SETTINGS = (
    *("source", "source_kwargs", "target_columns", "number_images", "pack"),
    *("val_fraction", "test_fraction", "split_unit", "split_file", "official_split", "seed"),
)


@dataclass(frozen=True)
class Change:
    """One thing that is not the same in two runs; values are JSON values, None where a run does not have it."""

    name: str
    reference: Any
    other: Any


@dataclass(frozen=True)
class Changes:
    """All that is not the same in two runs: the possible causes of a difference between their scores.

    Attributes:
        groups: by group (settings, data, split, labels, code, packages, machine); only those that changed.
        seeds_only: whether nothing changed but the seed, and the split if the seed draws it.
        statement: what can be concluded from it.
    """

    groups: dict[str, tuple[Change, ...]]
    seeds_only: bool
    statement: str


@dataclass(frozen=True)
class RunSummary:
    """One run of a side."""

    name: str
    path: str
    seed: int
    best_epoch: int
    status: str


@dataclass(frozen=True)
class Side:
    """A run, or several that differ only in the seed; A is the reference, `name` that of the first run."""

    letter: str
    name: str
    runs: tuple[RunSummary, ...]


@dataclass(frozen=True)
class ComparedImages:
    """The validation images that the scores are computed on.

    Attributes:
        images, patients: their numbers; for pairs by seed, those in any pair.
        design: "same images" for all runs, or "pairs by seed" where the seeds of a side have different validation
            images: then the runs of both sides with the same seed are a pair.
        pairs: for pairs by seed: the seed, the names of the two runs, their images and patients.
        only_reference, only_other: number of images that only this side evaluated; they are left out.
        mismatched: number of images left out: their ImageID belongs to another patient or file in the other run.
        labels_left_out: target to the number of images left out: their label is not the same in all runs.
    """

    images: int
    patients: int
    design: str
    pairs: tuple[dict[str, Any], ...]
    only_reference: int
    only_other: int
    mismatched: int
    labels_left_out: dict[str, int]


@dataclass(frozen=True)
class Claim:
    """What the differences of the scores show, under one of two meanings of "B is better than A".

    Attributes:
        about: "models": these trained models, on other patients; or "settings": models trained with these settings
            and other seeds, on other patients.
        available, reason: whether the claim can be made, and why not.
        statement: what the claim is about.
        mean: score to the difference of the mean over the targets.
        targets: target to score to difference, with p-values adjusted over the targets for each score.
    """

    about: str
    available: bool
    reason: str | None
    statement: str
    mean: dict[str, ScoreDifference]
    targets: dict[str, dict[str, ScoreDifference]]

    def target_count(self, score: str) -> int:
        """The number of targets that the mean of a score is over: those with the score on both sides."""
        return sum(differences[score].is_defined for differences in self.targets.values())

    def as_table(self) -> pd.DataFrame:
        """One row per target and score, the mean first: `target`, `score` and the fields of `ScoreDifference`."""
        return pd.DataFrame(
            {"target": target, "score": score} | vars(difference)
            for target, differences in ({MEAN: self.mean} | self.targets).items()
            for score, difference in differences.items()
        )


@dataclass(frozen=True)
class Flip:
    """An image that one model predicts right and the other wrong, each at its frozen operating point."""

    image_id: int
    patient_id: int | str
    label: int
    reference_probability: float
    other_probability: float
    kind: str

    @property
    def sort_key(self) -> tuple[int, float, int]:
        """By kind in the order of `FLIP_KINDS`, then the largest change of probability first."""
        change = abs(self.other_probability - self.reference_probability)
        return FLIP_KINDS.index(self.kind), -change, self.image_id


@dataclass(frozen=True)
class Flips:
    """The images that flip between two models, one of each side.

    Attributes:
        reference_run, other_run: the names of A's and B's run: the first with the same seed, else the first.
        counts: target to kind (of `FLIP_KINDS`) to the number of images.
        images: target to all flips, sorted by `Flip.sort_key`.
    """

    reference_run: str
    other_run: str
    counts: dict[str, dict[str, int]]
    images: dict[str, tuple[Flip, ...]]


@dataclass(frozen=True)
class SideComparison:
    """One side compared with the reference.

    Attributes:
        reference, other: side A, and the side compared with it.
        changes: what is not the same, apart from the scores.
        images: what the scores are computed on.
        targets: the compared targets, in A's order.
        targets_left_out: any other target to the reason.
        operating_points: target to side's letter to `thresholds` and `policies`, lists with one entry per run.
        about_models, about_settings: the claims.
        flips: the images that flip between one model of each side.
        callouts: what a reader must not miss.
        notes: how the comparison was made.
    """

    reference: Side
    other: Side
    changes: Changes
    images: ComparedImages
    targets: tuple[str, ...]
    targets_left_out: dict[str, str]
    operating_points: dict[str, dict[str, dict[str, list[Any]]]]
    about_models: Claim
    about_settings: Claim
    flips: Flips
    callouts: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def widest_claim(self) -> Claim:
        """The claim about the settings where it can be made, else the one about the models."""
        return self.about_settings if self.about_settings.available else self.about_models


@dataclass(frozen=True)
class Comparison:
    """Runs compared with a reference.

    Attributes:
        reference: side A.
        comparisons: one for each of the other sides.
        replicates, seed: number of bootstrap samples of the patients, and their seed.
        notes: how the runs were grouped.
    """

    reference: Side
    comparisons: tuple[SideComparison, ...]
    replicates: int
    seed: int
    notes: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """The comparison as JSON values, with its format version; numbers that do not exist are None."""
        return {"format": RECORD_FORMAT} | to_jsonable_python(self, inf_nan_mode="null")


def find_changes(reference: RunFolder, other: RunFolder, *, repeated: bool = False) -> Changes:
    """What is not the same in two runs; if each represents its repeats over seeds, the seed is not a change."""
    groups = {
        group: tuple(
            Change(name, ours.get(name), theirs.get(name))
            for name in ours | theirs
            if ours.get(name) != theirs.get(name)
        )
        for (group, ours), theirs in zip(
            _described(reference).items(), _described(other).values(), strict=True
        )
    }
    causes = _causes(groups)
    if repeated:
        causes = [name for name in causes if name != "seed"]
        groups["settings"] = tuple(change for change in groups["settings"] if change.name != "seed")
    groups = {group: changes for group, changes in groups.items() if changes}
    return Changes(groups, causes == ["seed"], _statement(groups, causes))


def repeats_key(run: RunFolder) -> str:
    """A text that is equal for runs that are repeats of each other: equal in all that matters but the seed."""
    compared: dict[str, Any] = {**_described(run), "targets": run.targets}
    del compared["settings"]["seed"]
    # The seed draws the split, and a machine changes the last bits of a sum.
    del compared["split"], compared["machine"]
    return json.dumps(compared, sort_keys=True)


def _described(run: RunFolder) -> dict[str, dict[str, Any]]:
    """All that can change, by group and name, in the order shown.

    A setting that an older run does not have gets today's default; anything else that it did not record is None.
    """
    record, settings = run.record, DEFAULTS.as_record() | run.settings
    other_groups = {*WITHOUT_EFFECT, *LabelSettings.model_fields, "device"}
    catalog, split = record.get("catalog") or {}, record.get("split") or {}
    versions, device = record.get("versions") or {}, record.get("device") or {}
    return {
        "settings": {name: value for name, value in settings.items() if name not in other_groups}
        | {"own_net": record.get("own_net")},
        "data": {"name": catalog.get("name"), "fingerprint": catalog.get("fingerprint")},
        "split": {"fingerprint": split.get("fingerprint")},
        "labels": {name: settings.get(name) for name in LabelSettings.model_fields},
        "code": {"git_commit": record.get("git_commit"), "hilum": versions.get("hilum")},
        "packages": {name: version for name, version in versions.items() if name != "hilum"},
        "machine": {name: device.get(name) for name in ("type", "name", "threads")}
        | {"platform": record.get("platform")},
    }


def _causes(groups: Mapping[str, Sequence[Change]]) -> list[str]:
    """The names of all possible causes; code, packages and machine count as one each."""
    names = [change.name for change in groups["settings"]]
    if groups["data"] and not {"source", "source_kwargs"} & set(names):
        names.append("data")
    if groups["split"] and not {"data", *SPLIT_SETTINGS} & set(names):
        names.append("split")
    names += [change.name for change in groups["labels"]]
    return names + [group for group in ("code", "packages", "machine") if groups[group]]


def _statement(groups: Mapping[str, Sequence[Change]], causes: Sequence[str]) -> str:
    if not causes:
        return "Nothing that could matter differs between the runs."
    if len(causes) > 1:
        return (
            f"{len(causes)} things differ ({', '.join(causes)}), so no single cause can be claimed "
            "for a difference in the scores."
        )
    if causes == ["seed"]:
        drawn = " and the split that it draws differ" if "split" in groups else " differs"
        return f"Only the seed{drawn}: a difference in the scores shows how much such runs vary."
    for change in (*groups.get("settings", ()), *groups.get("labels", ())):
        if change.name == causes[0]:
            values = f"{format_setting(change.reference)} → {format_setting(change.other)}"
            return f"One thing differs: {change.name}, {values}."
    return f"One thing differs: the {causes[0]}."
