"""The operating point of each target: the threshold that is frozen with a run, and what it is worth.

A model is read at a threshold. It is chosen by a policy on the validation part, at the best epoch, and then left
alone: chosen again on test images, it would flatter the model. On the part that it was chosen on, an operating
point looks slightly better than it is, and the interval of its recall does not repeat the choice: the threshold
is held as it is while patients are drawn. For `recall>=0.9` the recall on new patients is below 0.9 about as
often as above it.

Sources: Youden 1950, "Index for rating diagnostic tests", Cancer 3, 32-35; van Rijsbergen 1979, "Information
Retrieval", chapter 7, for F-beta.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from hilum.errors import HilumError, nearest
from hilum.metrics.bootstrap import score_replicates
from hilum.metrics.ranking import NAN, Confusion, Ranking, rank
from hilum.targets import canonical_target

DEFAULT_THRESHOLD = 0.5

Thresholds = None | float | Sequence[float] | Mapping[str, float] | np.ndarray


def resolve_thresholds(thresholds: Thresholds, targets: Sequence[str]) -> np.ndarray:
    """One threshold per target, (T,) float64.

    Args:
        thresholds: None for 0.5 each; one number for all; one per target in their order; or a mapping by
            name or alias, where a target that is not named gets 0.5.
        targets: (T,) names.

    Raises:
        HilumError: a name that is not among the targets or is given twice, too many or too few values,
            or one that is not a number from 0 to 1.

    >>> resolve_thresholds({"Effusion": 0.3}, ["Edema", "Pleural_Effusion"]).tolist()
    [0.5, 0.3]
    """
    if thresholds is None:
        return np.full(len(targets), DEFAULT_THRESHOLD)
    if isinstance(thresholds, Real):
        values = [thresholds] * len(targets)
    elif isinstance(thresholds, Mapping):
        by_target = _by_target(thresholds, targets)
        values = [by_target.get(target, DEFAULT_THRESHOLD) for target in targets]
    else:
        values = list(thresholds)
        if len(values) != len(targets):
            raise HilumError(
                f"target_thresholds has {len(values)} values for {len(targets)} targets "
                f"({', '.join(targets)}). Give one for each, or name them: {{{targets[0]!r}: 0.3}}."
            )
    for target, value in zip(targets, values, strict=True):
        if not _is_probability(value):
            raise HilumError(
                f"target_thresholds: {target} is {value!r}; a threshold is a number from 0 to 1."
            )
    return np.array(values, dtype=np.float64)


def _by_target(thresholds: Mapping[str, float], targets: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in thresholds.items():
        target = name if name in targets else canonical_target(name)
        if target not in targets:
            raise HilumError(
                f"target_thresholds: there is no target {name!r}.{nearest(name, targets)} "
                f"The targets are {', '.join(targets)}."
            )
        if target in found:
            raise HilumError(f"target_thresholds: {target} is given twice. Name each target once.")
        found[target] = value
    return found


def _is_probability(value: object) -> bool:
    try:
        return 0 <= float(value) <= 1  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


DEFAULT_POLICY = "recall>=0.9"
FIXED_POLICY = "fixed"

#: Intervals of fewer positives are too wide to decide by.
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
    """How a threshold is chosen.

    Attributes:
        kind: "fixed", "recall", "precision", "fbeta" or "youden".
        value: the recall or precision to reach, or beta; NaN for the others.
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
        HilumError: text that is no policy; the message lists what is allowed.

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
    raise HilumError(f"threshold_policy: {text!r} is no policy. Allowed are {_ALLOWED}.")


def resolve_policies(
    setting: str | Mapping[str, str] | None, targets: Sequence[str], hand_thresholds_given: bool
) -> dict[str, Policy]:
    """The policy of each target, in their order.

    Args:
        setting: one policy for all; or policies by name or alias of the target, the others having the
            default; or None for the default.
        targets: names.
        hand_thresholds_given: the default is then "fixed", and "recall>=0.9" otherwise.

    Raises:
        HilumError: text that is no policy, a name that is not among the targets or is given twice.
    """
    default = parse_policy(FIXED_POLICY if hand_thresholds_given else DEFAULT_POLICY)
    if setting is None:
        return dict.fromkeys(targets, default)
    if not isinstance(setting, Mapping):
        return dict.fromkeys(targets, parse_policy(setting))
    named: dict[str, Policy] = {}
    for name, text in setting.items():
        target = name if name in targets else canonical_target(name)
        if target not in targets:
            raise HilumError(
                f"threshold_policy: there is no target {name!r}.{nearest(name, targets)} "
                f"The targets are {', '.join(targets)}."
            )
        if target in named:
            raise HilumError(f"threshold_policy: {target} is given twice. Name each target once.")
        named[target] = parse_policy(text)
    return {target: named.get(target, default) for target in targets}


