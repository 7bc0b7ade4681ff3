"""How often the comparison of runs claims a difference that does not exist, and how often it finds one that does.

Simulated runs: each image has a difficulty shared by all models, each setting can have its own view of the images,
each seed gives a model with its own skill and calibration, and each model makes its own errors. Images of one patient
share part of their difficulty. Both settings have the same expected scores (for the power, B has more skill), so every
claim about equal settings is false. At the 5 % level, 5 % of them should be made.

A claim about models is false only for "one model a side", whose skill no seed changes. In the other cases the models
do differ, by chance of the seed. Their proportion shows how often that would be taken for a difference of the settings.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass

import numpy as np

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
    """Where the scores' variation comes from; standard deviations are of the logit.

    Attributes:
        seeds: repeats a side.
        seed_skill: of the skill (the positives' mean logit) from seed to seed.
        seed_shift: of the calibration (every image's logit) from seed to seed.
        model_noise: of one model on one image.
        setting_noise: of one setting, with all its seeds, on one image.
        gain: of B's skill over A's.
        split_by_seed: whether each seed evaluates half of the patients, drawn by the seed.
        patients: in the sample.
    """

    seeds: int = 5
    seed_skill: float = 0.15
    seed_shift: float = 0.1
    model_noise: float = 0.5
    setting_noise: float = 0.0
    gain: float = 0.0
    split_by_seed: bool = False
    patients: int = 250


#: Equal settings, 5 repeats a side, same patients; and other cases in which the claim must hold up.
POPULATIONS = {
    "seeds and patients alike": Population(),
    "seeds dominate": Population(seed_skill=0.6, seed_shift=0.4, model_noise=0.2),
    "patients dominate": Population(seed_skill=0.0, seed_shift=0.0, model_noise=1.0),
    "settings that find other patients": Population(setting_noise=0.8),
    "two repeats a side": Population(seeds=2),
    "each seed its own split": Population(split_by_seed=True),
    "a real difference": Population(gain=0.6),
    "one model a side": Population(seeds=1, seed_skill=0.0, seed_shift=0.0, model_noise=0.8),
}


def simulated(population: Population, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and probabilities (2 x seeds, N, 1), A's runs first, and patients (N,).

    One to three images a patient, about a fifth of them positive.
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
        own_view = population.setting_noise * draw.normal(size=len(patients))
        for seed in range(population.seeds):
            skill = 1.5 + gain + population.seed_skill * draw.normal()
            shift = -1.0 + population.seed_shift * draw.normal()
            noise = population.model_noise * draw.normal(size=len(patients))
            logits.append(skill * truth + shift + difficulty + own_view + noise)
            labels.append(np.where(evaluated[seed][patients], truth, np.nan))
    probabilities = 1 / (1 + np.exp(-np.stack(logits)))
    return np.stack(labels)[:, :, None], probabilities[:, :, None].astype(np.float32), patients


def claims(population: Population, simulation: int, replicates: int) -> dict[str, dict[str, bool]]:
    """Whether a difference is claimed: about the models, and, given repeats, about the settings."""
    labels, probabilities, patients = simulated(population, np.random.default_rng([17, simulation]))
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
        values, sampled, degrees = of_one_target(scores, score)
        about = {"models": models_difference(score, values, sampled, degrees, reference, other)}
        if seeds > 1:
            about["settings"] = settings_difference(
                score, values, sampled, degrees, reference, other, paired=population.split_by_seed
            )
        for claim, difference in about.items():
            claimed[claim][score] = difference.p_value <= SIGNIFICANCE
    return claimed


def of_one_target(scores: RunScores, score: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Each run's score, the same over the samples of patients, and the patients' degrees of freedom."""
    return (
        scores.estimate[score][:, 0],
        scores.replicates[score][:, :, 0],
        float(scores.patients[score][:, 0].min() - 1),
    )


def measure(population: Population, simulations: int, replicates: int) -> dict[str, object]:
    """The share of simulations in which a difference is claimed, by claim and score."""
    started = time.perf_counter()
    all_claims = [claims(population, simulation, replicates) for simulation in range(simulations)]
    shares = {
        about: {score: float(np.mean([claimed[about][score] for claimed in all_claims])) for score in SCORES}
        for about in ("models", "settings")
        if all_claims[0][about]
    }
    return {
        "population": asdict(population),
        "claimed": shares,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Runs the simulations and prints how often a difference was claimed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="40 simulations of 100 samples each")
    parser.add_argument("--simulations", type=int, help="of each population (default: 1,000)")
    parser.add_argument("--only", choices=list(POPULATIONS), help="one population alone")
    arguments = parser.parse_args()
    simulations = arguments.simulations or (40 if arguments.quick else 1000)
    replicates = 100 if arguments.quick else 200
    results = {}
    print(f"Share of {simulations:,} simulated comparisons in which a difference is claimed at the 5 % level")
    for name, population in POPULATIONS.items():
        if arguments.only and name != arguments.only:
            continue
        results[name] = measure(population, simulations, replicates)
        for about, shares in results[name]["claimed"].items():
            words = ", ".join(f"{score} {share:.1%}" for score, share in shares.items())
            print(f"{name}, claim about the {about}: {words}", flush=True)
    if arguments.json:
        result = {"benchmark": "comparison", "simulations": simulations, "replicates": replicates}
        print(json.dumps(result | {"results": results}))


if __name__ == "__main__":
    main()
