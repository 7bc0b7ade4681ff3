"""How well a target is predicted without looking at the image: from view, devices, age and sex alone.

A model can learn these from the pixels (a portable AP film and its lines say "very ill") and score well
without having seen the finding; Zech et al. 2018, "Variable generalization performance of a deep
learning model to detect pneumonia in chest radiographs", PLOS Medicine 15(11) e1002683.

There are few different combinations of the features, so images are counted by cell (fold and
combination), and every fit, AUC and bootstrap sample works on the cells.
"""

import numpy as np
import pandas as pd
from scipy import sparse

from hilum.metrics.intervals import cell_counts, patient_weights, percentile_interval
from hilum.metrics.ranking import pairs_won
from hilum.randomness import generator
from hilum.sources.catalog import Catalog

#: What is used alone, and the catalog's columns that it stands for.
FEATURES = {
    "view": ("Orientation_PA",),
    "devices": ("Support Devices",),
    "age": ("Age",),
    "sex": ("Sex_Male", "Sex_Unknown"),
}
ALL_TOGETHER = "all together"

FOLDS = 5

#: A target with fewer positive (or negative) patients than this has no AUC here.
FEWEST_PATIENTS = 2 * FOLDS


def metadata_leaks(catalog: Catalog, *, seed: int, replicates: int = 200) -> pd.DataFrame:
    """The AUC of each feature alone, and of all together, for each target.

    A logistic regression is fitted on four fifths of the patients and scored on the rest, five times;
    the AUC is the mean over the five. Age enters in decades and squared; a value that is not recorded
    is marked as such. The 95 % interval is the percentile interval over bootstrap samples of patients;
    the fits are kept, so it tells the uncertainty of the score, not that of the fit.

    Args:
        catalog: images left out of a target (NaN) do not count for it.
        seed: of the folds and the bootstrap.
        replicates: bootstrap samples.

    Returns:
        One row per feature and target: `feature`, `target`, `positives`, `negatives` (images), `auc`,
        `low`, `high` (0..1; NaN if too few patients are positive or negative). A feature that is not
        recorded, or is the same for all images, has no rows; `unrecorded_features` names it.
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
    columns = ["feature", "target", "positives", "negatives", "auc", "low", "high"]
    order = {name: position for position, name in enumerate([*FEATURES, ALL_TOGETHER])}
    return pd.DataFrame(rows, columns=columns).sort_values(
        "feature", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )


def unrecorded_features(catalog: Catalog) -> list[str]:
    """The features that cannot predict anything: not recorded, or the same for every image."""
    found = _regressors(catalog.table)
    return [name for name in FEATURES if name not in found]


def patient_folds(labels: np.ndarray, patient_of: np.ndarray, seed: int) -> np.ndarray:
    """Deals patients to folds so that each fold has its share of every finding, rare ones first.

    scikit-learn's StratifiedGroupKFold balances one label in a Python loop over the groups; this deals
    by each patient's rarest finding, for all targets at once.

    Args:
        labels: (images, targets) of 1.0, 0.0 or NaN.
        patient_of: (images,) patient of each, 0 to patients - 1.
        seed: of the order within a stratum.

    Returns:
        (patients,) fold of each, 0 to FOLDS - 1.
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
    """Feature -> (images, k) columns for the regression; features that do not vary are left out."""
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
    """The distinct combinations of fold and features, and which of them each image has.

    Attributes:
        of_image: (images,) position of each image's cell.
        count: how many cells there are.
        sets: name of a feature set -> its distinct combinations (U, k), and (count, FOLDS x U) of 0
            and 1, which sums finest cells to folds and combinations.
    """

    def __init__(self, regressors: dict[str, np.ndarray], fold_of: np.ndarray):
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
        shape = (self.count, FOLDS * len(combinations))
        return combinations, sparse.csr_array(
            (np.ones(self.count), (np.arange(self.count), place)), shape=shape
        )


def _target_rows(
    target: str, labels: np.ndarray, cells: _Cells, patient_of: np.ndarray, weights: np.ndarray
) -> list[dict]:
    """A row of the table for each feature set. `labels`: (images,) of one target."""
    counts, drawn, enough = [], [], True
    for value in (1, 0):
        chosen = labels == value
        enough &= len(np.unique(patient_of[chosen])) >= FEWEST_PATIENTS
        counts.append(np.bincount(cells.of_image[chosen], minlength=cells.count)[None].astype(float))
        drawn.append(
            cell_counts(weights, patient_of[chosen], cells.of_image[chosen], cells.count) if enough else None
        )
    rows = []
    for feature, (combinations, summing) in cells.sets.items():
        auc = low = high = np.nan
        if enough:
            folded = [_by_fold(of_class @ summing) for of_class in counts]
            scores = _out_of_fold_scores(combinations, folded[0][0], folded[1][0])
            auc = float(_mean_auc(scores, *folded)[0])
            replicates = _mean_auc(scores, *(_by_fold(of_class @ summing) for of_class in drawn))
            low, high = (float(bound[0]) for bound in percentile_interval(replicates[:, None]))
        positives, negatives = (int(of_class.sum()) for of_class in counts)
        rows.append(
            {
                "feature": feature,
                "target": target,
                "positives": positives,
                "negatives": negatives,
                "auc": auc,
                "low": low,
                "high": high,
            }
        )
    return rows


def _by_fold(counts: np.ndarray) -> np.ndarray:
    """(rows, FOLDS x U) as (rows, FOLDS, U)."""
    return counts.reshape(len(counts), FOLDS, -1)


def _out_of_fold_scores(combinations: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(FOLDS, U) scores of each combination, by the fit that has not seen the fold.

    Args:
        combinations: (U, k) regressors.
        positives: (FOLDS, U) images.
        negatives: (FOLDS, U) images.
    """
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

    Args:
        scores: (FOLDS, U).
        positives: (rows, FOLDS, U) images.
        negatives: (rows, FOLDS, U) images.
    """
    total, defined = np.zeros(len(positives)), np.zeros(len(positives))
    for fold in range(FOLDS):
        distinct, order = np.unique(scores[fold], return_inverse=True)
        ranks = sparse.csr_array(
            (np.ones(len(order)), (np.arange(len(order)), order)), shape=(len(order), len(distinct))
        )
        won, pairs = pairs_won(positives[:, fold] @ ranks, negatives[:, fold] @ ranks)
        total += np.divide(won, pairs, out=np.zeros(len(pairs)), where=pairs > 0)
        defined += pairs > 0
    return np.divide(total, defined, out=np.full(len(total), np.nan), where=defined > 0)
