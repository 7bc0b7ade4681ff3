"""Bootstrap intervals of the scores: their speed, and how often they cover the true score.

Speed: the replicates of a validation part of 26,000 images by 12 targets, compared with a simple loop that repeats the
images of each drawn patient and calls scikit-learn. The loop is timed on a few replicates and scaled, because each
replicate takes the same time.

Coverage: patients have one to six images, and differ in the prevalence of the findings and in the scores of their
images. The true score is that of a sample a thousand times as large. A 95 % interval should cover it in 95 of 100
samples. An interval that treats the images as independent covers it less often.
"""

import json
import statistics
import time

import numpy as np
from common import make_parser, summarize
from sklearn import metrics as reference

from hilum.metrics.intervals import (
    ScoreReplicates,
    patient_weights,
    percentile_interval,
    score_replicates,
)
from hilum.metrics.predictions import Predictions

COVERED = ("roc_auc", "avg_precision", "recall", "precision")
COMPARED = ("recall", "precision", "roc_auc", "avg_precision")

#: The simulated targets: log odds of the finding in a typical patient, difference of the logits between positives and
#: negatives, and threshold. The prevalences are about 4 %, 14 % and 39 %.
TYPICAL_LOG_ODDS = np.array([-3.9, -2.3, -0.6])
SHIFTS = np.array([1.6, 1.4, 1.2])
THRESHOLDS = np.array([0.3, 0.4, 0.5])
PREVALENCE_NAMES = ("rare", "uncommon", "common")

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def predictions_of(sample: Sample, thresholds: np.ndarray) -> Predictions:
    """The sample as one object."""
    labels, probabilities, patients = sample
    return Predictions(
        y_true=labels,
        y_score=probabilities,
        image_ids=np.arange(len(labels)),
        patients=patients,
        targets=tuple(f"target {place}" for place in range(labels.shape[1])),
        thresholds=thresholds,
    )


