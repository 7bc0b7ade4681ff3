"""Comparison of runs: how often it claims a difference that does not exist, and how often it detects a real one.

The runs are simulated. Each image has a difficulty that all models share, and images of one patient share part of it.
Each setting can have its own effect on each image, each seed has its own skill and calibration, and each model makes
its own errors. Both settings have the same expected scores (in "a real difference", B has more skill), so every claim
about equal settings is false. At the 5 % level, a difference should be claimed in 5 % of the simulations.

A claim about models is false only in "one run per setting", where the seed does not change the skill. In the other
cases the models differ because of the seed. Their proportion shows how often a difference between seeds would be
mistaken for a difference between settings.
"""

import json
import time
from dataclasses import asdict, dataclass

import numpy as np
from common import make_parser

from hilum.metrics.comparison import (
    SIGNIFICANCE,
    RunScores,
    models_difference,
    score_runs,
    settings_difference,
)
from hilum.metrics.predictions import Predictions

SCORES = ("recall", "roc_auc", "avg_precision")


@dataclass(frozen=True)
class Population:
    """Sources of variation of the scores. Standard deviations are on the scale of the logit.

    Attributes:
        seeds: number of runs per setting.
        seed_skill: standard deviation of the skill (mean logit of the positives) between seeds.
        seed_shift: standard deviation of the calibration (logit of every image) between seeds.
        model_noise: standard deviation of the error of one model on one image.
        setting_noise: standard deviation of the effect of one setting, with all its seeds, on one image.
        gain: skill of B minus skill of A.
        split_by_seed: whether each seed evaluates its own random half of the patients.
        patients: number of patients in the sample.
    """

    seeds: int = 5
    seed_skill: float = 0.15
    seed_shift: float = 0.1
    model_noise: float = 0.5
    setting_noise: float = 0.0
    gain: float = 0.0
    split_by_seed: bool = False
    patients: int = 250


#: Equal settings with 5 repeats and the same patients, and harder cases.
POPULATIONS = {
    "seeds and patients vary equally": Population(),
    "seeds dominate": Population(seed_skill=0.6, seed_shift=0.4, model_noise=0.2),
    "patients dominate": Population(seed_skill=0.0, seed_shift=0.0, model_noise=1.0),
    "settings that detect different patients": Population(setting_noise=0.8),
    "two runs per setting": Population(seeds=2),
    "each seed with its own split": Population(split_by_seed=True),
    "a real difference": Population(gain=0.6),
    "one run per setting": Population(seeds=1, seed_skill=0.0, seed_shift=0.0, model_noise=0.8),
}


def simulate(population: Population, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and probabilities (2 x seeds, N, 1), runs of A first, and patients (N,).

    Each patient has one to three images; about a fifth of the images are positive.
    """
    images_of = draw.integers(1, 4, population.patients)
    patients = np.repeat(np.arange(population.patients), images_of)
    sick = draw.random(population.patients) < 0.3
    truth = sick[patients] & (draw.random(len(patients)) < 0.7)
    difficulty = 0.7 * draw.normal(size=population.patients)[patients] + 0.7 * draw.normal(size=len(patients))
    logits, labels = [], []
    evaluated = [
        draw.permutation(population.patients) % 2 == 0
        if population.split_by_seed
        else np.ones(population.patients, dtype=bool)
        for _ in range(population.seeds)
    ]
    for gain in (0.0, population.gain):
        setting_effect = population.setting_noise * draw.normal(size=len(patients))
        for seed in range(population.seeds):
            skill = 1.5 + gain + population.seed_skill * draw.normal()
            shift = -1.0 + population.seed_shift * draw.normal()
            noise = population.model_noise * draw.normal(size=len(patients))
            logits.append(skill * truth + shift + difficulty + setting_effect + noise)
            labels.append(np.where(evaluated[seed][patients], truth, np.nan))
    probabilities = 1 / (1 + np.exp(-np.stack(logits)))
    return np.stack(labels)[:, :, None], probabilities[:, :, None].astype(np.float32), patients


def claims(population: Population, simulation: int, replicates: int) -> dict[str, dict[str, bool]]:
    """Whether a difference is claimed: about the models, and, given repeats, about the settings."""
    labels, probabilities, patients = simulate(population, np.random.default_rng([17, simulation]))
    seeds = population.seeds
    reference, other = list(range(seeds)), list(range(seeds, 2 * seeds))
    matched_to = [[run % seeds] if population.split_by_seed else reference for run in range(2 * seeds)]
    runs = [
        Predictions(
            y_true=labels[run],
            y_score=probabilities[run],
            image_ids=np.arange(len(patients)),
            patients=patients,
            targets=("finding",),
            thresholds=np.array([0.5]),
        )
        for run in range(2 * seeds)
    ]
    scores = score_runs(runs, matched_to, replicates=replicates, seed=simulation)
    claimed: dict[str, dict[str, bool]] = {"models": {}, "settings": {}}
    for score in SCORES:
        values, replicates_of_score, degrees = first_target(scores, score)
        differences = {
            "models": models_difference(score, values, replicates_of_score, degrees, reference, other)
        }
        if seeds > 1:
            differences["settings"] = settings_difference(
                score, values, replicates_of_score, degrees, reference, other, paired=population.split_by_seed
            )
        for claim, difference in differences.items():
            claimed[claim][score] = difference.p_value <= SIGNIFICANCE
    return claimed


def first_target(scores: RunScores, score: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores of the runs, their bootstrap replicates, and the degrees of freedom of the patients."""
    return (
        scores.estimate[score][:, 0],
        scores.replicates[score][:, :, 0],
        float(scores.patients[score][:, 0].min() - 1),
    )


def measure(population: Population, simulations: int, replicates: int) -> dict[str, object]:
    """The proportion of simulations in which a difference is claimed, by claim and score."""
    started = time.perf_counter()
    all_claims = [claims(population, simulation, replicates) for simulation in range(simulations)]
    proportions = {
        claim: {score: float(np.mean([claimed[claim][score] for claimed in all_claims])) for score in SCORES}
        for claim in ("models", "settings")
        if all_claims[0][claim]
    }
    return {
        "population": asdict(population),
        "claimed": proportions,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Runs the simulations and prints how often they claim a difference."""
    parser = make_parser(__doc__, quick="40 simulations of 100 samples each")
    parser.add_argument("--simulations", type=int, help="simulations of each population (default: 1,000)")
    parser.add_argument("--only", choices=list(POPULATIONS), help="run only this population")
    arguments = parser.parse_args()
    simulations = arguments.simulations or (40 if arguments.quick else 1000)
    replicates = 100 if arguments.quick else 200
    results = {}
    print(f"Proportion of {simulations:,} simulated comparisons that claim a difference at the 5 % level")
    for name, population in POPULATIONS.items():
        if arguments.only and name != arguments.only:
            continue
        results[name] = measure(population, simulations, replicates)
        for claim, proportions in results[name]["claimed"].items():
            text = ", ".join(f"{score} {proportion:.1%}" for score, proportion in proportions.items())
            print(f"{name}, claim about the {claim}: {text}", flush=True)
    if arguments.json:
        result = {"benchmark": "comparison", "simulations": simulations, "replicates": replicates}
        print(json.dumps(result | {"results": results}))


if __name__ == "__main__":
    main()
