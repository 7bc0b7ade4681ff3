"""What repeats over seeds say about settings, and not only about the models that happened to come out.

Two things make the difference of two settings uncertain: other patients would score otherwise, and other
seeds would give other models. Seeds are to patients what readers are to cases in reader studies, and the
variance is theirs: of Obuchowski & Rockette 1995 (doi 10.1080/03610919508813243), with readers nested in
the thing compared and degrees of freedom after Hillis 2007 (doi 10.1002/sim.2532).

    variance = s_A² / n_A + s_B² / n_B + shared

s² is the variance of the score over a side's n seeds, on the same patients. It holds both what is due to the
seed and what a seed's model happens to get right on these very patients. `shared` is the variance due to the
patients that all seeds of a side have in common and the two sides have not: the variance of B - A over
samples of the patients, less what the seeds' own deviations contribute to it (that is in s² already, and
would be counted twice), and not below 0.

Where the seeds also draw the split, each seed has patients of its own. Then the runs of A and B with the
same seed, which have the same patients, make a pair; the pairs' differences take the place of the scores,
and the formula is that of one side.
"""

import math
from collections.abc import Sequence

import numpy as np

from hilum.metrics.comparison import ScoreDifference, conclude, least_error, replicate_error, undefined


def settings_difference(
    score: str,
    values: np.ndarray,
    replicates: np.ndarray,
    patient_degrees_of_freedom: float,
    reference: Sequence[int],
    other: Sequence[int],
    *,
    paired: bool = False,
) -> ScoreDifference:
    """The claim about two settings: would other seeds and other patients show the difference, too?

    Args:
        score: its name.
        values: (S,) the score of each run.
        replicates: (R, S) the same over samples of the patients, the same samples for all runs.
        patient_degrees_of_freedom: how many patients the score rests on, less one.
        reference: positions of A's runs, at least two, of different seeds.
        other: positions of B's; if paired, in the order of the seeds of A.
        paired: whether each seed has patients of its own, see above.
    """
    of_reference, of_other = values[list(reference)], values[list(other)]
    means = of_reference.mean(), of_other.mean()
    if np.isnan(means).any():
        return undefined(*means, "not every seed's model has this score")
    sampled_reference, sampled_other = replicates[:, list(reference)], replicates[:, list(other)]
    if paired:
        groups = [(of_other - of_reference, sampled_other - sampled_reference)]
    else:
        groups = [(of_reference, sampled_reference), (of_other, sampled_other)]
    error = replicate_error(sampled_other.mean(axis=1) - sampled_reference.mean(axis=1))
    if math.isnan(error) or patient_degrees_of_freedom < 1:
        return undefined(*means, "too few patients have what it counts")
    error = max(error, least_error(means[1] - means[0], patient_degrees_of_freedom))
    seeds = [float(of_group.var(ddof=1)) / len(of_group) for of_group, _ in groups]
    own = sum(_variance_of_deviations(sampled) / sampled.shape[1] for _, sampled in groups)
    # Seeds that all score exactly alike, as with few positives, do not tell how much seeds vary.
    shared = max(error**2 - own, 0.0) if any(seeds) else error**2
    parts = [(part, len(of_group) - 1) for part, (of_group, _) in zip(seeds, groups, strict=True)]
    parts.append((shared, patient_degrees_of_freedom))
    return conclude(score, *means, math.sqrt(sum(seeds) + shared), _satterthwaite(parts))


def _variance_of_deviations(sampled: np.ndarray) -> float:
    """Variance over samples (R, n) of a seed's deviation from the mean of the n seeds."""
    deviations = sampled - sampled.mean(axis=1, keepdims=True)
    return float(np.nanvar(deviations, axis=0, ddof=1).sum() / (sampled.shape[1] - 1))


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each (variance, degrees of freedom)."""
    total = sum(part for part, _ in parts)
    if total == 0:
        return float(min(degrees for _, degrees in parts))
    return total**2 / sum(part**2 / degrees for part, degrees in parts)