def clustered_sample(patients: int, seed: int) -> Sample:
    """Labels (N, 3) float32, probabilities (N, 3) float32 and patients (N,) of simulated images."""
    draw = np.random.default_rng(seed)
    patient_of = np.repeat(np.arange(patients), draw.integers(1, 7, patients))
    illness, appearance = draw.normal(size=(2, patients, len(SHIFTS)))
    odds = TYPICAL_LOG_ODDS + 1.2 * illness[patient_of]
    labels = (draw.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    noise = 0.7 * appearance[patient_of] + draw.normal(size=odds.shape)
    logits = 0.35 * TYPICAL_LOG_ODDS + SHIFTS * labels + noise
    return labels, (1 / (1 + np.exp(-logits))).astype(np.float32), patient_of


def validation_part(images: int, seed: int = 0) -> Sample:
    """Labels and probabilities, (images, 12) float32, and patients (images,) of a simulated model."""
    draw = np.random.default_rng(seed)
    prevalence = np.linspace(0.03, 0.4, 12)
    labels = (draw.random((images, 12)) < prevalence).astype(np.float32)
    logits = draw.normal(-1.0, 1.2, labels.shape) + labels
    patient_of = draw.integers(max(images * 2 // 3, 2), size=images)
    return labels, (1 / (1 + np.exp(-logits))).astype(np.float32), patient_of


def with_scikit_learn(sample: Sample, replicates: int) -> np.ndarray:
    """Scores of the same bootstrap samples with scikit-learn, (4, replicates, T)."""
    labels, probabilities, patients = sample
    distinct, patient_of = np.unique(patients, return_inverse=True)
    weights = patient_weights(len(distinct), replicates, seed=0)
    scores = np.empty((len(COMPARED), replicates, labels.shape[1]))
    for replicate in range(replicates):
        drawn = np.repeat(np.arange(len(labels)), weights[replicate][patient_of])
        for target in range(labels.shape[1]):
            actual, probability = labels[drawn, target], probabilities[drawn, target]
            predicted = probability >= 0.5
            scores[:, replicate, target] = (
                reference.recall_score(actual, predicted, zero_division=0),
                reference.precision_score(actual, predicted, zero_division=0),
                reference.roc_auc_score(actual, probability),
                reference.average_precision_score(actual, probability),
            )
    return scores


def measure_speed(images: int, replicates: int, runs: int, naive_replicates: int = 3) -> dict[str, object]:
    """Times both `runs` times in turn, after one warm-up run that compares the results."""
    sample = validation_part(images)
    thresholds = np.full(sample[0].shape[1], 0.5)
    ours = score_replicates(predictions_of(sample, thresholds), replicates=replicates).replicates
    theirs = with_scikit_learn(sample, naive_replicates)
    difference = max(
        float(np.abs(ours[score][:naive_replicates] - theirs[row]).max())
        for row, score in enumerate(COMPARED)
    )
    naive, fast = [], []
    for _ in range(runs):
        start = time.perf_counter()
        with_scikit_learn(sample, naive_replicates)
        middle = time.perf_counter()
        score_replicates(predictions_of(sample, thresholds), replicates=replicates)
        fast.append(time.perf_counter() - middle)
        naive.append((middle - start) * replicates / naive_replicates)
    ratios = [slow / quick for slow, quick in zip(naive, fast, strict=True)]
    return {
        "images": images,
        "targets": sample[0].shape[1],
        "replicates": replicates,
        "scikit_learn_seconds": statistics.median(naive),
        "hilum_seconds": statistics.median(fast),
        "largest_difference": difference,
        "speedup": summarize(ratios),
    }


def covers(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether each interval covers the true score; NaN if the interval is undefined."""
    return np.where(np.isnan(low), np.nan, (low <= truth) & (truth <= high))


def measure_coverage(
    simulations: int, patients: int, replicates: int, truth_patients: int, seed: int = 0
) -> dict[str, object]:
    """Proportion of simulations whose 95 % interval covers the true score, by method, score and target.

    The methods are Hilum's interval, the percentiles of its replicates, and the percentiles of samples of images.
    """

    def bootstrap(sample: Sample, sample_replicates: int, draws: int) -> ScoreReplicates:
        return score_replicates(predictions_of(sample, THRESHOLDS), replicates=sample_replicates, seed=draws)

    truth = bootstrap(clustered_sample(truth_patients, seed=seed), 0, 0).estimate
    covered = {
        method: {score: [] for score in COVERED} for method in ("hilum", "percentile", "images_percentile")
    }
    for simulation in range(simulations):
        labels, probabilities, patient_of = clustered_sample(patients, seed=seed + 1 + simulation)
        by_patient = bootstrap((labels, probabilities, patient_of), replicates, simulation)
        by_image = bootstrap((labels, probabilities, np.arange(len(labels))), replicates, simulation)
        for score in COVERED:
            bounds = {
                "hilum": by_patient.interval(score),
                "percentile": percentile_interval(by_patient.replicates[score]),
                "images_percentile": percentile_interval(by_image.replicates[score]),
            }
            for method, (low, high) in bounds.items():
                covered[method][score].append(covers(low, high, truth[score]))
    return {
        "simulations": simulations,
        "patients": patients,
        "replicates": replicates,
        **{
            method: {
                score: dict(zip(PREVALENCE_NAMES, np.nanmean(hits, axis=0).round(4).tolist(), strict=True))
                for score, hits in scores.items()
            }
            for method, scores in covered.items()
        },
    }


def main() -> None:
    """Measures speed and coverage and prints both."""
    parser = make_parser(__doc__, quick="2,000 images, 100 replicates, 20 simulations")
    parser.add_argument("--runs", type=int, default=None, help="timed runs of each (default: 5)")
    parser.add_argument(
        "--simulations", type=int, default=None, help="simulations of the coverage (default: 1,000)"
    )
    arguments = parser.parse_args()
    quick = arguments.quick
    speed = measure_speed(
        2_000 if quick else 26_000, 100 if quick else 1_000, arguments.runs or (3 if quick else 5)
    )
    speedup = speed["speedup"]
    print(
        f"{speed['images']:,} images x {speed['targets']} targets, {speed['replicates']:,} replicates: "
        f"scikit-learn {speed['scikit_learn_seconds']:.1f} s, Hilum {speed['hilum_seconds']:.2f} s, "
        f"{speedup['median']:.0f} times as fast ({speedup['min']:.0f} to {speedup['max']:.0f} in "
        f"{speedup['runs']} runs); largest difference {speed['largest_difference']:.1e}"
    )
    coverage = measure_coverage(
        arguments.simulations or (20 if quick else 1_000),
        100 if quick else 400,
        100 if quick else 1_000,
        20_000 if quick else 400_000,
    )
    print(f"Proportion of {coverage['simulations']:,} simulations whose 95 % interval covers the true score:")
    for method in ("hilum", "percentile", "images_percentile"):
        for score, shares in coverage[method].items():
            listed = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
            print(f"  {method:18}{score:14} {listed}")
    if arguments.json:
        print(json.dumps({"benchmark": "uncertainty", **speed, "coverage": coverage}))


if __name__ == "__main__":
    main()
