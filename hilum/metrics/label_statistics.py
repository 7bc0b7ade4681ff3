"""What a catalog's labels are like: how common, how many together, which with which, in whom."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from hilum.data.label_policies import UNCERTAIN_CLASS
from hilum.data.oversampling import oversample
from hilum.data.split import AGE_BANDS
from hilum.metrics.intervals import cell_counts, patient_weights, percentile_interval, wilson_interval
from hilum.sources.catalog import Catalog

#: Raw codes (hilum.sources) and the columns that count them.
CODE_COLUMNS = {"positive": 1.0, "negative": 0.0, "uncertain": -1.0, "blank": np.nan}


def prevalence(labels: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    """How common each target is.

    Args:
        labels: (images, targets) of 1.0, 0.0 or NaN (left out).
        targets: their names.

    Returns:
        One row per target, which is the index: `positives`, `negatives`, `left_out` (images), and
        `prevalence` (0..1) of the labelled images with its 95 % interval, `low` and `high`
        (Wilson 1927, "Probable inference, the law of succession, and statistical inference",
        J. Am. Stat. Assoc. 22, 209-212). NaN where no image is labelled.
    """
    positives, negatives = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = positives / (positives + negatives)
        low, high = wilson_interval(share, positives + negatives)
    columns = {
        "positives": positives,
        "negatives": negatives,
        "left_out": np.isnan(labels).sum(axis=0),
        "prevalence": share,
        "low": low,
        "high": high,
    }
    return pd.DataFrame(columns, index=pd.Index(targets, name="target"))


def findings_per_image(labels: np.ndarray) -> pd.Series:
    """Images by their number of positive targets, from 0 to the most that one has; without gaps."""
    counts = np.bincount((labels == 1).sum(axis=1))
    return pd.Series(counts, index=pd.RangeIndex(len(counts), name="findings"), name="images")


def co_occurrence(
    labels: np.ndarray,
    patients: Sequence[int] | np.ndarray,
    targets: Sequence[str],
    *,
    seed: int,
    replicates: int = 400,
) -> pd.DataFrame:
    """Which targets come together: each pair's counts and phi coefficient.

    phi is Pearson's correlation of two binary variables (Yule 1912, "On the methods of measuring
    association between two attributes", J. R. Stat. Soc. 75, 579-652). Its 95 % interval is the
    percentile interval over bootstrap samples of patients.

    Args:
        labels: (images, targets) of 1.0, 0.0 or NaN; an image counts for a pair if both are known.
        patients: (images,) the patient of each.
        targets: names of the columns.
        seed: of the bootstrap.
        replicates: bootstrap samples.

    Returns:
        One row per pair of targets: `first`, `second`, `both` (images positive for both), `either`,
        `labelled`, `phi` (-1..1), `low`, `high`. NaN where one of the two does not vary.
    """
    vectors, cells = np.unique(_codes(labels), axis=0, return_inverse=True)
    _, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    weights = patient_weights(patient_of.max() + 1, replicates, seed)
    drawn = cell_counts(weights, patient_of, cells.ravel(), len(vectors))
    counted = np.bincount(cells.ravel(), minlength=len(vectors))[None].astype(float)
    rows = []
    for first, second in combinations(range(len(targets)), 2):
        codes = vectors[:, [first, second]]
        phi, table = _phi(codes, counted)
        low, high = percentile_interval(_phi(codes, drawn)[0][:, None])
        both, only_first, only_second, neither = table[0].astype(int)
        rows.append(
            {
                "first": targets[first],
                "second": targets[second],
                "both": both,
                "either": both + only_first + only_second,
                "labelled": both + only_first + only_second + neither,
                "phi": phi[0],
                "low": low[0],
                "high": high[0],
            }
        )
    columns = ["first", "second", "both", "either", "labelled", "phi", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _phi(codes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phi (rows,) and the fourfold table (rows, 4) of two targets, from the counts of their vectors.

    Args:
        codes: (vectors, 2) of 1, 0 or 2 (left out).
        counts: (rows, vectors) images.
    """
    table = np.stack(
        [counts[:, (codes == pair).all(axis=1)].sum(axis=1) for pair in ((1, 1), (1, 0), (0, 1), (0, 0))],
        axis=1,
    )
    both, only_first, only_second, neither = table.T
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = np.where(margins > 0, (both * neither - only_first * only_second) / np.sqrt(margins), np.nan)
    return phi, table


