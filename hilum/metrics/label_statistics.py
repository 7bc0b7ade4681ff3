"""The labels of a catalog: how common, how many and which together, and how well metadata alone predict them.

A model can learn view, devices, age and sex from the pixels (a portable AP radiograph with lines shows a very ill
patient) and score well without using the finding: Zech et al. 2018, "Variable generalization performance of a deep
learning model to detect pneumonia in chest radiographs", PLOS Medicine 15(11) e1002683.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from hilum.data.label_policies import UNCERTAIN_CLASS
from hilum.data.oversampling import oversample
from hilum.data.split import AGE_BANDS
from hilum.metrics.intervals import cell_counts, patient_weights, percentile_interval, wilson_interval
from hilum.metrics.ranking import pairs_won
from hilum.randomness import generator
from hilum.sources.catalog import Catalog

#: Raw codes (hilum.sources) and the columns that count them.
CODE_COLUMNS = {"positive": 1.0, "negative": 0.0, "uncertain": -1.0, "blank": np.nan}

#: Each metadata feature, and its columns in the catalog.
FEATURES = {
    "view": ("Orientation_PA",),
    "devices": ("Support Devices",),
    "age": ("Age",),
    "sex": ("Sex_Male", "Sex_Unknown"),
}
ALL_TOGETHER = "all together"

FOLDS = 5
#: A target with fewer positive (or negative) patients than this has no AUC of the metadata.
FEWEST_PATIENTS = 2 * FOLDS


def prevalence(labels: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    """How common each target is; labels are (images, targets) of 1.0, 0.0 or NaN (left out).

    Returns:
        One row per target, which is the index: `positives`, `negatives`, `left_out` (images), and `prevalence` (0..1)
        of the labelled images with its 95 % Wilson interval, `low` and `high`; NaN where no image is labelled.
    """
    positives, negatives = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = positives / (positives + negatives)
        low, high = wilson_interval(share, positives + negatives)
    counts = {"positives": positives, "negatives": negatives, "left_out": np.isnan(labels).sum(axis=0)}
    columns = counts | {"prevalence": share, "low": low, "high": high}
    return pd.DataFrame(columns, index=pd.Index(targets, name="target"))


def findings_per_image(labels: np.ndarray) -> pd.Series:
    """Number of images by their number of positive targets, from 0 to the largest, without gaps."""
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
    """Which targets occur together: each pair's counts and phi coefficient.

    phi is Pearson's correlation of two binary variables (Yule 1912, "On the methods of measuring association between
    two attributes", J. R. Stat. Soc. 75, 579-652). Its 95 % interval is the percentile interval over bootstrap samples
    of patients.

    Labels are (images, targets) of 1.0, 0.0 or NaN; an image counts for a pair if both are known.

    Returns:
        One row per pair of targets: `first`, `second`, `both` (images positive for both), `either`, `labelled`, `phi`
        (-1..1), `low`, `high`. NaN where one of the two does not vary.
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
        both, either, labelled = int(table[0, 0]), int(table[0, :3].sum()), int(table[0].sum())
        rows.append((targets[first], targets[second], both, either, labelled, phi[0], low[0], high[0]))
    columns = ["first", "second", "both", "either", "labelled", "phi", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _phi(codes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phi (rows,) and the fourfold table (rows, 4) of two targets, from their vectors' codes and counts."""
    pairs = ((1, 1), (1, 0), (0, 1), (0, 0))
    table = np.stack([counts[:, (codes == pair).all(axis=1)].sum(axis=1) for pair in pairs], axis=1)
    both, only_first, only_second, neither = table.T
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = np.where(margins > 0, (both * neither - only_first * only_second) / np.sqrt(margins), np.nan)
    return phi, table


def target_vectors(
    labels: np.ndarray, *, observation_min_count: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """How often each whole target vector of labels (images, targets) occurs, the most frequent first.

    With `observation_min_count`, the frequencies after oversampling with this count and seed are added.

    Returns:
        Indexed by the vector as in the founding document: one character per target, `P` positive, `0` negative, `-`
        left out. `frequency` (images) and `percent` (0..100); with oversampling also `frequency_after` and
        `percent_after`.
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
        One row per target and level: `target`, `feature` ("View", "Sex", "Age"), `level` (such as "PA"), `images` (of
        that level), then the columns of `prevalence`. A feature that is not recorded, and a level without images, has
        no rows.
    """
    labels = catalog.labels()
    tables = []
    for feature, level, chosen in _levels(catalog.table):
        if chosen.any():
            table = prevalence(labels[chosen], catalog.targets).reset_index()
            tables.append(table.assign(feature=feature, level=level, images=int(chosen.sum())))
    columns = ["target", "feature", "level", "images", "positives", "negatives", "left_out"]
    columns += ["prevalence", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _levels(table: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Feature, level, and a mask of its rows."""
    view, male, unknown, age = (
        table[name].to_numpy(dtype=float) for name in ("Orientation_PA", "Sex_Male", "Sex_Unknown", "Age")
    )
    known_sex = unknown != 1
    yield "View", "PA", view == 1
    yield "View", "AP or other", view == 0
    yield "Sex", "male", (male == 1) & known_sex
    yield "Sex", "female", (male == 0) & known_sex
    yield "Sex", "unknown", unknown == 1
    for low, high in zip(AGE_BANDS, (*AGE_BANDS[1:], np.inf), strict=True):
        name = f"{low} years and over" if high == np.inf else f"{low} to {high - 1} years"
        yield "Age", name, (age >= low) & (age < high)


def code_counts(codes: pd.DataFrame) -> pd.DataFrame:
    """The data set's own labels of each target (index), before any policy.

    From a column per target of codes, 1, 0, -1 or NaN (not mentioned): the number of images that are `positive`,
    `negative`, `uncertain`, `blank`.
    """
    masks = {name: codes.isna() if np.isnan(code) else codes == code for name, code in CODE_COLUMNS.items()}
    return pd.DataFrame({name: mask.sum() for name, mask in masks.items()}).rename_axis("target")


def label_counts(labels: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    """The training labels of each target (index), after the policy.

    From the labels (images, targets) of `hilum.data.label_policies.training_labels`: the number of images that are
    `positive` (1), `negative` (0), `smoothed` (in between), `uncertain_class` (a class of its own), `left_out`.
    """
    masks = {
        "positive": labels == 1,
        "negative": labels == 0,
        "smoothed": (labels > 0) & (labels < 1),
        "uncertain_class": labels == UNCERTAIN_CLASS,
        "left_out": np.isnan(labels),
    }
    counts = {name: mask.sum(axis=0) for name, mask in masks.items()}
    return pd.DataFrame(counts, index=pd.Index(targets, name="target"))


def metadata_leaks(catalog: Catalog, *, seed: int, replicates: int = 200) -> pd.DataFrame:
    """The AUC of each feature alone, and of all together, for each target.

    A logistic regression is fitted on four fifths of the patients and scored on the rest, five times; the AUC is the
    mean over the five. Age enters in decades and squared; a missing value has an indicator. The 95 % interval is the
    percentile interval over bootstrap samples of patients. The fits are not repeated, so it covers the uncertainty of
    the score, not that of the fit. There are few combinations of the features, so images are counted by cell (fold and
    combination).

    Images left out of a target (NaN) do not count for it. `replicates` are bootstrap samples.

    Returns:
        One row per feature and target: `feature`, `target`, `positives`, `negatives` (images), `auc`, `low`, `high`
        (0..1; NaN if too few patients are positive or negative). A feature of `unrecorded_features` has no rows.
    """
    labels = catalog.labels()
    patients, patient_of = np.unique(catalog.table["PatientID"].to_numpy(), return_inverse=True)
    regressors = _regressors(catalog.table)
    rows = []
    if regressors:
        cells = _Cells(regressors, patient_folds(labels, patient_of, seed)[patient_of])
        weights = patient_weights(len(patients), replicates, seed)
        for position, target in enumerate(catalog.targets):
            rows += _target_rows(target, labels[:, position], cells, patient_of, weights)
    rows.sort(key=lambda row: [*FEATURES, ALL_TOGETHER].index(row["feature"]))
    return pd.DataFrame(rows, columns=["feature", "target", "positives", "negatives", "auc", "low", "high"])


def unrecorded_features(catalog: Catalog) -> list[str]:
    """The features that are not recorded, or the same for every image."""
    found = _regressors(catalog.table)
    return [name for name in FEATURES if name not in found]


def patient_folds(labels: np.ndarray, patient_of: np.ndarray, seed: int) -> np.ndarray:
    """Assigns patients to folds so that each fold has its share of every finding, rare findings first.

    scikit-learn's StratifiedGroupKFold balances one label in a Python loop over the groups; this uses each patient's
    rarest finding, for all targets at once.

    Labels are (images, targets) of 1.0, 0.0 or NaN; `patient_of` (images,) is each patient, 0 to patients - 1. The
    result is the fold of each patient, 0 to FOLDS - 1; the seed is of the order within a stratum.
    """
    positive = labels == 1
    rank = np.argsort(np.argsort(positive.sum(axis=0), kind="stable"), kind="stable")
    rarest = np.where(positive, rank, labels.shape[1]).min(axis=1)
    patient_count = patient_of.max() + 1
    stratum = np.full(patient_count, labels.shape[1])
    np.minimum.at(stratum, patient_of, rarest)
    shuffled = generator(seed, "leak folds").permutation(patient_count)
    dealt = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    folds = np.empty(patient_count, dtype=np.int64)
    folds[dealt] = np.arange(patient_count) % FOLDS
    return folds


def _regressors(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Feature -> (images, k) columns for the regression; without features that do not vary."""
    found = {}
    for feature, names in FEATURES.items():
        columns = []
        for name in names:
            values = table[name].to_numpy(dtype=float, na_value=np.nan)
            missing = np.isnan(values)
            if feature == "age":
                decades = np.where(missing, 0.0, np.round(values) / 10 - 5)
                columns += [decades, decades**2, missing]
            else:
                columns += [np.where(missing, 0.0, values), missing]
        varying = [column for column in columns if np.ptp(np.asarray(column, dtype=float)) > 0]
        if varying:
            found[feature] = np.column_stack(varying).astype(float)
    return found


class _Cells:
    """The distinct combinations of fold and features.

    Attributes:
        of_image: (images,) position of each image's cell.
        count: number of cells.
        sets: name of a feature set -> its distinct combinations (U, k), and a (count, FOLDS x U) matrix of 0 and 1 that
            sums cells to folds and combinations.
    """

    def __init__(self, regressors: dict[str, np.ndarray], fold_of: np.ndarray) -> None:
        together = np.column_stack(list(regressors.values()))
        cells, of_image = np.unique(np.column_stack([fold_of, together]), axis=0, return_inverse=True)
        self.of_image, self.count = of_image.ravel(), len(cells)
        folds, start = cells[:, 0].astype(int), 1
        self.sets = {}
        for feature, columns in regressors.items():
            width = columns.shape[1]
            self.sets[feature] = self._set(folds, cells[:, start : start + width])
            start += width
        if len(regressors) > 1:
            self.sets[ALL_TOGETHER] = self._set(folds, cells[:, 1:])

    def _set(self, folds: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, sparse.csr_array]:
        combinations, of_cell = np.unique(values, axis=0, return_inverse=True)
        place = folds * len(combinations) + of_cell.ravel()
        return combinations, _indicators(place, FOLDS * len(combinations))


def _target_rows(
    target: str, labels: np.ndarray, cells: _Cells, patient_of: np.ndarray, weights: np.ndarray
) -> list[dict[str, Any]]:
    """A row of the table for each feature set; labels (images,) of one target."""
    counts, drawn, enough = [], [], True
    for value in (1, 0):
        chosen = labels == value
        enough &= len(np.unique(patient_of[chosen])) >= FEWEST_PATIENTS
        counts.append(np.bincount(cells.of_image[chosen], minlength=cells.count)[None].astype(float))
        drawn.append(
            cell_counts(weights, patient_of[chosen], cells.of_image[chosen], cells.count) if enough else None
        )
    rows = []
    for feature, (distinct, summing) in cells.sets.items():
        auc = low = high = np.nan
        if enough:
            folded = [_by_fold(of_class @ summing) for of_class in counts]
            scores = _out_of_fold_scores(distinct, folded[0][0], folded[1][0])
            auc = float(_mean_auc(scores, *folded)[0])
            replicates = _mean_auc(scores, *(_by_fold(of_class @ summing) for of_class in drawn))
            low, high = (float(bound[0]) for bound in percentile_interval(replicates[:, None]))
        positives, negatives = (int(of_class.sum()) for of_class in counts)
        row = {"feature": feature, "target": target, "positives": positives, "negatives": negatives}
        rows.append(row | {"auc": auc, "low": low, "high": high})
    return rows


def _indicators(columns: np.ndarray, count: int) -> sparse.csr_array:
    """(rows, count) with a 1 in the given column of each row."""
    rows = np.arange(len(columns))
    return sparse.csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(columns), count))


def _by_fold(counts: np.ndarray) -> np.ndarray:
    """(rows, FOLDS x U) as (rows, FOLDS, U)."""
    return counts.reshape(len(counts), FOLDS, -1)


def _out_of_fold_scores(combinations: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(FOLDS, U) scores of each combination (U, k), by the fit on the other folds' images (FOLDS, U)."""
    from sklearn.linear_model import LogisticRegression

    scores = np.zeros(positives.shape)
    classes = np.repeat([1, 0], len(combinations))
    stacked = np.concatenate([combinations, combinations])
    for fold in range(FOLDS):
        others = np.arange(FOLDS) != fold
        weight = np.concatenate([positives[others].sum(axis=0), negatives[others].sum(axis=0)])
        if weight[classes == 1].any() and weight[classes == 0].any():
            fit = LogisticRegression(solver="newton-cholesky")
            fit.fit(stacked[weight > 0], classes[weight > 0], sample_weight=weight[weight > 0])
            scores[fold] = fit.decision_function(combinations)
    return scores


def _mean_auc(scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """The mean over the folds of the AUC in each, (rows,); folds without both classes are left out.

    Scores are (FOLDS, U); positives and negatives (rows, FOLDS, U) images.
    """
    total, defined = np.zeros(len(positives)), np.zeros(len(positives))
    for fold in range(FOLDS):
        distinct, order = np.unique(scores[fold], return_inverse=True)
        ranks = _indicators(order, len(distinct))
        won, pairs = pairs_won(positives[:, fold] @ ranks, negatives[:, fold] @ ranks)
        total += np.divide(won, pairs, out=np.zeros(len(pairs)), where=pairs > 0)
        defined += pairs > 0
    return np.divide(total, defined, out=np.full(len(total), np.nan), where=defined > 0)
