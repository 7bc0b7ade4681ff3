"""What a comparison of runs found, as a tree that can be read, drawn and written as JSON."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from hilum.metrics.comparison import ScoreDifference
from hilum.report.differences import Differences

SAME_IMAGES = "same images"
PAIRS_BY_SEED = "pairs by seed"

#: How the predictions of an image can flip, the gravest first.
FLIP_KINDS = (
    "new_false_negative",
    "new_false_positive",
    "mended_false_negative",
    "mended_false_positive",
)


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
    """A run, or several that differ in nothing but the seed.

    Attributes:
        letter: A is the reference.
        name: of its first run.
        runs: its runs, in the order given.
    """

    letter: str
    name: str
    runs: tuple[RunSummary, ...]


@dataclass(frozen=True)
class ImagesCompared:
    """The images that the scores are taken on: validation images of the runs compared.

    Attributes:
        images: how many; of pairs by seed, in any pair.
        patients: how many these are of.
        design: "same images" for all runs, or "pairs by seed" where the seeds of a side have evaluated
            different images: then the runs of both sides with the same seed are a pair.
        pairs: of pairs by seed: the seed, the two runs' names, their images and patients.
        only_reference: images that were evaluated by the reference side alone, and are left out.
        only_other: by the other side alone.
        other_patients: images left out as their ImageID is another patient's, or another file's, in the
            other run.
        labels_left_out: target to how many images have another label in one run than in the other; they
            are left out for that target.
    """

    images: int
    patients: int
    design: str
    pairs: tuple[dict[str, Any], ...]
    only_reference: int
    only_other: int
    other_patients: int
    labels_left_out: dict[str, int]


@dataclass(frozen=True)
class Claim:
    """What can be said about the scores, under one of two meanings of "B is better than A".

    Attributes:
        about: "models": these trained models, on other patients. "settings": models that would be trained
            with these settings and other seeds, on other patients.
        available: whether it can be made at all.
        reason: why not.
        statement: what it speaks of, in a sentence.
        mean: score to the difference of the mean over the targets.
        targets: target to score to difference, p-values adjusted over the targets for each score.
    """

    about: str
    available: bool
    reason: str | None
    statement: str
    mean: dict[str, ScoreDifference]
    targets: dict[str, dict[str, ScoreDifference]]

    def targets_with(self, score: str) -> int:
        """How many targets have the score on both sides, in two patients or more: what its mean is over."""
        return sum(of_target[score].is_defined for of_target in self.targets.values())


@dataclass(frozen=True)
class Flip:
    """An image that one model predicts right and the other wrong, each at its frozen operating point."""

    image_id: int
    patient_id: int | str
    label: int
    reference_probability: float
    other_probability: float
    kind: str


@dataclass(frozen=True)
class Flips:
    """The images that flipped between two models, one of each side.

    Attributes:
        reference_run: the name of A's model: of equal seed if there is one, else the first.
        other_run: the name of B's.
        counts: target to kind (of `FLIP_KINDS`) to how many.
        images: target to all of them, false negatives of B first, then by change of probability.
    """

    reference_run: str
    other_run: str
    counts: dict[str, dict[str, int]]
    images: dict[str, tuple[Flip, ...]]


@dataclass(frozen=True)
class SideComparison:
    """One side beside the reference.

    Attributes:
        reference: side A.
        other: the side compared with it.
        differences: what differs but the scores.
        images: what the scores are taken on.
        targets: that are compared, in A's order.
        targets_left_out: target to why.
        points: target to side's letter to `thresholds` and `policies`, a list each with one per run.
        about_models: the claim about these trained models.
        about_settings: the claim about the settings.
        flips: images predicted otherwise.
        callouts: what a reader should not miss, a sentence each.
        notes: how the comparison was made, a sentence each.
    """

    reference: Side
    other: Side
    differences: Differences
    images: ImagesCompared
    targets: tuple[str, ...]
    targets_left_out: dict[str, str]
    points: dict[str, dict[str, dict[str, list[Any]]]]
    about_models: Claim
    about_settings: Claim
    flips: Flips
    callouts: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def widest_claim(self) -> Claim:
        """The claim about the settings where it can be made, else that about the models."""
        return self.about_settings if self.about_settings.available else self.about_models


@dataclass(frozen=True)
class Comparison:
    """Runs compared with a reference.

    Attributes:
        reference: side A.
        comparisons: one for each of the other sides.
        replicates: samples of the patients.
        seed: of these samples.
        notes: how the runs were grouped, a sentence each.
    """

    reference: Side
    comparisons: tuple[SideComparison, ...]
    replicates: int
    seed: int
    notes: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """The same tree as JSON values; numbers that do not exist are None."""
        return _json_value(self)


def gravest_first(flip: Flip) -> tuple[int, float, int]:
    """Sorts flipped images: by kind as in `FLIP_KINDS`, the largest change of probability first."""
    change = abs(flip.other_probability - flip.reference_probability)
    return FLIP_KINDS.index(flip.kind), -change, flip.image_id


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
