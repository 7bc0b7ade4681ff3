"""Policies for labels that are neither positive nor negative: uncertain, or blank (not mentioned).

In training such a label becomes 0 ("zeros"), 1 ("ones"), is left out ("ignore"), is drawn near 0 or 1
("smooth-zeros", "smooth-ones": label smoothing, Pham et al. 2019, arXiv 1911.06475), or, if uncertain, is a
third class in addition to negative and positive ("multiclass": Irvin et al. 2019, arXiv 1901.07031). The
scores have their own policy, so that runs trained on different labels are scored on the same ones.
"""

from collections.abc import Mapping

import numpy as np

from hilum.config import LabelSettings
from hilum.errors import HilumError, nearest
from hilum.randomness import generator
from hilum.sources.catalog import Catalog
from hilum.targets import canonical_target

#: The class of an uncertain label under "multiclass"; negative is 0 and positive 1.
UNCERTAIN_CLASS = 2.0

#: Ranges that smoothed labels are drawn from, uniformly: those of Pham et al. 2019.
SMOOTH_RANGES = {"smooth-zeros": (0.0, 0.3), "smooth-ones": (0.55, 0.85)}

_FIXED = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan, "multiclass": UNCERTAIN_CLASS}

#: The best policy of each competition target on CheXpert's validation set, Table 3 of Irvin et al. 2019,
#: among the policies here: for consolidation self-training (AUC 0.939) is missing; "ignore" (0.938) is next.
CHEXPERT_BEST = {
    "Atelectasis": "ones",
    "Cardiomegaly": "multiclass",
    "Consolidation": "ignore",
    "Edema": "ones",
    "Pleural_Effusion": "multiclass",
}

#: Number of ids that share a generator.
_BLOCK = 1 << 16

Policy = str | Mapping[str, str]


def training_labels(catalog: Catalog, settings: LabelSettings, seed: int) -> np.ndarray:
    """The labels to train on: float32 (images, targets) of 1, 0, NaN (left out), between (smoothed), `UNCERTAIN_CLASS`.

    Args:
        catalog: its codes, if it has any, mark the labels that are uncertain or blank.
        settings: a policy for all targets, or by target's name; the other targets then have "zeros".
        seed: of the smoothing, drawn by target and ImageID: an image has the same label in every epoch and subset.

    Raises:
        HilumError: a target that the catalog does not have, or a policy for labels that the data set does not have.
    """
    policies = {"uncertain_policy": settings.uncertain_policy, "blank_policy": settings.blank_policy}
    return _apply(catalog, policies, seed)


def evaluation_labels(catalog: Catalog, settings: LabelSettings) -> np.ndarray:
    """The labels to score against, float32 (images, targets) of 1, 0 or NaN; see `training_labels`."""
    policies = {
        "eval_uncertain_policy": settings.eval_uncertain_policy,
        "eval_blank_policy": settings.eval_blank_policy,
    }
    return _apply(catalog, policies, seed=0)


def multiclass_targets(catalog: Catalog, settings: LabelSettings) -> np.ndarray:
    """Whether each target has a class of its own for uncertain labels, as bool (targets,)."""
    policies = _by_target(catalog, "uncertain_policy", settings.uncertain_policy)
    return np.array([policies[target] == "multiclass" for target in catalog.targets])


def _apply(catalog: Catalog, given: Mapping[str, Policy], seed: int) -> np.ndarray:
    """The labels under two policies, the first for uncertain and the second for blank labels."""
    policies = {name: _by_target(catalog, name, policy) for name, policy in given.items()}
    labels = catalog.labels().copy()
    if catalog.codes is None:
        for name, by_target in policies.items():
            _check_without_codes(catalog, name, by_target)
        return labels
    ids, codes = catalog.table.index.to_numpy(), catalog.codes.to_numpy()
    for (name, by_target), affected in zip(policies.items(), (codes == -1, np.isnan(codes)), strict=True):
        for column, target in enumerate(catalog.targets):
            rows = affected[:, column]
            labels[rows, column] = _values(by_target[target], f"{name} {target}", ids[rows], seed)
    return labels


def _values(policy: str, purpose: str, image_ids: np.ndarray, seed: int) -> np.ndarray | float:
    if policy in _FIXED:
        return _FIXED[policy]
    low, high = SMOOTH_RANGES[policy]
    # Drawn by blocks of ids, so that the draw of an image does not depend on the other images.
    uniform = np.empty(len(image_ids))
    blocks = image_ids // _BLOCK
    for block in np.unique(blocks).tolist():
        inside = blocks == block
        drawn = generator(seed, f"smooth {purpose}", block).random(_BLOCK)
        uniform[inside] = drawn[image_ids[inside] % _BLOCK]
    return low + (high - low) * uniform


def _by_target(catalog: Catalog, name: str, policy: Policy) -> dict[str, str]:
    """One policy for each target of the catalog."""
    zeros = dict.fromkeys(catalog.targets, "zeros")
    if policy == "chexpert-best":
        best = {target: best for target, best in CHEXPERT_BEST.items() if target in catalog.targets}
        if not best:
            raise HilumError(
                f"{name}: chexpert-best is for {', '.join(CHEXPERT_BEST)}; the run has none of these targets."
            )
        return zeros | best
    if isinstance(policy, str):
        return dict.fromkeys(catalog.targets, policy)
    chosen = {}
    for given, value in policy.items():
        target = canonical_target(given) if canonical_target(given) in catalog.targets else given
        if target not in catalog.targets:
            raise HilumError(
                f"{name}: the run has no target {given!r}.{nearest(given, catalog.targets)} "
                f"Its targets are {', '.join(catalog.targets)}."
            )
        if value == "chexpert-best":
            raise HilumError(f"{name}: chexpert-best is a policy for all targets, not for {given} alone.")
        chosen[target] = value
    return zeros | chosen


def _check_without_codes(catalog: Catalog, name: str, policies: dict[str, str]) -> None:
    for target, policy in policies.items():
        if policy != "zeros":
            raise HilumError(
                f"{name}: {policy!r} for {target} has no effect on {catalog.name}: its labels are positive or "
                "negative only, none is uncertain or blank. Leave the setting out."
            )