def choose_threshold(ranking: Ranking, policy: Policy | str, hand: float = DEFAULT_THRESHOLD) -> float:
    """The threshold that a policy picks from one target's ranking.

    All but "fixed" pick one of the probabilities that occur, so that it is the same number at their
    precision and images with one probability stay together.

    - "fixed": `hand`.
    - "recall>=R": the highest threshold with that recall.
    - "precision>=P": of the thresholds with that precision the one with the highest recall. If there is
      none, the one with the highest precision: it is as near as the model comes.
    - "fbeta:B": the one with the highest F-beta.
    - "youden": the one with the highest recall + specificity; without negatives, the highest recall.

    Of equally good thresholds the highest is taken, which predicts the fewest positives.

    Args:
        ranking: of the part to choose on.
        policy: or its text.
        hand: the threshold given by hand, also used where there is no positive to choose by.
    """
    policy = parse_policy(policy) if isinstance(policy, str) else policy
    if policy.kind == "fixed" or not ranking.positives:
        return float(hand)
    found, reached = ranking.true_positives, ranking.true_positives + ranking.false_positives
    if policy.kind == "recall":
        # In whole images: 0.9 of 10 positives is 9, although 0.9 * 10 need not be exactly 9 in floats.
        wanted = int(np.ceil(policy.value * ranking.positives - 1e-9))
        place = int(np.searchsorted(found, max(wanted, 1)))
    elif policy.kind == "precision":
        place = _place_of_precision(ranking, policy.value)
        place = int(np.argmax(found / reached)) if place is None else place
    elif policy.kind == "fbeta":
        weight = policy.value**2
        place = int(np.argmax((1 + weight) * found / (weight * ranking.positives + reached)))
    else:
        # recall - false positive rate, times both totals: whole numbers compare exactly.
        gain = found * max(ranking.negatives, 1) - ranking.false_positives * ranking.positives
        place = int(np.argmax(gain))
    return float(ranking.thresholds[place])


def recall_at_precision(ranking: Ranking, precision: float) -> float:
    """The highest recall at a threshold with at least this precision; NaN if no threshold has it."""
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
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    targets: Sequence[str],
    policies: Mapping[str, Policy],
    hand_thresholds: Sequence[float],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Chooses every target's threshold and says what it is worth on the same images.

    See the module's text on why it looks slightly better than it is.

    Args:
        labels: (N, T), 1 positive, 0 negative, NaN unknown.
        probabilities: (N, T) from 0 to 1.
        patients: (N,) whose image it is.
        targets: (T,) names.
        policies: by target, see `resolve_policies`.
        hand_thresholds: (T,) used where the policy is "fixed" or there is no positive.
        replicates: bootstrap samples of patients for the interval of the recall.
        seed: of these.

    Returns:
        By target, ready for JSON (None where undefined): `threshold`, `policy` (text), `recall`, `recall_low`,
        `recall_high` (its 95 % interval), `precision`, `specificity`, `predicted_positive_rate`, `positives`,
        `negatives`, and `notes`, see `call_outs`.

    Raises:
        HilumError: as `hilum.metrics.bootstrap.score_replicates`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    rankings = [
        rank(labels[:, column], probabilities[:, column], target) for column, target in enumerate(targets)
    ]
    thresholds = [
        choose_threshold(ranking, policies[target], hand)
        for target, ranking, hand in zip(targets, rankings, hand_thresholds, strict=True)
    ]
    scores = score_replicates(
        labels, probabilities, patients, np.array(thresholds), replicates=replicates, seed=seed
    )
    recall_low, recall_high = scores.interval("recall")
    points = {}
    for column, (target, ranking) in enumerate(zip(targets, rankings, strict=True)):
        points[target] = {
            "threshold": thresholds[column],
            "policy": str(policies[target]),
            "recall": _for_json(scores.estimate["recall"][column]),
            "recall_low": _for_json(recall_low[column]),
            "recall_high": _for_json(recall_high[column]),
            "precision": _for_json(scores.estimate["precision"][column]),
            "specificity": _for_json(scores.estimate["specificity"][column]),
            "predicted_positive_rate": _for_json(scores.estimate["predicted_positive_rate"][column]),
            "positives": ranking.positives,
            "negatives": ranking.negatives,
            "notes": call_outs(ranking, policies[target], thresholds[column]),
        }
    return points


def _for_json(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def call_outs(ranking: Ranking, policy: Policy, threshold: float) -> list[str]:
    """What a reader of the operating point should be told, in plain words; empty if there is nothing.

    Args:
        ranking: of the part that it was chosen on.
        policy: that chose it.
        threshold: the one chosen.
    """
    counts = ranking.confusion(threshold)
    labelled = ranking.positives + ranking.negatives
    if not labelled:
        return [f"no image has a known label: the threshold is left at {threshold:g}"]
    notes = []
    if not ranking.positives:
        notes.append(f"no positives among {labelled:,} images: the threshold is left at {threshold:g}")
    elif ranking.positives < FEW_POSITIVES:
        images = "image is" if ranking.positives == 1 else "images are"
        notes.append(f"only {ranking.positives} {images} positive: the figures are uncertain")
    share = counts.predicted_positives / labelled
    if not counts.predicted_positives:
        notes.append("nothing is predicted positive")
    elif share >= NEARLY_ALL:
        notes.append(
            "predicts all images positive" if share == 1 else f"predicts {share:.1%} of images positive"
        )
    if ranking.positives and counts.predicted_positives:
        notes += _precision_notes(counts, policy, labelled)
    return notes


def _precision_notes(counts: Confusion, policy: Policy, labelled: int) -> list[str]:
    notes = []
    # precision > prevalence, in whole numbers; where nearly everything is positive, neither says much
    no_better = counts.true_positives * labelled <= counts.positives * counts.predicted_positives
    if no_better and counts.positives < labelled:
        notes.append(
            f"precision {counts.precision:.3f} is not above the prevalence {counts.positives / labelled:.3f}: "
            "no better than chance"
        )
    if policy.kind == "precision" and counts.precision < policy.value - 1e-9:
        notes.append(
            f"no threshold reaches precision {policy.value:g}: the one with the highest precision is taken"
        )
    return notes
