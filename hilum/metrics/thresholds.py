"""The probability from which each target counts as predicted positive."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from hilum.errors import HilumError, nearest
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
