"""Intervals of scores over patients: bootstrap samples of whole patients, and Wilson's interval.

Images of one patient are alike, so patients are drawn with replacement, each with all of its images: the cluster
bootstrap (Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 369-390). A sample is one whole
number per patient: how often the patient is drawn. The probabilities are sorted once per target. The counts of many
samples in that order are one sparse product, and every score follows from their running sums.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse, special, stats

from hilum.errors import HilumError, nearest
from hilum.machine import cores
from hilum.metrics.ranking import NAN, Ranking
from hilum.randomness import generator

if TYPE_CHECKING:
    from hilum.metrics.predictions import Predictions

#: The scores that have replicates and intervals, the most important first.
REPLICATED_SCORES = (
    *("recall", "roc_auc", "precision", "specificity"),
    *("f1", "avg_precision", "predicted_positive_rate"),
)

_EXACT_IN_FLOAT32 = 2**24
_WEIGHTS_AT_ONCE = 2**20
_ROWS_AT_ONCE = 64


def patient_weights(patient_count: int, replicates: int, seed: int, first: int = 0) -> np.ndarray:
    """How often each patient is drawn: int16 of shape (replicates, patient_count).

    Each row sums to `patient_count`, as that many are drawn with replacement. The rows are those of the replicates from
    `first` on, so that many replicates can be drawn in parts.
    """
    weights = np.empty((replicates, patient_count), dtype=np.int16)
    for replicate in range(replicates):
        draw = generator(seed, "patient bootstrap", first + replicate)
        drawn = draw.integers(patient_count, size=patient_count)
        weights[replicate] = np.bincount(drawn, minlength=patient_count)
    return weights


def cell_counts(weights: np.ndarray, patients: np.ndarray, cells: np.ndarray, cell_count: int) -> np.ndarray:
    """Images in each cell, such as a target vector, over the bootstrap samples: float64 (replicates, cell_count).

    There are few cells, so a replicate costs one row of a sparse product and no pass over the images. `weights` are
    (replicates, patients) of `patient_weights`; patients and cells (images,) are each image's column and cell.
    """
    ones = np.ones(len(patients), dtype=np.float32)  # exact to 16 million images in a cell
    table = sparse.csr_array((ones, (cells, patients)), shape=(cell_count, weights.shape[1]))
    counts = np.empty((len(weights), cell_count))
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        counts[rows] = (table @ np.ascontiguousarray(weights[rows].T, dtype=np.float32)).T
    return counts


def percentile_interval(replicates: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval over the first axis; NaN where fewer than half of the replicates are defined (not NaN).

    Lower and upper bounds each have the shape after the first axis; confidence is 0..1.
    """
    defined = np.isfinite(replicates).sum(axis=0) * 2 >= len(replicates)
    values = np.where(defined, replicates, 0.0)  # a column of only NaN would warn
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail], axis=0)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


