"""The phantom's patients, studies, views and labels, without pixels.

A latent acuity determines how ill a patient is on a day, and with it the findings, the AP images taken in bed and the
devices. Each finding has a liability, a standard normal sum of shared causes, of the patient's own tendency and of the
day; above one threshold the finding is present, above a lower one the report is uncertain. Frequencies, shares of
uncertain and negated mentions, persistence and correlations follow the CheXpert train index (Irvin et al. 2019, arXiv
1901.07031), frontal AP and PA views of the first four studies. The severity is the liability's position in its tail.
"""

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from hilum.randomness import generator
from hilum.targets import CHEXPERT_FINDINGS, CHEXPERT_TARGETS

#: The findings that make a lung opaque, and that are often reported as "lung opacity" too.
OPACITIES = ("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Lung_Lesion")

#: What devices may depend on: the patient's state, nothing, or one finding (a planted leak).
LEAKS = ("acuity", None, "effusion")

DATASET = "CheXpert-phantom"
COLUMNS = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"),
    *(name.replace("_", " ") for name in CHEXPERT_FINDINGS),
)

_NORMAL = NormalDist()
#: How much of each shared cause stays with a patient from study to study.
_CAUSE_PERSISTENCE = 0.6
_MAX_STUDIES = 12


class Rate(NamedTuple):
    """How often a finding is reported, and its causes."""

    positive: float
    uncertain: float
    negative: float  # mentioned as absent
    persistence: float  # of the liability's own part
    causes: tuple[float, float, float, float]  # loads on acuity, heart failure, infection, injury


RATES = {
    "Enlarged_Cardiomediastinum": Rate(0.051, 0.051, 0.104, 0.35, (0.08, 0.15, 0.0, 0.15)),
    "Cardiomegaly": Rate(0.110, 0.037, 0.051, 0.85, (0.12, 0.55, -0.1, -0.15)),
    "Lung_Lesion": Rate(0.042, 0.007, 0.006, 0.75, (-0.2, -0.15, 0.1, 0.0)),
    "Edema": Rate(0.225, 0.062, 0.097, 0.40, (0.45, 0.50, 0.0, -0.2)),
    "Consolidation": Rate(0.060, 0.126, 0.130, 0.40, (0.15, 0.0, 0.45, 0.0)),
    "Pneumonia": Rate(0.027, 0.086, 0.012, 0.40, (-0.05, 0.0, 0.50, 0.0)),
    "Atelectasis": Rate(0.150, 0.159, 0.006, 0.30, (0.25, 0.05, -0.05, 0.1)),
    "Pneumothorax": Rate(0.080, 0.013, 0.280, 0.85, (0.12, -0.35, -0.1, 0.35)),
    "Pleural_Effusion": Rate(0.335, 0.051, 0.164, 0.60, (0.40, 0.25, 0.15, -0.1)),
    "Pleural_Other": Rate(0.0135, 0.010, 0.001, 0.60, (-0.25, -0.1, 0.1, 0.1)),
    "Fracture": Rate(0.044, 0.004, 0.015, 0.85, (-0.05, -0.15, 0.0, 0.45)),
}
#: "Lung opacity" is reported for most opacities, and for unspecific haze.
_OPACITY_IF_FOUND, _OPACITY_ALONE, _OPACITY_UNCERTAIN, _OPACITY_NEGATIVE = 0.66, 0.30, 0.024, 0.032
_NO_FINDING_IF_CLEAR = 0.90

_AP_LOGIT, _AP_PER_ACUITY = 1.82, 1.25
_LATERAL_IF_PA, _LATERAL_IF_AP, _SECOND_FRONTAL = 0.92, 0.03, 0.018


