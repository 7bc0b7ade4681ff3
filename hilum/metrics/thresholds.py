"""The operating point of each target: the threshold that is frozen with a run, and its scores.

A policy chooses the threshold on the validation part, at the best epoch; then it stays fixed. Chosen again on test
images, it would flatter the model. On the part that it was chosen on, an operating point looks slightly better than it
is, and the interval of its recall does not repeat the choice: the threshold stays fixed while patients are drawn. For
`recall>=0.9` the recall on new patients is below 0.9 about as often as above it.

Sources: Youden 1950, "Index for rating diagnostic tests", Cancer 3, 32-35; van Rijsbergen 1979, "Information
Retrieval", chapter 7, for F-beta.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hilum.errors import HilumError, nearest
from hilum.metrics.ranking import NAN, Ranking
from hilum.targets import canonical_target

if TYPE_CHECKING:
    from hilum.metrics.predictions import Predictions

DEFAULT_THRESHOLD = 0.5

Thresholds = None | float | Sequence[float] | Mapping[str, float] | np.ndarray
_Value = TypeVar("_Value")


def resolve_thresholds(thresholds: Thresholds, targets: Sequence[str]) -> np.ndarray:
    """One threshold per target, (T,) float64.

    Args:
        thresholds: None for 0.5 each; one number for all; one per target in their order; or a mapping by name or alias,
            where a target that is not named gets 0.5.
        targets: (T,) names.

    Raises:
        HilumError: a name that is not among the targets or is given twice, too many or too few values, or a value that
            is not a number from 0 to 1.

    >>> resolve_thresholds({"Effusion": 0.3}, ["Edema", "Pleural_Effusion"]).tolist()
    [0.5, 0.3]
    """
    if thresholds is None:
        return np.full(len(targets), DEFAULT_THRESHOLD)
    values: list[Any]
    if isinstance(thresholds, Real):
        values = [thresholds] * len(targets)
    elif isinstance(thresholds, Mapping):
        named = _by_target("target_thresholds", thresholds, targets)
        values = [named.get(target, DEFAULT_THRESHOLD) for target in targets]
    else:
        values = list(np.asarray(thresholds, dtype=object).ravel())
        if len(values) != len(targets):
            raise HilumError(
                f"target_thresholds has {len(values)} values for {len(targets)} targets "
                f"({', '.join(targets)}). Give one for each, or name them: {{{targets[0]!r}: 0.3}}."
            )
    for target, value in zip(targets, values, strict=True):
        with suppress(TypeError, ValueError):
            if 0 <= float(value) <= 1:
                continue
        raise HilumError(f"target_thresholds: {target} is {value!r}; a threshold is a number from 0 to 1.")
    return np.array(values, dtype=np.float64)


def _by_target(setting: str, values: Mapping[str, _Value], targets: Sequence[str]) -> dict[str, _Value]:
    """The values by target, which may be named by alias."""
    found: dict[str, _Value] = {}
    for name, value in values.items():
        target = name if name in targets else canonical_target(name)
        if target not in targets:
            raise HilumError(
                f"{setting}: there is no target {name!r}.{nearest(name, targets)} "
                f"The targets are {', '.join(targets)}."
            )
        if target in found:
            raise HilumError(f"{setting}: {target} is given twice. Name each target once.")
        found[target] = value
    return found


DEFAULT_POLICY = "recall>=0.9"
FIXED_POLICY = "fixed"

#: With fewer positives, intervals are too wide for a decision.
FEW_POSITIVES = 10
NEARLY_ALL = 0.95

_NUMBER = r"(\d+\.?\d*|\.\d+)"
_FORMS = {
    "recall": re.compile(rf"recall\s*>=\s*{_NUMBER}"),
    "precision": re.compile(rf"precision\s*>=\s*{_NUMBER}"),
    "fbeta": re.compile(rf"fbeta(?:\s*:\s*{_NUMBER})?"),
    "youden": re.compile("youden"),
    "fixed": re.compile("fixed"),
}
_ALLOWED = (
    "fixed (the thresholds given, or 0.5), recall>=R, precision>=P (R and P above 0 and at most 1), "
    "fbeta:B (B above 0; fbeta alone is fbeta:2), youden"
)


@dataclass(frozen=True)
class Policy:
    """How a threshold is chosen: "fixed", "recall", "precision", "fbeta" or "youden", and its value.

    The value is the recall or precision to reach, or beta; NaN for the others.
    """

    kind: str
    value: float = NAN

    def __str__(self) -> str:
        """The text that `parse_policy` reads."""
        if self.kind in ("recall", "precision"):
            return f"{self.kind}>={self.value:g}"
        return f"fbeta:{self.value:g}" if self.kind == "fbeta" else self.kind


def parse_policy(text: str) -> Policy:
    """Reads a policy.

    Raises:
        HilumError: if the text is not a policy; the message lists what is allowed.

    >>> parse_policy("recall>=0.9"), str(parse_policy("fbeta"))
    (Policy(kind='recall', value=0.9), 'fbeta:2')
    """
    folded = text.strip().lower() if isinstance(text, str) else ""
    for kind, form in _FORMS.items():
        match = form.fullmatch(folded)
        if match is None:
            continue
        if kind in ("youden", "fixed"):
            return Policy(kind)
        value = float(match[1] or 2)
        if value > 0 and (kind == "fbeta" or value <= 1):
            return Policy(kind, value)
    raise HilumError(f"threshold_policy: {text!r} is not a policy. Allowed are {_ALLOWED}.")


def resolve_policies(
    setting: str | Mapping[str, str] | None, targets: Sequence[str], manual_thresholds: bool
) -> dict[str, Policy]:
    """The policy of each target, in their order.

    Args:
        setting: one policy for all; or policies by name or alias of the target, where a target that is not named gets
            the default; or None for the default.
        targets: names.
        manual_thresholds: whether thresholds are set; the default is then "fixed", and else "recall>=0.9".

    Raises:
        HilumError: text that is not a policy, a name that is not among the targets or is given twice.
    """
    default = parse_policy(FIXED_POLICY if manual_thresholds else DEFAULT_POLICY)
    if setting is None:
        return dict.fromkeys(targets, default)
    if not isinstance(setting, Mapping):
        return dict.fromkeys(targets, parse_policy(setting))
    named = _by_target("threshold_policy", setting, targets)
    return {target: parse_policy(named[target]) if target in named else default for target in targets}


def choose_threshold(ranking: Ranking, policy: Policy | str, manual: float = DEFAULT_THRESHOLD) -> float:
    """The threshold that a policy chooses from one target's ranking.

    All policies but "fixed" choose one of the probabilities that occur, so images with one probability stay together.
    Of equally good thresholds the highest is chosen, which predicts the fewest positives.

    - "fixed": `manual`.
    - "recall>=R": the highest threshold with that recall.
    - "precision>=P": of the thresholds with that precision the one with the highest recall. If no threshold has that
      precision, the one with the highest precision.
    - "fbeta:B": the one with the highest F-beta.
    - "youden": the one with the highest recall + specificity; without negatives, the highest recall.

    Args:
        ranking: of the part to choose on.
        policy: or its text.
        manual: the threshold of "fixed", also used where no image is positive.
    """
    policy = parse_policy(policy) if isinstance(policy, str) else policy
    if policy.kind == "fixed" or not ranking.positives:
        return float(manual)
    found, reached = ranking.true_positives, ranking.true_positives + ranking.false_positives
    if policy.kind == "recall":
        # In whole images: 0.9 of 10 positives is 9, although 0.9 * 10 need not be exactly 9 in floats.
        least = int(np.ceil(policy.value * ranking.positives - 1e-9))
        place = int(np.searchsorted(found, max(least, 1)))
    elif policy.kind == "precision":
        best = _place_of_precision(ranking, policy.value)
        place = int(np.argmax(found / reached)) if best is None else best
    elif policy.kind == "fbeta":
        weight = policy.value**2
        place = int(np.argmax((1 + weight) * found / (weight * ranking.positives + reached)))
    else:
        # recall - false positive rate, times both totals: whole numbers compare exactly.
        gain = found * max(ranking.negatives, 1) - ranking.false_positives * ranking.positives
        place = int(np.argmax(gain))
    return float(ranking.thresholds[place])


def recall_at_precision(ranking: Ranking, precision: float) -> float:
    """The highest recall at any threshold with at least this precision; NaN if no threshold has it."""
    place = _place_of_precision(ranking, precision) if ranking.positives else None
    return NAN if place is None else int(ranking.true_positives[place]) / ranking.positives


def _place_of_precision(ranking: Ranking, precision: float) -> int | None:
    """The highest threshold with the highest recall among those that reach the precision."""
    found, reached = ranking.true_positives, ranking.true_positives + ranking.false_positives
    enough = np.flatnonzero(found >= precision * reached - 1e-9)
    enough = enough[found[enough] > 0]
    if not len(enough):
        return None
    return int(enough[np.searchsorted(found[enough], found[enough[-1]])])


def freeze_operating_points(
    predictions: "Predictions", policies: Mapping[str, Policy], *, replicates: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Chooses every target's threshold, and scores it on the same images.

    The text of the module explains why these scores look slightly too good. The threshold of the predictions is kept
    where the policy (by target, see `resolve_policies`) is "fixed" or no image is positive. `replicates` and `seed`
    are of the bootstrap samples of patients for the interval of the recall.

    Returns:
        By target, ready for JSON (None where undefined): `threshold`, `policy` (text), `recall`, `recall_low`,
        `recall_high` (its 95 % interval), `precision`, `specificity`, `predicted_positive_rate`, `positives`,
        `negatives`, and `notes`, see `call_outs`.
    """
    rankings = predictions.rankings
    thresholds = [
        choose_threshold(rankings[target], policies[target], manual)
        for target, manual in zip(predictions.targets, predictions.thresholds, strict=True)
    ]
    scores = predictions.with_thresholds(thresholds).bootstrap(replicates, seed)
    recall_low, recall_high = scores.interval("recall")
    values = {"recall": scores.estimate["recall"], "recall_low": recall_low, "recall_high": recall_high}
    values |= {
        name: scores.estimate[name] for name in ("precision", "specificity", "predicted_positive_rate")
    }
    points = {}
    for column, (target, ranking) in enumerate(rankings.items()):
        points[target] = {
            "threshold": thresholds[column],
            "policy": str(policies[target]),
            **{name: None if np.isnan(of[column]) else float(of[column]) for name, of in values.items()},
            "positives": ranking.positives,
            "negatives": ranking.negatives,
            "notes": call_outs(ranking, policies[target], thresholds[column]),
        }
    return points


