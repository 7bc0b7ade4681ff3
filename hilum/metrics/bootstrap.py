"""How far each score would move with other patients: bootstrap samples of whole patients.

Images of one patient are alike, so patients are drawn with replacement, each with all of its images (Field
and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 369-390). A sample is a whole number
per patient: how often it is drawn. The probabilities are sorted once per target; counts of all samples in
that order are then one sparse product per block of samples, and every score follows from their running sums.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse, special, stats

from hilum.errors import HilumError, nearest
from hilum.machine import cores
from hilum.metrics.ranking import NAN, Ranking, rank
from hilum.metrics.resampling import patient_weights

#: The scores that have replicates and intervals.
REPLICATED_SCORES = (
    "recall",
    "precision",
    "specificity",
    "f1",
    "roc_auc",
    "avg_precision",
    "predicted_positive_rate",
)

_EXACT_IN_FLOAT32 = 2**24
_WEIGHTS_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class ScoreReplicates:
    """Scores of one set of predictions and of R bootstrap samples of its patients.

    Attributes:
        estimate: (T,) float64 by score, on the full sample; NaN where undefined.
        replicates: (R, T) float64 by score, on each bootstrap sample; NaN where undefined.
        patients: (T,) int64 by score: how many patients the score rests on, those with an image in its
            denominator (for roc_auc: the fewer of those with a positive and those with a negative).
        least_sample_size: (T,) float64 by score: the effective number of independent images, were all
            images of a patient one and the same (Kish 1965): with m images of each patient,
            (sum of m)² / sum of m².
        pairs: (T,) float64, positives times negatives.
    """

    estimate: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]
    least_sample_size: dict[str, np.ndarray]
    pairs: np.ndarray

    def interval(self, score: str, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of one score, each (T,) float64 within 0..1.

        NaN if the score is undefined on the full sample or on most bootstrap samples, or if it rests on
        fewer than two patients: there is nothing to tell how much patients differ.

        The plain percentile interval of recall is [1, 1] where all positives are found, be they three, and
        with few positives it covers the truth too rarely for every score. What covers best differs
        (`benchmarks/uncertainty.py` measures it):

        - Recall, precision, specificity, f1 and the predicted positive rate: Wilson's interval (1927, J. Am.
          Stat. Assoc. 22, 209-212) at the effective sample size that has the bootstrap's variance (Korn
          and Graubard 1998, Survey Methodology 24, 193-201).
        - ROC AUC: on the logit scale, with the bootstrap's bias taken off, its standard error, and
          Student's t of the patients it rests on. Half a pair is counted as ranked wrong and half as
          right, or the logit of a sample that is ranked perfectly would be infinite.
        - Average precision: percentiles, at levels moved outwards for few patients (Hesterberg 2015, "What
          teachers should know about the bootstrap", American Statistician 69, 371-386).

        With about ten positives these hold the truth in 92 to 97 of 100 samples; of ROC AUC above about
        0.97, in 91 or more: the few positives that score low, and decide, may be missing from a sample.
        Where the bootstrap samples do not differ, each is Wilson's interval at `least_sample_size`.

        Args:
            score: one of `REPLICATED_SCORES`.
            confidence: of the interval, above 0 and below 1.

        Raises:
            HilumError: another score, or a confidence that is not between 0 and 1.
        """
        if score not in REPLICATED_SCORES:
            known = ", ".join(REPLICATED_SCORES)
            raise HilumError(
                f"There is no score {score!r}.{nearest(score, REPLICATED_SCORES)} Known: {known}."
            )
        if not 0 < confidence < 1:
            raise HilumError(f"confidence is {confidence!r}; expected a number above 0 and below 1.")
        bounds = np.array([self._bounds(score, column, confidence) for column in range(len(self.pairs))])
        low, high = bounds.reshape(-1, 2).T
        return low, high

    def _bounds(self, score: str, column: int, confidence: float) -> tuple[float, float]:
        estimate, patients = float(self.estimate[score][column]), int(self.patients[score][column])
        values = self.replicates[score][:, column]
        drawn = len(values)
        values = values[np.isfinite(values)]
        if patients < 2 or np.isnan(estimate) or len(values) < 2 or 2 * len(values) < drawn:
            return NAN, NAN
        # The bootstrap's variance is that of a mean with denominator k, not k - 1.
        few = patients / (patients - 1)
        if np.ptp(values) < 1e-12:
            return _wilson(estimate, self.least_sample_size[score][column], confidence)
        if score == "roc_auc":
            return _logit_interval(estimate, values, self.pairs[column], patients, confidence)
        if score == "avg_precision":
            reach = stats.t.ppf((1 + confidence) / 2, patients - 1) * few**0.5
            low, high = np.quantile(values, stats.norm.cdf([-reach, reach]))
            return float(low), float(high)
        size = estimate * (1 - estimate) / (values.var(ddof=1) * few)
        return _wilson(estimate, size or self.least_sample_size[score][column], confidence)