def cohort_table(images: int, *, seed: int = 0, leak: str | None = "acuity") -> pd.DataFrame:
    """One row per image, in the order of the patients.

    Args:
        images: the number of rows.
        seed: of the phantom; a patient's rows depend only on it and on the patient's number, except the few odd rows
            that CheXpert has too (unknown sex and age, LL and RL views).
        leak: what devices depend on, one of `LEAKS`.

    Returns:
        CheXpert's own columns in its order (`COLUMNS`), labels 1.0, 0.0, -1.0 or NaN; then `patient`, `study`, `view`
        (from 1), `acuity`, `devices` (names separated by spaces) and `severity_<finding>`, 0 (not drawn) to 1, for
        every target.
    """
    rows: list[dict[str, Any]] = []
    patient = 0
    while len(rows) < images:
        patient += 1
        rows += _patient_rows(seed, patient, leak)
    return _with_oddities(pd.DataFrame(rows[:images]), seed)


def _patient_rows(seed: int, patient: int, leak: str | None) -> list[dict[str, Any]]:
    rng = generator(seed, "phantom/patient", patient)
    lasting = rng.standard_normal(4)
    tendency = dict(zip(RATES, rng.standard_normal(len(RATES)), strict=True))
    sex = "Male" if rng.uniform() < 0.59 else "Female"
    age = float(np.clip(rng.normal(60 + 2.5 * lasting[0], 17.5), 18, 90))
    # Ill patients return more often.
    stay = 0.34 + 0.10 * float(np.tanh(lasting[0]))
    studies = min(_MAX_STUDIES, int(rng.geometric(1 - stay)))
    rows = []
    for study in range(1, studies + 1):
        today = generator(seed, "phantom/study", patient, study)
        spread = np.sqrt([_CAUSE_PERSISTENCE, 1 - _CAUSE_PERSISTENCE])
        causes = spread[0] * lasting + spread[1] * today.standard_normal(4)
        common = {"Sex": sex, "Age": min(90, int(age + 0.3 * study)), "acuity": float(causes[0])}
        common |= _labels(causes, tendency, today) | {"patient": patient, "study": study}
        rows += _views(common, leak, today)
    return rows