def call_outs(ranking: Ranking, policy: Policy, threshold: float) -> list[str]:
    """Notes for the reader of an operating point, on the part that it was chosen on; usually empty."""
    counts = ranking.confusion(threshold)
    labelled = ranking.positives + ranking.negatives
    if not labelled:
        return [f"no image has a known label: the threshold stays at {threshold:g}"]
    notes = []
    if not ranking.positives:
        notes.append(f"no positives among {labelled:,} images: the threshold stays at {threshold:g}")
    elif ranking.positives < FEW_POSITIVES:
        images = "image is" if ranking.positives == 1 else "images are"
        notes.append(f"only {ranking.positives} {images} positive: the figures are uncertain")
    share = counts.predicted_positives / labelled
    if not counts.predicted_positives:
        notes.append("nothing is predicted positive")
    elif share >= NEARLY_ALL:
        notes.append(f"predicts {'all' if share == 1 else f'{share:.1%} of'} images positive")
    # precision > prevalence, in whole numbers
    no_better = counts.true_positives * labelled <= counts.positives * counts.predicted_positives
    if no_better and counts.predicted_positives and 0 < counts.positives < labelled:
        notes.append(
            f"precision {counts.precision:.3f} is not above the prevalence {counts.positives / labelled:.3f}: "
            "no better than chance"
        )
    if policy.kind == "precision" and counts.precision < policy.value - 1e-9:
        notes.append(
            f"no threshold reaches precision {policy.value:g}: the one with the highest precision is used"
        )
    return notes