def wilson_interval(
    share: np.ndarray | float, size: np.ndarray | float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a share (1927, "Probable inference", J. Am. Stat. Assoc. 22, 209-212).

    The share is 0..1, of any shape, and so are the lower and upper bounds. The size, above 0, is the number of
    independent images and need not be whole; the confidence is above 0 and below 1.
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    centre = share + z**2 / (2 * size)
    reach = z * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    scale = 1 + z**2 / size
    low, high = np.maximum((centre - reach) / scale, 0.0), np.minimum((centre + reach) / scale, 1.0)
    # Without rounding: the bound of a share of 0 or 1 is the share itself.
    return np.where(np.equal(share, 0), 0.0, low), np.where(np.equal(share, 1), 1.0, high)


@dataclass(frozen=True, eq=False)
class ScoreReplicates:
    """The scores of one set of predictions, and of R bootstrap samples of its patients.

    Attributes:
        estimate: (T,) float64 by score, on the full sample; NaN where undefined.
        replicates: (R, T) float64 by score, on each bootstrap sample; NaN where undefined.
        patients: (T,) int64 by score: number of patients with an image in the score's denominator (for roc_auc: the
            smaller of the patients with a positive image and those with a negative one).
        least_sample_size: (T,) float64 by score: the effective number of independent images if all images of a patient
            were equal (Kish 1965): (sum of m)² / sum of m² for m images per patient.
        pairs: (T,) float64, positives times negatives.
    """

    estimate: dict[str, np.ndarray]
    replicates: dict[str, np.ndarray]
    patients: dict[str, np.ndarray]
    least_sample_size: dict[str, np.ndarray]
    pairs: np.ndarray

    def interval(self, score: str, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of one score, each (T,) float64 within 0..1.

        NaN if the score is undefined on the full sample or on most bootstrap samples, or if it depends on fewer than
        two patients, which cannot show how much patients differ.

        The plain percentile interval of recall is [1, 1] where all positives are found, even if they are three, and
        with few positives it covers the truth too rarely for every score. So the method depends on the score
        (`benchmarks/uncertainty.py` measures the coverage):

        - Recall, precision, specificity, f1 and the predicted positive rate: Wilson's interval at the effective sample
          size that has the bootstrap's variance (Korn and Graubard 1998, Survey Methodology 24, 193-201).
        - ROC AUC: on the logit scale, with the bootstrap's bias removed, its standard error, and Student's t with the
          patients that it depends on. Half a pair is counted as ranked wrong and half as right, because the logit of a
          perfect ranking is infinite.
        - Average precision: percentiles, at levels moved outwards for few patients (Hesterberg 2015, "What teachers
          should know about the bootstrap", American Statistician 69, 371-386).

        With about ten positives these cover the truth in 92 to 97 of 100 samples. For a ROC AUC above about 0.97 they
        do in 91 or more: the few positives with low scores, which decide, may be missing from a sample. Where the
        bootstrap samples do not differ, each is Wilson's interval at `least_sample_size`.

        Raises:
            HilumError: if the score is not in `REPLICATED_SCORES`, or the confidence is not between 0 and 1.
        """
        if score not in REPLICATED_SCORES:
            near, known = nearest(score, REPLICATED_SCORES), ", ".join(REPLICATED_SCORES)
            raise HilumError(f"There is no score {score!r}.{near} Known: {known}.")
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
        size, reach = self.least_sample_size[score][column], stats.t.ppf((1 + confidence) / 2, patients - 1)
        if np.ptp(values) < 1e-12:
            low, high = wilson_interval(estimate, size, confidence)
        elif score == "roc_auc":
            pairs = self.pairs[column]
            logits = special.logit((values * pairs + 0.5) / (pairs + 1))
            centre = 2 * special.logit((estimate * pairs + 0.5) / (pairs + 1)) - logits.mean()
            reach *= logits.std(ddof=1) * few**0.5
            low, high = special.expit([centre - reach, centre + reach])
        elif score == "avg_precision":
            reach *= few**0.5
            low, high = np.quantile(values, stats.norm.cdf([-reach, reach]))
        else:
            size = estimate * (1 - estimate) / (values.var(ddof=1) * few) or size
            low, high = wilson_interval(estimate, size, confidence)
        return float(low), float(high)


def score_replicates(predictions: "Predictions", *, replicates: int = 1000, seed: int = 0) -> ScoreReplicates:
    """The scores of the predictions and of bootstrap samples of their patients.

    `Predictions.bootstrap` keeps the result. The draws depend only on the seed and the sorted distinct patients: two
    models' predictions for the same patients are scored on the same samples, so the difference of their replicates is
    paired.

    Raises:
        HilumError: if the patients are text and numbers mixed.
    """
    patient_of, patient_count = predictions.patient_codes, predictions.patient_count
    targets = [_Target.of(predictions, column) for column in range(len(predictions.targets))]
    scores = np.empty((len(REPLICATED_SCORES), replicates, len(targets)))
    block = int(np.clip(_WEIGHTS_AT_ONCE // max(patient_count, 1), 32, 256))

    def fill(first: int) -> None:
        last = min(first + block, replicates)
        weights = patient_weights(patient_count, last - first, seed, first)
        # One row per patient: the product then reads and writes rows of whole samples.
        weights = np.ascontiguousarray(weights.T, dtype=_weight_dtype(patient_of))
        for column, target in enumerate(targets):
            scores[:, first:last, column] = target.scores(weights)

    # NumPy's and SciPy's loops run outside Python's lock. Blocks do not depend on the number of threads.
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, range(0, replicates, block)))
    behind = {
        score: np.array([target.behind[score] for target in targets], dtype=np.float64).reshape(-1, 2)
        for score in REPLICATED_SCORES
    }
    return ScoreReplicates(
        estimate={score: np.array([of.estimate[score] for of in targets]) for score in REPLICATED_SCORES},
        replicates=dict(zip(REPLICATED_SCORES, scores, strict=True)),
        patients={score: pairs[:, 1].astype(np.int64) for score, pairs in behind.items()},
        least_sample_size={score: pairs[:, 0] for score, pairs in behind.items()},
        pairs=np.array([target.pairs for target in targets], dtype=np.float64),
    )


def _weight_dtype(patient_of: np.ndarray) -> type:
    """float32 if even the largest possible sample, the largest patient drawn each time, is counted exactly."""
    images = np.bincount(patient_of)
    return np.float32 if len(images) * images.max(initial=0) < _EXACT_IN_FLOAT32 else np.float64


@dataclass(frozen=True, eq=False)
class _Target:
    """One target's images, counted by patient and by place in the order of falling probability.

    The L places are the distinct probabilities of the positives, and the threshold: between two places only the count
    of negatives changes. `pairs` is as in `ScoreReplicates`.

    Attributes:
        counts: (2L + 1 + K, patients) images: positives at each of the L places; negatives from each place up to the
            next, those below the last place in row 2L; negatives that are tied with a place, for the K places that have
            any.
        tied: (K,) these places.
        at_threshold: the threshold's place.
        estimate: the scores on the full sample.
        behind: score -> the `least_sample_size` and `patients` of `ScoreReplicates`.
    """

    counts: sparse.csr_array
    tied: np.ndarray
    at_threshold: int
    estimate: dict[str, float]
    behind: dict[str, tuple[float, int]]
    pairs: int

    @classmethod
    def of(cls, predictions: "Predictions", column: int) -> "_Target":
        """Sorts the images of the target in `column`."""
        ranking = predictions.rankings[predictions.targets[column]]
        y_true, y_score = predictions.y_true[:, column], predictions.y_score[:, column]
        known = ~np.isnan(y_true)
        positive, y_score, patient_of = y_true[known] == 1, y_score[known], predictions.patient_codes[known]
        threshold = y_score.dtype.type(predictions.thresholds[column])
        rising = np.unique(np.append(y_score[positive], threshold))
        places = len(rising)
        # Place 0 is the highest probability; a negative belongs to the first place at or below it.
        place = places - np.searchsorted(rising, y_score, side="right")
        is_tied = ~positive & (rising[::-1][np.minimum(place, places - 1)] == y_score)
        tied, tied_row = np.unique(place[is_tied], return_inverse=True)
        rows = np.concatenate([np.where(positive, place, places + place), 2 * places + 1 + tied_row])
        columns = np.concatenate([patient_of, patient_of[is_tied]])
        ones = np.ones(len(rows), dtype=np.float32)
        shape = (2 * places + 1 + len(tied), predictions.patient_count)

        return cls(
            counts=sparse.csr_array((ones, (rows, columns)), shape=shape),
            tied=tied,
            at_threshold=places - 1 - int(np.searchsorted(rising, threshold)),
            estimate=_estimate(ranking, float(threshold)),
            behind=_patients_behind(positive, y_score >= threshold, patient_of),
            pairs=ranking.positives * ranking.negatives,
        )

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(scores, B) of B samples; weights (patients, B) is how often each patient is drawn."""
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
        # Where nothing is predicted nothing is gained either: dividing by 1 leaves 0.
        reached = np.maximum(found + false_alarms, 1)
        precisions = np.divide(found, reached, dtype=np.float64)
        summed = np.einsum("pb,pb->b", gained, precisions, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            some_positives = np.where(positives > 0, 1.0, NAN)
            return np.stack(
                [
                    tp / positives,
                    1 - misranked / (positives * negatives),
                    tp / (tp + fp) * some_positives,
                    1 - fp / negatives,
                    2 * tp / (positives + tp + fp) * some_positives,
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


def _patients_behind(
    positive: np.ndarray, predicted: np.ndarray, patient_of: np.ndarray
) -> dict[str, tuple[float, int]]:
    """The least sample size of each score, and the number of patients behind it; all arguments are (N,)."""

    def patients_of(rows: np.ndarray) -> tuple[float, int]:
        images = np.bincount(patient_of[rows]).astype(np.float64)
        squares = (images**2).sum()
        return (float(images.sum() ** 2 / squares) if squares else 0.0), int(np.count_nonzero(images))

    positives, negatives = patients_of(positive), patients_of(~positive)
    return {
        "recall": positives,
        "precision": patients_of(predicted),
        "specificity": negatives,
        "f1": positives,
        "roc_auc": min(positives, negatives),
        "avg_precision": positives,
        "predicted_positive_rate": patients_of(np.ones(len(positive), dtype=bool)),
    }