def _labels(causes: np.ndarray, tendency: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    labels: dict[str, float] = {}
    severities: dict[str, float] = {}
    for name, rate in RATES.items():
        loads = np.array(rate.causes)
        own = np.sqrt(rate.persistence) * tendency[name]
        own += np.sqrt(1 - rate.persistence) * rng.standard_normal()
        liability = float(loads @ causes + np.sqrt(1 - loads @ loads) * own)
        labels[name], severities[name] = _report(rate, 1 - _NORMAL.cdf(liability), rng)
    found = any(severities[name] > 0.25 for name in OPACITIES)
    odds = (_OPACITY_IF_FOUND if found else _OPACITY_ALONE) + 0.07 * float(np.tanh(causes[0]))
    alone = Rate(odds, _OPACITY_UNCERTAIN, _OPACITY_NEGATIVE, 0, (0, 0, 0, 0))
    labels["Lung_Opacity"], severity = _report(alone, rng.uniform(), rng)
    # Reported for another opacity, it needs no haze of its own.
    own_haze = labels["Lung_Opacity"] == 1 and (not found or rng.uniform() < 0.25)
    severities["Lung_Opacity"] = severity if own_haze else 0.0
    reported_clear = rng.uniform() < _NO_FINDING_IF_CLEAR
    clear = reported_clear and not any(labels[name] in (1.0, -1.0) for name in CHEXPERT_TARGETS)
    labels["No_Finding"] = 1.0 if clear else np.nan
    named = {name.replace("_", " "): value for name, value in labels.items()}
    return named | {f"severity_{name}": severities[name] for name in CHEXPERT_TARGETS}


def _report(rate: Rate, tail: float, rng: np.random.Generator) -> tuple[float, float]:
    """The label and the severity of a liability with this tail probability."""
    visible, negated = rng.uniform(size=2)
    if tail < rate.positive:
        return 1.0, 0.12 + 0.88 * (1 - tail / rate.positive)
    if tail < rate.positive + rate.uncertain:
        # Half of the uncertain findings are faintly present.
        return -1.0, 0.03 + 0.12 * float(negated) if visible < 0.5 else 0.0
    rest = 1 - rate.positive - rate.uncertain
    return (0.0 if negated < rate.negative / rest else np.nan), 0.0


def _views(common: dict[str, Any], leak: str | None, rng: np.random.Generator) -> list[dict[str, Any]]:
    acuity = common["acuity"]
    view, lateral, second, devices_draw, mention = rng.uniform(size=5)
    projection = "AP" if view < expit(_AP_LOGIT + _AP_PER_ACUITY * acuity) else "PA"
    present = devices_draw < _device_odds(common, projection, leak)
    devices = _devices(projection, acuity, leak, rng) if present else ""
    # The few uncertain and negated mentions, as in CheXpert.
    absent = -1.0 if mention < 0.009 else 0.0 if mention < 0.064 else np.nan
    common = common | {"devices": devices, "Support Devices": 1.0 if present else absent}
    kinds = ["frontal", "frontal"] if second < _SECOND_FRONTAL else ["frontal"]
    if lateral < (_LATERAL_IF_PA if projection == "PA" else _LATERAL_IF_AP):
        kinds.append("lateral")
    folder = f"{DATASET}/train/patient{common['patient']:05d}/study{common['study']}"
    rows = []
    for number, kind in enumerate(kinds, 1):
        projections = {
            "Frontal/Lateral": kind.capitalize(),
            "AP/PA": projection if kind == "frontal" else np.nan,
        }
        rows.append(common | {"Path": f"{folder}/view{number}_{kind}.jpg", "view": number} | projections)
    return rows


def _device_odds(common: dict[str, Any], projection: str, leak: str | None) -> float:
    if leak is None:
        return 0.5
    if leak == "effusion":
        return 0.96 if common["Pleural Effusion"] == 1 else 0.0
    return float(expit(-0.85 + (0.95 if projection == "AP" else 0.0) + 0.75 * common["acuity"]))


def _devices(projection: str, acuity: float, leak: str | None, rng: np.random.Generator) -> str:
    """At least one device; tubes for the sickest, in bed, unless devices depend on nothing."""
    sick = acuity if leak == "acuity" else 0.0
    in_bed = 1.0 if projection == "AP" or leak != "acuity" else 0.0
    odds = {
        "leads": 0.25 + 0.5 * in_bed,
        "line": 0.35 + 0.12 * in_bed,
        "tube": in_bed * expit(-1.7 + 1.2 * sick),
        "gastric": in_bed * expit(-1.8 + 1.0 * sick),
        "pacemaker": 0.30 - 0.16 * in_bed,
        "drain": 0.08 + 0.05 * in_bed,
    }
    draws = rng.uniform(size=len(odds))
    chosen = [name for (name, chance), draw in zip(odds.items(), draws, strict=True) if draw < chance]
    return " ".join(chosen or ["line"])


def _with_oddities(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """CheXpert's rare rows: one patient of unknown sex, unknown ages as 0, LL and RL views."""
    rng = generator(seed, "phantom/oddities")
    patients = int(table["patient"].max())
    unknown, ageless = rng.permutation(patients)[:2] + 1 if patients > 1 else (1, 0)
    table.loc[table["patient"] == unknown, "Sex"] = "Unknown"
    frontal = table.index[table["Frontal/Lateral"] == "Frontal"].to_numpy()
    odd = rng.choice(frontal, 2, replace=False)
    table.loc[odd[0], "AP/PA"] = "LL"
    if len(table) >= 1000:
        table.loc[table["patient"] == ageless, "Age"] = 0
        table.loc[odd[1], "AP/PA"] = "RL"
    return table[[*COLUMNS, *(column for column in table if column not in COLUMNS)]]
