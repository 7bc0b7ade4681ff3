"""What becomes of labels that are neither positive nor negative: uncertain ones and those not mentioned.

In training a label may become 0 ("zeros"), 1 ("ones"), be left out ("ignore"), be drawn near 0 or 1
("smooth-zeros", "smooth-ones": label smoothing, Pham et al. 2019, arXiv 1911.06475), or, if uncertain,
be a third class beside negative and positive ("multiclass": Irvin et al. 2019, arXiv 1901.07031). For
the scores there is a policy of its own, so that runs that train differently are judged alike.
"""

from collections.abc import Mapping

import numpy as np

from hilum.errors import HilumError, nearest
from hilum.randomness import generator
from hilum.sources.catalog import Catalog
from hilum.targets import canonical_target

#: The class of an uncertain label under "multiclass"; negative is 0 and positive 1.
UNCERTAIN_CLASS = 2.0

#: What a smoothed label is drawn from, uniformly: the ranges of Pham et al. 2019.
SMOOTH_RANGES = {"smooth-zeros": (0.0, 0.3), "smooth-ones": (0.55, 0.85)}

_FIXED = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan, "multiclass": UNCERTAIN_CLASS}

#: The best policy for each competition target on CheXpert's validation set, by Table 3 of Irvin et al.
#: 2019, among those that can be had here: for consolidation its self-training (AUC 0.939) is not, and
#: "ignore" (0.938) comes next.
CHEXPERT_BEST = {
    "Atelectasis": "ones",
    "Cardiomegaly": "multiclass",
    "Consolidation": "ignore",
    "Edema": "ones",
    "Pleural_Effusion": "multiclass",
}

#: Ids that share a generator.
_BLOCK = 1 << 16

Policy = str | Mapping[str, str]


def training_labels(catalog: Catalog, uncertain: Policy, blank: Policy, seed: int) -> np.ndarray:
    """The labels to train on.

    Args:
        catalog: its codes, where it has any, say which labels are uncertain or blank.
        uncertain: of the uncertain labels: one policy for all targets, or one for some by name (the
            others take "zeros"), or "chexpert-best".
        blank: the same for labels not mentioned, without "multiclass" and "chexpert-best".
        seed: of the smoothing, which is drawn by target and ImageID: an image has the same label in
            every epoch and in every subset.

    Returns:
        float32 (images, targets): 1, 0, NaN (left out), a value between (smoothed), or
        `UNCERTAIN_CLASS`.

    Raises:
        HilumError: a target that the catalog does not have, or a policy for labels that the data set
            does not have.
    """
    return _apply(catalog, ("uncertain_policy", uncertain), ("blank_policy", blank), seed)


def evaluation_labels(catalog: Catalog, uncertain: Policy, blank: Policy) -> np.ndarray:
    """The labels to score against, float32 (images, targets) of 1, 0 or NaN; see `training_labels`."""
    return _apply(catalog, ("eval_uncertain_policy", uncertain), ("eval_blank_policy", blank), seed=0)


def multiclass_targets(catalog: Catalog, uncertain: Policy) -> np.ndarray:
    """Which targets have an uncertain class of their own, as bool (targets,)."""
    policies = _by_target(catalog, "uncertain_policy", uncertain)
    return np.array([policies[target] == "multiclass" for target in catalog.targets])


def _apply(
    catalog: Catalog, uncertain: tuple[str, Policy], blank: tuple[str, Policy], seed: int
) -> np.ndarray:
    by_code = {name: _by_target(catalog, name, policy) for name, policy in (uncertain, blank)}
    labels = catalog.labels().copy()
    if catalog.codes is None:
        for name, policies in by_code.items():
            _refuse_without_codes(catalog, name, policies)
        return labels
    codes = catalog.codes.to_numpy()
    ids = catalog.table.index.to_numpy()
    for column, target in enumerate(catalog.targets):
        column_codes = codes[:, column]
        for name, policies, chosen in (
            (uncertain[0], by_code[uncertain[0]], column_codes == -1),
            (blank[0], by_code[blank[0]], np.isnan(column_codes)),
        ):
            labels[chosen, column] = _values(policies[target], f"{name} {target}", ids[chosen], seed)
    return labels


def _values(policy: str, purpose: str, image_ids: np.ndarray, seed: int) -> np.ndarray | float:
    if policy in _FIXED:
        return _FIXED[policy]
    if policy not in SMOOTH_RANGES:
        known = [*_FIXED, *SMOOTH_RANGES]
        raise HilumError(
            f"{purpose}: {policy!r} is no policy.{nearest(policy, known)} Known: {', '.join(known)}."
        )
    low, high = SMOOTH_RANGES[policy]
    # Drawn by blocks of ids, so that an image's draw does not depend on which others there are.
    uniform = np.empty(len(image_ids))
    blocks = image_ids // _BLOCK
    for block in np.unique(blocks).tolist():
        inside = blocks == block
        drawn = generator(seed, f"smooth {purpose}", block).random(_BLOCK)
        uniform[inside] = drawn[image_ids[inside] % _BLOCK]
    return low + (high - low) * uniform


def _by_target(catalog: Catalog, name: str, policy: Policy) -> dict[str, str]:
    """One policy per target of the catalog."""
    if policy == "chexpert-best":
        chosen = {target: best for target, best in CHEXPERT_BEST.items() if target in catalog.targets}
        if not chosen:
            raise HilumError(
                f"{name}: chexpert-best is for {', '.join(CHEXPERT_BEST)}; the run has none of these targets."
            )
        return dict.fromkeys(catalog.targets, "zeros") | chosen
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
    return dict.fromkeys(catalog.targets, "zeros") | chosen


def _refuse_without_codes(catalog: Catalog, name: str, policies: dict[str, str]) -> None:
    for target, policy in policies.items():
        if policy != "zeros":
            raise HilumError(
                f"{name}: {policy!r} for {target} has no meaning for {catalog.name}: its labels are positive or "
                "negative only, none is uncertain or blank. Leave the setting out."
            )