def target_vectors(
    labels: np.ndarray, *, observation_min_count: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """How often each whole target vector occurs, the most frequent first.

    Args:
        labels: (images, targets) of 1.0, 0.0 or NaN.
        observation_min_count: if given, the frequencies after oversampling are added.
        seed: of the oversampling's draws.

    Returns:
        Indexed by the vector as it is written in the founding document: one character per target, `P`
        positive, `0` negative, `-` left out. `frequency` (images) and `percent` (0..100); with
        oversampling also `frequency_after` and `percent_after`.
    """
    vectors, cells = np.unique(_codes(labels), axis=0, return_inverse=True)
    names = ["".join("0P-"[code] for code in vector) for vector in vectors]
    cells = cells.ravel()
    frequency = np.bincount(cells, minlength=len(names))
    table = pd.DataFrame(
        {"frequency": frequency, "percent": 100 * frequency / len(cells)},
        index=pd.Index(names, name="vector"),
    )
    if observation_min_count is not None:
        rows = oversample(labels, observation_min_count, seed)
        after = np.bincount(cells[rows], minlength=len(names))
        table["frequency_after"], table["percent_after"] = after, 100 * after / len(rows)
    return table.sort_values(["frequency", "vector"], ascending=[False, True], kind="stable")


def _codes(labels: np.ndarray) -> np.ndarray:
    """1, 0, or 2 where the label is left out, as int8."""
    return np.where(np.isnan(labels), 2, labels).astype(np.int8)


def by_feature(catalog: Catalog) -> pd.DataFrame:
    """How common each target is by view, sex and age band.

    Returns:
        One row per target and level: `target`, `feature` ("View", "Sex", "Age"), `level` (such as
        "PA"), `images` (of that level), then the columns of `prevalence`. A feature that the data
        set does not record, and a level without images, has no rows.
    """
    labels = catalog.labels()
    tables = []
    for feature, level, chosen in _levels(catalog.table):
        if chosen.any():
            table = prevalence(labels[chosen], catalog.targets).reset_index()
            tables.append(table.assign(feature=feature, level=level, images=int(chosen.sum())))
    columns = ["target", "feature", "level", "images"]
    numbers = ["positives", "negatives", "left_out", "prevalence", "low", "high"]
    if not tables:
        return pd.DataFrame(columns=[*columns, *numbers])
    return pd.concat(tables, ignore_index=True)[[*columns, *numbers]]


def _levels(table: pd.DataFrame) -> list[tuple[str, str, np.ndarray]]:
    """Feature, level, and which rows have it."""
    view, male, unknown, age = (
        table[name].to_numpy(dtype=float) for name in ("Orientation_PA", "Sex_Male", "Sex_Unknown", "Age")
    )
    known_sex = ~(unknown == 1)
    levels = [
        ("View", "PA", view == 1),
        ("View", "AP or other", view == 0),
        ("Sex", "male", (male == 1) & known_sex),
        ("Sex", "female", (male == 0) & known_sex),
        ("Sex", "unknown", unknown == 1),
    ]
    for low, high in zip(AGE_BANDS, (*AGE_BANDS[1:], np.inf), strict=True):
        name = f"{low} years and over" if high == np.inf else f"{low} to {high - 1} years"
        levels.append(("Age", name, (age >= low) & (age < high)))
    return levels


def code_counts(codes: pd.DataFrame) -> pd.DataFrame:
    """What the data set says of each target, before any policy.

    Args:
        codes: a column per target of 1 (positive), 0 (negative), -1 (uncertain) or NaN (not mentioned).

    Returns:
        Indexed by target: images that are `positive`, `negative`, `uncertain`, `blank`.
    """
    counts = {
        name: (codes.isna() if np.isnan(code) else codes == code).sum() for name, code in CODE_COLUMNS.items()
    }
    return pd.DataFrame(counts).rename_axis("target")


def label_counts(labels: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    """What training sees of each target, after the policy.

    Args:
        labels: (images, targets) as `hilum.data.label_policies.training_labels` gives them.
        targets: their names.

    Returns:
        Indexed by target: images that are `positive` (1), `negative` (0), `smoothed` (in between), in the
        `uncertain_class` of its own, `left_out`.
    """
    return pd.DataFrame(
        {
            "positive": (labels == 1).sum(axis=0),
            "negative": (labels == 0).sum(axis=0),
            "smoothed": ((labels > 0) & (labels < 1)).sum(axis=0),
            "uncertain_class": (labels == UNCERTAIN_CLASS).sum(axis=0),
            "left_out": np.isnan(labels).sum(axis=0),
        },
        index=pd.Index(targets, name="target"),
    )
