"""Whether a model is as good in every group of images, and whether it uses a shortcut.

A model can score well by a by-product of the finding: chest tubes reveal treated pneumothoraces (Oakden-Rayner et al.
2020, "Hidden stratification", arXiv 1909.12475), portable radiographs reveal very ill patients (Zech et al. 2018, PLOS
Medicine 15(11) e1002683). Within a group whose images all have, or all lack, the by-product it is of no use. So a ROC
AUC that falls when only pairs of images of one group are compared is a sign of a shortcut. The AUC within groups is the
mean of the groups' AUCs, each weighted by its pairs of a positive and a negative: the covariate-adjusted AUC of Janes &
Pepe 2009, doi 10.1093/biomet/asp002, with the pairs as weights.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hilum.metrics.intervals import patient_weights
from hilum.metrics.predictions import Predictions
from hilum.metrics.ranking import NAN, pairs_won
from hilum.metrics.scores import scores_with_intervals

#: A group with fewer positive images or patients than this is marked.
FEWEST = 10

#: A possible shortcut loses at least this AUC within groups, and its column alone has at least this AUC (lower end of
#: its interval).
LEAST_LOSS, LEAST_COLUMN_AUC = 0.03, 0.55

#: From this AUC of the column alone (lower end of its interval) on, the column gives the finding away: these images
#: cannot show whether a model uses the finding or the column.
GIVEN_AWAY = 0.8

SIGNIFICANCE = 0.05


def scores_by_group(
    predictions: Predictions, groups: pd.Series, *, replicates: int = 200, seed: int = 0
) -> pd.DataFrame:
    """The scores in each group, at the same thresholds; groups (N,) names the group of each image.

    Returns:
        `group`, `images`, `patients`, `few` (fewer than `FEWEST` positive images, or patients), then the columns of
        `scores_with_intervals`; a row per group and target.
    """
    tables = []
    for group in sorted(groups.unique()):
        selected = predictions.select(rows=(groups == group).to_numpy())
        table = scores_with_intervals(selected, replicates=replicates, seed=seed)
        table.insert(0, "group", group)
        table.insert(1, "images", len(selected))
        table.insert(2, "patients", selected.patient_count)
        table.insert(3, "few", (table["positives"] < FEWEST) | (selected.patient_count < FEWEST))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def auc_within_groups(
    predictions: Predictions, columns: Mapping[str, pd.Series], *, replicates: int = 200, seed: int = 0
) -> pd.DataFrame:
    """For each column and target the pooled AUC, the AUC within the column's groups, and the loss.

    `columns` maps a name to the group of each image, (N,). The standard deviation over the replicates of the patient
    bootstrap is the standard error.

    Returns:
        A row per column and target: `column`, `target`, `pooled_auc`, `within_auc`, `loss` (their difference) with
        `loss_low` and `loss_high` (95 %), the one-sided `p` of no loss, corrected over all rows (Benjamini-Hochberg);
        `column_auc`, how well the groups alone, ordered by their prevalence, separate positives from negatives, with
        `column_auc_low` and `column_auc_high`; `given_away` (bool), the column alone is as good as a model;
        `possible_shortcut` (bool), that, or AUC is lost within groups that the column separates; and `lack`, why there
        is no AUC within groups, or "".
    """
    codes, count = predictions.patient_codes, predictions.patient_count
    weights = patient_weights(count, replicates, seed).astype(np.float32)
    weights = np.concatenate([np.ones((1, count), np.float32), weights])  # first, each patient once
    rows = []
    for position, target in enumerate(predictions.targets):
        known = ~np.isnan(predictions.y_true[:, position])
        positive = predictions.y_true[known, position] == 1
        y_score = predictions.y_score[known, position].astype(np.float64)
        drawn = weights[:, codes[known]]
        pooled = _share(*_pairs_won(positive, y_score, drawn))
        for column, groups in columns.items():
            group_of = groups.to_numpy()[known]
            within, compared = _within(positive, y_score, drawn, group_of)
            alone = _column_auc(positive, group_of, drawn)
            row = {"column": column, "target": target, **_row(pooled, within, alone, positive, compared)}
            rows.append(row | {"positive_patients": len(np.unique(codes[known][positive]))})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    tested = table["p"].notna()
    table.loc[tested, "p"] = stats.false_discovery_control(table.loc[tested, "p"])
    lost = (table["p"] < SIGNIFICANCE) & (table["loss"] >= LEAST_LOSS)
    table["given_away"] = (table["column_auc_low"] >= GIVEN_AWAY) & (table["positive_patients"] >= FEWEST)
    table["possible_shortcut"] = table["given_away"] | (lost & (table["column_auc_low"] >= LEAST_COLUMN_AUC))
    order = table["column"].map(list(columns).index).argsort(kind="stable")
    return table.drop(columns="positive_patients").iloc[order].reset_index(drop=True)


def describe_shortcut(row: pd.Series) -> str:
    """A possible shortcut, a row of `auc_within_groups`, as a sentence with its figures."""
    finding, column = row["target"].replace("_", " "), row["column"]
    alone = f"{column} alone tells positive from negative with an AUC of {row['column_auc']:.2f}"
    if row["lack"]:
        return (
            f"{finding}: the model may be using {column} instead of the finding, and these images cannot tell: "
            f"{alone}, and {row['lack']}."
        )
    lost = (
        f"the model's AUC is {row['pooled_auc']:.3f} over all images, and {row['within_auc']:.3f} among images "
        f"alike in {column} (lost: {row['loss']:.3f}, 95 % interval {row['loss_low']:.3f} to {row['loss_high']:.3f})"
    )
    return f"{finding}: the model may be using {column}, or something that comes with it. {alone}; {lost}."


def _row(
    pooled: np.ndarray, within: np.ndarray, alone: np.ndarray, positive: np.ndarray, compared: int
) -> dict[str, Any]:
    loss = pooled - within
    lack = ""
    if not positive.any() or positive.all():
        lack = "all known labels are equal" if len(positive) else "no image has a known label"
    elif np.isnan(within[0]):
        lack = "no group has both positive and negative images"
    elif compared < FEWEST:
        lack = f"only {compared} positive images share a group with a negative image"
    error = NAN if lack else _spread(loss[1:])
    spread, z = _spread(alone[1:]), stats.norm.ppf(0.975)
    p = float(stats.norm.sf(loss[0] / error)) if error != 0 else 1.0
    return {
        "pooled_auc": float(pooled[0]),
        "within_auc": NAN if lack else float(within[0]),
        "loss": NAN if lack else float(loss[0]),
        "loss_low": float(loss[0] - z * error),
        "loss_high": float(loss[0] + z * error),
        "p": p,
        "column_auc": float(alone[0]),
        "column_auc_low": float(max(alone[0] - z * spread, 0)),
        "column_auc_high": float(min(alone[0] + z * spread, 1)),
        "lack": lack,
    }


def _spread(replicates: np.ndarray) -> float:
    return float(np.nanstd(replicates, ddof=1)) if np.isfinite(replicates).sum() > 1 else NAN


def _within(
    positive: np.ndarray, y_score: np.ndarray, drawn: np.ndarray, group_of: np.ndarray
) -> tuple[np.ndarray, int]:
    """The AUC within groups of each sample, (R + 1,), and the positives that have a negative in their group."""
    won, pairs, compared = np.zeros(len(drawn)), np.zeros(len(drawn)), 0
    for group in np.unique(group_of):
        rows = group_of == group
        if positive[rows].any() and not positive[rows].all():
            more_won, more_pairs = _pairs_won(positive[rows], y_score[rows], drawn[:, rows])
            won, pairs = won + more_won, pairs + more_pairs
            compared += int(positive[rows].sum())
    return _share(won, pairs), compared


def _column_auc(positive: np.ndarray, group_of: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The AUC of the groups alone, ordered by their prevalence on the full sample, (R + 1,)."""
    if not len(positive):
        return np.full(len(drawn), NAN)
    _, place = np.unique(group_of, return_inverse=True)
    prevalence = np.bincount(place, positive) / np.bincount(place)
    return _share(*_pairs_won(positive, prevalence[place], drawn))


def _pairs_won(positive: np.ndarray, y_score: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`pairs_won` of images: positive (N,) bool, y_score (N,); drawn (R, N) is how often each is drawn."""
    order = np.argsort(y_score, kind="stable")
    ranked = y_score[order]
    if not len(ranked):
        return np.zeros(len(drawn)), np.zeros(len(drawn))
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    times = drawn[:, order]
    positives = np.add.reduceat(times * positive[order], starts, axis=1)
    negatives = np.add.reduceat(times * ~positive[order], starts, axis=1)
    return pairs_won(positives, negatives)


def _share(won: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.divide(won, pairs, out=np.full(len(won), NAN), where=pairs > 0)
