"""The best epoch is the first by the rule's order; recall that anybody could have counts for nothing."""

import numpy as np
import pandas as pd
import pytest

from hilum.errors import HilumError
from hilum.metrics import Metrics
from hilum.metrics.selection import SCORES, BestEpoch, best_epoch_means, best_epoch_scores, parse_rule
from hilum.metrics.thresholds import parse_policy

LABELS = np.array([[1, 0]] * 4 + [[0, 1]] * 4 + [[0, 0]] * 12, dtype=np.float32)


def metrics_of(*epochs: np.ndarray) -> Metrics:
    """Metrics in which the validation part's logits of each epoch are these, (20, 2)."""
    table = pd.DataFrame(LABELS, index=pd.RangeIndex(20, name="ImageID"), columns=["Edema", "Mass"])
    metrics = Metrics(["Edema", "Mass"], table, table)
    for number, logits in enumerate(epochs, 1):
        for is_validation in (False, True):
            metrics.append_epoch_batch_data(np.arange(20), logits.astype(np.float32), is_validation)
            metrics.close_epoch(number, is_validation)
    return metrics


def followed(metrics: Metrics, rule, policy="recall>=0.9", patience=None) -> BestEpoch:
    policies = dict.fromkeys(metrics.target_columns, parse_policy(policy))
    best = BestEpoch(parse_rule(rule), policies, (0.5, 0.5), patience)
    for epoch in metrics.epochs():
        best.take(epoch, metrics)
    return best


def logits(wrong: int, spread: float = 4.0) -> np.ndarray:
    """Right about all but the last `wrong` negatives, which rank above the positives."""
    values = (LABELS - 0.5) * spread
    values[20 - wrong :] = spread
    return values


def test_the_higher_auc_wins_where_recall_is_the_same():
    best = followed(metrics_of(logits(3), logits(1), logits(2)), ("recall", "roc_auc"))
    assert best.epoch == 2
    assert best.scores["recall"] == 1
    assert best.scores["roc_auc"] == pytest.approx(1 - 1 / 16)
    assert best.scores["precision"] == pytest.approx(4 / 5)


def test_a_difference_within_the_tolerance_is_none_and_the_next_score_decides():
    metrics = metrics_of(logits(2), logits(1))  # AUC 0.875, then 0.9375; precision 0.667, then 0.8
    assert followed(metrics, ("roc_auc:0.0625",)).epoch == 1
    assert followed(metrics, ("roc_auc:0.0624",)).epoch == 2
    assert followed(metrics, ("roc_auc:0.0625", "precision:0.1")).epoch == 2
    assert followed(metrics, ("roc_auc:0.0625", "precision:0.2")).epoch == 1


def test_of_equal_epochs_the_first_is_the_best():
    assert followed(metrics_of(logits(1), logits(1)), ("recall", "roc_auc", "precision")).epoch == 1


def test_calling_everything_positive_is_no_recall():
    everything = np.full((20, 2), 5.0)
    honest = logits(0)
    honest[0] = -1  # misses one of the four
    metrics = metrics_of(everything, honest)
    best = followed(metrics, ("recall", "roc_auc"), policy="fixed")
    assert best.epoch == 2
    assert best.scores["recall"] == pytest.approx((0.75 + 1) / 2)
    assert best.means(metrics, 1)["recall"] == 0


def test_where_a_recall_is_asked_for_its_price_decides_and_not_one_hard_image():
    lost = logits(0)
    lost[0] = -9  # one positive below everything else: all 20 images must be called to have it
    best = followed(metrics_of(logits(14), lost), ("recall:0.01", "roc_auc"), policy="recall>=0.9")
    assert best.scores["recall"] == 1
    assert best.epoch == 2


def test_calling_nothing_positive_has_no_precision_to_be_proud_of():
    best = followed(metrics_of(np.full((20, 2), -5.0)), ("precision",), policy="fixed")
    assert best.scores["precision"] == 0


def test_patience_ends_after_so_many_epochs_without_a_better_one():
    def out(*wrong, patience=2):
        return followed(
            metrics_of(*(logits(each) for each in wrong)), ("roc_auc",), patience=patience
        ).out_of_patience

    assert not out(3, 2, 1)
    assert not out(1, 3)
    assert out(1, 3, 2)
    assert not out(3, 1, 2, 0, 1)
    assert not out(1, 3, 2, 2, patience=None)


@pytest.mark.filterwarnings("ignore:.*undefined there")
def test_a_target_without_positives_is_left_out_of_the_means():
    table = pd.DataFrame(LABELS, index=pd.RangeIndex(20, name="ImageID"), columns=["Edema", "Mass"])
    table["Mass"] = 0.0
    metrics = Metrics(["Edema", "Mass"], table, table)
    metrics.append_epoch_batch_data(np.arange(20), logits(1).astype(np.float32), True)
    metrics.close_epoch(1, True)
    best = followed(metrics, ("recall", "roc_auc"))
    assert (best.epoch, best.scores["recall"]) == (1, 1)
    assert best.scores["roc_auc"] == pytest.approx(1 - 1 / 16)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (("recal",), r"there is no score 'recal'\. Did you mean 'recall'\?"),
        (("recall:x",), "'recall:x': the tolerance must be a number from 0 to 1"),
        (("recall:2",), "the tolerance must be a number from 0 to 1"),
        (("recall:nan",), "the tolerance must be a number from 0 to 1"),
        (("recall", "recall:0.1"), "recall is given twice"),
        ((), "it is empty. Give at least one of recall"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(rule, words):
    with pytest.raises(HilumError, match=f"best_rule: .*{words}"):
        parse_rule(rule)


def test_the_best_epoch_of_a_run_has_its_frozen_recall_and_precision(run_folder):
    folder, metrics = run_folder
    points = {
        target: {"threshold": 0.2, "recall": 0.9, "precision": None} for target in metrics.target_columns
    }
    folder.update(best_epoch=1, operating_points={})
    scores = metrics.scores.query("epoch == 1 and part == 'val'").set_index("target")
    pd.testing.assert_frame_equal(best_epoch_scores(folder), scores[list(SCORES)])
    folder.update(operating_points=points)
    means = best_epoch_means(folder)
    assert means["recall"] == pytest.approx(0.9)
    assert np.isnan(means["precision"])
    assert means["roc_auc"] == pytest.approx(scores["roc_auc"].mean())
    assert means["loss"] == 1
