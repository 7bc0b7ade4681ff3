"""Which epoch is the best: scores compared in order of importance, each with a tolerance.

Recall comes first, but predicting everything positive has a recall of 1. So recall is taken at the thresholds that the
run's policies choose. Where a policy asks for a recall, every epoch has it, and ROC AUC and precision decide. Under any
other policy, a threshold that predicts nearly all images positive counts as a recall of 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hilum.errors import HilumError, nearest
from hilum.metrics.history import Metrics
from hilum.metrics.ranking import NAN, Ranking
from hilum.metrics.scores import mean_of_defined
from hilum.metrics.thresholds import NEARLY_ALL, Policy, choose_threshold
from hilum.run_folder import RunFolder

SCORES = ("recall", "roc_auc", "precision", "avg_precision", "f1")


@dataclass(frozen=True)
class Criterion:
    """One of `SCORES`, as the mean over the targets that have it; a difference up to the tolerance does not count."""

    score: str
    tolerance: float


def parse_rule(texts: Sequence[str]) -> tuple[Criterion, ...]:
    """Reads the setting `best_rule`.

    Raises:
        HilumError: an unknown score, a tolerance that is not from 0 to 1, a score given twice, or no score.

    >>> parse_rule(["recall:0.01", "precision"])
    (Criterion(score='recall', tolerance=0.01), Criterion(score='precision', tolerance=0.0))
    """
    rule: list[Criterion] = []
    for text in texts:
        score, colon, tolerance = text.partition(":")
        score = score.strip()
        if score not in SCORES:
            raise HilumError(
                f"best_rule: there is no score {score!r}.{nearest(score, SCORES)} Scores are {', '.join(SCORES)}."
            )
        if score in [criterion.score for criterion in rule]:
            raise HilumError(f"best_rule: {score} is given twice; the second would have no effect.")
        try:
            rule.append(Criterion(score, float(tolerance) if colon else 0.0))
        except ValueError:
            rule.append(Criterion(score, NAN))
        if not 0 <= rule[-1].tolerance <= 1:
            raise HilumError(f"best_rule: {text!r}: the tolerance must be a number from 0 to 1.")
    if not rule:
        raise HilumError(f"best_rule: it is empty. Give at least one of {', '.join(SCORES)}.")
    return tuple(rule)


class BestEpoch:
    """The best epoch of a run so far.

    Args:
        rule: the scores, the most important first.
        policies: target → how its threshold is chosen.
        manual_thresholds: (targets,) used where a policy is "fixed" or no image is positive.
        patience: number of epochs without a better one before the run stops; None for no early stopping.

    Attributes:
        epoch: the best so far; 0 before the first.
        scores: its means, by name, NaN where no target has the score.
    """

    def __init__(
        self,
        rule: Sequence[Criterion],
        policies: Mapping[str, Policy],
        manual_thresholds: Sequence[float],
        patience: int | None = None,
    ) -> None:
        self.rule, self.policies, self.patience = tuple(rule), policies, patience
        self.manual_thresholds = manual_thresholds
        self.epoch = self._last = 0
        self.scores: dict[str, float] = {}

    def take(self, epoch: int, metrics: Metrics) -> bool:
        """Compares an epoch that has been scored; true if it is the best so far."""
        scores = self.means(metrics, epoch)
        self._last = epoch
        if self.epoch and not self._better(scores):
            return False
        self.epoch, self.scores = epoch, scores
        return True

    @property
    def out_of_patience(self) -> bool:
        """Whether early stopping ends the run: the last `patience` epochs were not better."""
        return self.patience is not None and self._last - self.epoch >= self.patience

    def means(self, metrics: Metrics, epoch: int) -> dict[str, float]:
        """The mean of every score over the targets that have it, on validation at the policies' thresholds."""
        rankings = metrics.rankings(epoch, "val")
        rows = [
            _scores_at_policy(rankings[target], self.policies[target], manual)
            for target, manual in zip(metrics.target_columns, self.manual_thresholds, strict=True)
        ]
        return {name: mean_of_defined(np.array([row[name] for row in rows])) for name in SCORES}

    def _better(self, scores: Mapping[str, float]) -> bool:
        for criterion in self.rule:
            gain = scores[criterion.score] - self.scores[criterion.score]
            if np.isnan(gain):  # a score that one of the two lacks cannot decide
                continue
            # Up to rounding: 0.91 - 0.90 is not larger than 0.01.
            if abs(gain) > criterion.tolerance + 1e-12:
                return bool(gain > 0)
        return False


def _scores_at_policy(ranking: Ranking, policy: Policy, manual: float) -> dict[str, float]:
    counts = ranking.confusion(choose_threshold(ranking, policy, manual))
    recall, precision = counts.recall, counts.precision
    nearly_all = counts.predicted_positives >= NEARLY_ALL * (ranking.positives + ranking.negatives)
    if policy.kind != "recall" and ranking.positives and ranking.negatives and nearly_all:
        recall = 0.0
    if ranking.positives and not counts.predicted_positives:
        precision = 0.0  # otherwise the worst targets would be left out of the mean
    scores = (recall, ranking.roc_auc(), precision, ranking.average_precision(), counts.f1)
    return dict(zip(SCORES, scores, strict=True))


def best_epoch_scores(folder: RunFolder) -> pd.DataFrame:
    """The validation scores of a run's best epoch: one row per target, a column for each of `SCORES`.

    Recall and precision are those of the frozen operating points. Until a run has operating points, and for F1, the
    thresholds are those of its settings.

    Raises:
        HilumError: no epoch has ended, or a file is missing or damaged.
    """
    scores = folder.scores()
    at_best = scores[(scores["epoch"] == folder.best_epoch) & (scores["part"] == "val")].set_index("target")
    found = at_best.reindex(columns=list(SCORES)).astype(float)
    if folder.record.get("operating_points"):
        frozen = pd.DataFrame.from_dict(folder.record["operating_points"], orient="index")
        for name in ("recall", "precision"):
            found[name] = frozen[name].astype(float).reindex(found.index)
    return found


def best_epoch_means(folder: RunFolder) -> dict[str, float]:
    """The mean of each of `best_epoch_scores` over the targets that have it, and the `loss`; NaN if undefined.

    Raises:
        HilumError: as `best_epoch_scores`.
    """
    combined = folder.combined()
    at_best = combined[(combined["epoch"] == folder.best_epoch) & (combined["part"] == "val")]
    means = {name: float(value) for name, value in best_epoch_scores(folder).mean().items()}
    return means | {"loss": float(at_best["loss"].mean()) if len(at_best) else NAN}