def _wilson(share: float, size: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share observed among `size` independent images, which need not be whole."""
    z = stats.norm.ppf((1 + confidence) / 2)
    centre = share + z**2 / (2 * size)
    reach = z * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    low, high = (centre - reach) / (1 + z**2 / size), (centre + reach) / (1 + z**2 / size)
    return float(max(low, 0.0)), float(min(high, 1.0))


def _logit_interval(
    area: float, areas: np.ndarray, pairs: float, patients: int, confidence: float
) -> tuple[float, float]:
    """The interval of ROC AUC; areas are those of the bootstrap samples. See `ScoreReplicates.interval`."""

    def logit(values: np.ndarray | float) -> np.ndarray:
        right = (np.asarray(values) * pairs + 0.5) / (pairs + 1)
        return special.logit(right)

    logits = logit(areas)
    centre = 2 * logit(area) - logits.mean()
    error = logits.std(ddof=1) * (patients / (patients - 1)) ** 0.5
    reach = stats.t.ppf((1 + confidence) / 2, patients - 1) * error
    return float(special.expit(centre - reach)), float(special.expit(centre + reach))


def score_replicates(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    thresholds: np.ndarray,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> ScoreReplicates:
    """The scores of the predictions and of bootstrap samples of their patients.

    The draws depend on the seed and on the sorted distinct patients alone: two models' predictions of the
    same patients are scored on the same samples, and the difference of their replicates is paired.

    Args:
        labels: (N, T), 1 positive, 0 negative, NaN unknown (left out, per target).
        probabilities: (N, T) from 0 to 1.
        patients: (N,) whose image it is: whole numbers or text.
        thresholds: (T,) a probability >= the threshold is a positive prediction.
        replicates: R, bootstrap samples.
        seed: of the draws.

    Raises:
        HilumError: shapes that do not fit each other, a patient that is missing, a label other than 1, 0
            or NaN, a probability that is not finite or not from 0 to 1.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    patients, thresholds = np.asarray(patients), np.asarray(thresholds, dtype=np.float64)
    _refuse_other_shapes(labels, probabilities, patients, thresholds)
    if probabilities.dtype not in (np.float32, np.float64):
        probabilities = probabilities.astype(np.float64)
    try:
        distinct, patient_of = np.unique(patients, return_inverse=True)
    except TypeError as error:
        raise HilumError(
            "patients are text and numbers mixed; give all of them as one or the other."
        ) from error
    targets = [
        _Target.of(labels[:, column], probabilities[:, column], patient_of, len(distinct), threshold)
        for column, threshold in enumerate(thresholds)
    ]
    scores = np.empty((len(REPLICATED_SCORES), replicates, len(targets)))
    block = int(np.clip(_WEIGHTS_AT_ONCE // max(len(distinct), 1), 32, 256))

    def fill(first: int) -> None:
        last = min(first + block, replicates)
        weights = patient_weights(len(distinct), last - first, seed, first)
        # One row per patient: the product then reads and writes rows of whole samples.
        weights = np.ascontiguousarray(weights.T, dtype=_weight_dtype(patient_of))
        for column, target in enumerate(targets):
            scores[:, first:last, column] = target.scores(weights)

    # NumPy's and SciPy's loops run outside Python's lock. Blocks do not depend on the number of threads.
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, range(0, replicates, block)))
    return ScoreReplicates(
        estimate=_by_score([target.estimate for target in targets]),
        replicates=dict(zip(REPLICATED_SCORES, scores, strict=True)),
        patients=_by_score([target.patients for target in targets], np.int64),
        least_sample_size=_by_score([target.least_sample_size for target in targets]),
        pairs=np.array([target.pairs for target in targets], dtype=np.float64),
    )


def _by_score(rows: list[dict[str, float]], dtype: type = np.float64) -> dict[str, np.ndarray]:
    return {score: np.array([row[score] for row in rows], dtype=dtype) for score in REPLICATED_SCORES}


def _weight_dtype(patient_of: np.ndarray) -> type:
    """float32 if even the largest possible sample, the largest patient drawn each time, is counted exactly."""
    images = np.bincount(patient_of) if len(patient_of) else np.zeros(1)
    return np.float32 if len(images) * images.max() < _EXACT_IN_FLOAT32 else np.float64


@dataclass(frozen=True, eq=False)
class _Target:
    """One target's images, counted by patient and by place in the order of falling probability.

    Places are the L distinct probabilities of positives, and the threshold: between them, nothing that a
    score is made of changes but the count of negatives.

    Attributes:
        counts: (2L + 1 + K, patients) images: positives at each of the L places; negatives from each
            place up to the one above it, those below the last in row 2L; negatives that are tied with
            a place, for the K places where there are any.
        tied: (K,) these places.
        at_threshold: the threshold's place.
        estimate: the scores on the full sample.
        patients: see `ScoreReplicates`.
        least_sample_size: see `ScoreReplicates`.
        pairs: see `ScoreReplicates`.
    """

    counts: sparse.csr_array
    tied: np.ndarray
    at_threshold: int
    estimate: dict[str, float]
    patients: dict[str, int]
    least_sample_size: dict[str, float]
    pairs: int

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        probabilities: np.ndarray,
        patient_of: np.ndarray,
        patient_count: int,
        threshold: float,
    ) -> "_Target":
        """Sorts one target's (N,) labels and probabilities."""
        ranking = rank(labels, probabilities)
        known = ~np.isnan(labels)
        positive, probabilities, patient_of = labels[known] == 1, probabilities[known], patient_of[known]
        threshold = probabilities.dtype.type(threshold)
        rising = np.unique(np.append(probabilities[positive], threshold))
        places = len(rising)
        # Place 0 is the highest probability; a negative belongs to the first place at or below it.
        place = places - np.searchsorted(rising, probabilities, side="right")
        is_tied = ~positive & (rising[::-1][np.minimum(place, places - 1)] == probabilities)
        tied, tied_row = np.unique(place[is_tied], return_inverse=True)
        rows = np.concatenate([np.where(positive, place, places + place), 2 * places + 1 + tied_row])
        columns = np.concatenate([patient_of, patient_of[is_tied]])
        ones = np.ones(len(rows), dtype=np.float32)
        shape = (2 * places + 1 + len(tied), patient_count)
        rested_on, least = _patients_rested_on(positive, probabilities >= threshold, patient_of)
        return cls(
            counts=sparse.csr_array((ones, (rows, columns)), shape=shape),
            tied=tied,
            at_threshold=places - 1 - int(np.searchsorted(rising, threshold)),
            estimate=_estimate(ranking, float(threshold)),
            patients=rested_on,
            least_sample_size=least,
            pairs=ranking.positives * ranking.negatives,
        )

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """The scores, (scores, B), of B samples; weights is (patients, B), how often each is drawn."""
        counts = self.counts @ weights
        places = (len(counts) - 1 - len(self.tied)) // 2
        gained, negatives_from = counts[:places], counts[places : 2 * places + 1]
        found = np.cumsum(gained, axis=0)
        false_alarms = np.cumsum(negatives_from, axis=0)
        positives, negatives = (total.astype(np.float64) for total in (found[-1], false_alarms[-1]))
        false_alarms = false_alarms[:places]
        tp, fp = (rows[self.at_threshold].astype(np.float64) for rows in (found, false_alarms))
        # Pairs of a positive and a negative ranked at or above it; a tie is half a pair.
        misranked = np.einsum("pb,pb->b", gained, false_alarms, dtype=np.float64)
        misranked -= 0.5 * np.einsum(
            "pb,pb->b", gained[self.tied], counts[2 * places + 1 :], dtype=np.float64
        )
        # Where nothing is predicted nothing is gained either: dividing by 1 leaves the 0 that is meant.
        reached = np.maximum(found + false_alarms, 1)
        precisions = np.divide(found, reached, dtype=np.float64)
        summed = np.einsum("pb,pb->b", gained, precisions, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            some_positives = np.where(positives > 0, 1.0, NAN)
            return np.stack(
                [
                    tp / positives,
                    tp / (tp + fp) * some_positives,
                    1 - fp / negatives,
                    2 * tp / (positives + tp + fp) * some_positives,
                    1 - misranked / (positives * negatives),
                    summed / positives,
                    (tp + fp) / (positives + negatives),
                ]
            )


def _estimate(ranking: Ranking, threshold: float) -> dict[str, float]:
    counts = ranking.confusion(threshold)
    labelled = ranking.positives + ranking.negatives
    return {
        "recall": counts.recall,
        "precision": counts.precision,
        "specificity": counts.true_negatives / ranking.negatives if ranking.negatives else NAN,
        "f1": counts.f1,
        "roc_auc": ranking.roc_auc(),
        "avg_precision": ranking.average_precision(),
        "predicted_positive_rate": counts.predicted_positives / labelled if labelled else NAN,
    }


def _patients_rested_on(
    positive: np.ndarray, predicted: np.ndarray, patient_of: np.ndarray
) -> tuple[dict[str, int], dict[str, float]]:
    """How many patients each score rests on, and its least sample size; all arguments are (N,)."""

    def patients_of(rows: np.ndarray) -> tuple[float, int]:
        images = np.bincount(patient_of[rows]).astype(np.float64)
        squares = (images**2).sum()
        return (float(images.sum() ** 2 / squares) if squares else 0.0), int(np.count_nonzero(images))

    positives, negatives = patients_of(positive), patients_of(~positive)
    rests_on = {
        "recall": positives,
        "precision": patients_of(predicted),
        "specificity": negatives,
        "f1": positives,
        "roc_auc": min(positives, negatives),
        "avg_precision": positives,
        "predicted_positive_rate": patients_of(np.ones(len(positive), dtype=bool)),
    }
    return (
        {score: patients for score, (_, patients) in rests_on.items()},
        {score: size for score, (size, _) in rests_on.items()},
    )


def _refuse_other_shapes(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, thresholds: np.ndarray
) -> None:
    if labels.ndim != 2 or labels.shape != probabilities.shape:
        raise HilumError(
            f"labels are {labels.shape} and probabilities {probabilities.shape}; expected both to be "
            "(images, targets)."
        )
    if patients.shape != (len(labels),):
        raise HilumError(f"patients are {patients.shape}; expected one per image, ({len(labels)},).")
    if thresholds.shape != (labels.shape[1],):
        raise HilumError(f"{thresholds.size} thresholds for {labels.shape[1]} targets; give one for each.")
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise HilumError(f"thresholds are {thresholds.tolist()}; expected numbers from 0 to 1.")
    missing = np.flatnonzero(pd.isna(patients))
    if len(missing):
        raise HilumError(
            f"{len(missing)} of {len(patients)} images have no patient, the first in row {missing[0]}. "
            "Name the patient of each image."
        )
