import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from hilum.errors import HilumError
from hilum.metrics import combined_scores, itemized_scores
from hilum.metrics.intervals import patient_weights
from hilum.metrics.scores import (
    COMBINED_COLUMNS,
    ITEMIZED_COLUMNS,
    REPLICATED_SCORES,
    combined_with_intervals,
    mean_with_interval,
    scores_with_intervals,
)

TARGETS = ["Edema", "Fracture", "Pneumonia", "Atelectasis"]
THRESHOLDS = [0.5, 0.3, 0.7, 0.5]
NONE = np.nan


def epoch(seed=0, rows=800, unknown=0.0):
    draw = np.random.default_rng(seed)
    labels = (draw.random((rows, 4)) < [0.1, 0.3, 0.5, 0.7]).astype(np.float32)
    probabilities = draw.random((rows, 4)).astype(np.float32)
    labels[draw.random(labels.shape) < unknown] = np.nan
    return labels, probabilities


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_itemized_scores_are_those_of_scikit_learn(unknown):
    labels, probabilities = epoch(unknown=unknown)
    table = itemized_scores(labels, probabilities, TARGETS, THRESHOLDS)
    assert tuple(table.columns) == ITEMIZED_COLUMNS
    assert table["target"].tolist() == TARGETS
    for column, row in enumerate(table.itertuples()):
        known = ~np.isnan(labels[:, column])
        actual, scores = labels[known, column], probabilities[known, column]
        predicted = scores >= np.float32(THRESHOLDS[column])
        assert (row.positives, row.negatives) == (np.sum(actual == 1), np.sum(actual == 0))
        assert (row.predicted_positives, row.true_positives) == (
            predicted.sum(),
            (predicted & (actual == 1)).sum(),
        )
        assert row.recall == pytest.approx(reference.recall_score(actual, predicted), abs=1e-6)
        assert row.precision == pytest.approx(reference.precision_score(actual, predicted), abs=1e-6)
        assert row.f1 == pytest.approx(reference.f1_score(actual, predicted), abs=1e-6)
        assert row.roc_auc == pytest.approx(reference.roc_auc_score(actual, scores), abs=1e-9)
        assert row.avg_precision == pytest.approx(reference.average_precision_score(actual, scores), abs=1e-9)
        assert row.threshold == THRESHOLDS[column]


def test_undefined_scores_are_nan_and_never_0():
    labels = np.array([[0, 1, 1, NONE], [0, 1, 0, NONE]])
    probabilities = np.array([[0.9, 0.9, 0.1, 0.5], [0.1, 0.2, 0.2, 0.5]])
    table = itemized_scores(labels, probabilities, TARGETS, [0.5] * 4).set_index("target")
    scores = table[["recall", "precision", "f1", "roc_auc", "avg_precision"]]
    expected = {
        "Edema": [NONE] * 5,  # no positives
        "Fracture": [0.5, 1.0, 2 / 3, NONE, 1.0],  # no negatives
        "Pneumonia": [0.0, NONE, 0.0, 0.0, 0.5],  # nothing predicted positive
        "Atelectasis": [NONE] * 5,  # nothing known
    }
    np.testing.assert_allclose(scores.to_numpy(), [expected[target] for target in scores.index], atol=1e-12)
    assert table["predicted_positives"].tolist() == [1, 1, 0, 0]


def test_tables_are_read_by_name():
    labels, probabilities = (pd.DataFrame(values, columns=TARGETS) for values in epoch())
    plain = itemized_scores(labels, probabilities, TARGETS, THRESHOLDS)
    turned = itemized_scores(labels[TARGETS[::-1]], probabilities, TARGETS, THRESHOLDS)
    pd.testing.assert_frame_equal(plain, turned)
    turned = combined_scores(labels, (probabilities[TARGETS[::-1]] > 0.5).astype(int))
    assert turned == combined_scores(labels, (probabilities > 0.5).astype(int))


def test_bad_probability_is_named_with_its_image():
    index = pd.Index([101, 102, 103], name="ImageID")
    labels = pd.DataFrame(0.0, index=index, columns=TARGETS)
    probabilities = labels + 0.5
    probabilities.loc[102:, "Pneumonia"] = np.nan
    with pytest.raises(HilumError, match=r"Pneumonia: 2 of 3 probabilities .* nan at ImageID 102"):
        itemized_scores(labels, probabilities, TARGETS, THRESHOLDS)


@pytest.mark.parametrize("name", ["recall", "precision", "f1"])
@pytest.mark.parametrize("average", ["samples", "micro", "macro", "weighted"])
def test_combined_scores_are_those_of_scikit_learn(name, average):
    labels, probabilities = epoch()
    predictions = probabilities >= 0.5
    score = getattr(reference, f"{name}_score")
    expected = score(labels, predictions, average=average, zero_division=0)
    assert combined_scores(labels, predictions, average)[name] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_samples_average_equals_scikit_learn_for_any_table(data):
    shape = (data.draw(st.integers(1, 12)), data.draw(st.integers(2, 5)))
    labels = data.draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 1)))
    predictions = data.draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 1)))
    scores = combined_scores(labels, predictions)
    averaged = {"average": "samples", "zero_division": 0}
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions), abs=1e-12)
    assert scores["hamming_loss"] == pytest.approx(reference.hamming_loss(labels, predictions), abs=1e-12)
    assert scores["recall"] == pytest.approx(
        reference.recall_score(labels, predictions, **averaged), abs=1e-12
    )
    assert scores["precision"] == pytest.approx(
        reference.precision_score(labels, predictions, **averaged), abs=1e-12
    )
    assert scores["f1"] == pytest.approx(reference.f1_score(labels, predictions, **averaged), abs=1e-12)


def test_unknown_labels_count_neither_for_nor_against():
    labels = np.array([[1, NONE, 0], [NONE, NONE, NONE], [0, 1, NONE]])
    predictions = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]])
    scores = combined_scores(labels, predictions)
    assert scores["accuracy"] == 0.5  # the first image is right, the third wrong, the second unknown
    assert scores["hamming_loss"] == 0.25  # one of four known labels
    assert (scores["recall"], scores["precision"], scores["f1"]) == (0.5, 0.5, 0.5)
    assert combined_scores(labels, predictions, "micro")["precision"] == 1.0


def test_macro_leaves_out_what_is_undefined():
    labels, predictions = np.array([[1, 0, 1], [0, 0, 1]]), np.array([[1, 1, 0], [0, 0, 0]])
    scores = combined_scores(labels, predictions, "macro")
    assert scores["recall"] == 0.5  # 1 and 0; the second target has no positives
    assert scores["precision"] == 1.0  # 1; the third is never predicted
    assert scores["f1"] == 0.5


@pytest.mark.parametrize("average", ["samples", "micro", "macro", "weighted"])
@pytest.mark.parametrize("rows", [0, 2])
def test_nothing_known_gives_nan(average, rows):
    scores = combined_scores(np.full((rows, 3), np.nan), np.zeros((rows, 3)), average)
    assert list(scores) == ["accuracy", "hamming_loss", "recall", "precision", "f1"]
    assert np.isnan(list(scores.values())).all()


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_no_positives_at_all_gives_nan_for_averages_over_targets(average):
    scores = combined_scores(np.zeros((3, 2)), np.ones((3, 2)), average)
    assert np.isnan([scores["recall"], scores["precision"], scores["f1"]]).all()
    assert (scores["accuracy"], scores["hamming_loss"]) == (0.0, 1.0)


def test_mistakes_are_named():
    labels, probabilities = epoch(rows=3)
    with pytest.raises(HilumError, match=r"Did you mean 'samples'\?"):
        combined_scores(labels, labels, "sample")
    with pytest.raises(HilumError, match="probabilities need a threshold first"):
        combined_scores(labels, probabilities)
    with pytest.raises(HilumError, match=r"y_true is \(3, 4\) and y_pred \(3, 3\)"):
        combined_scores(labels, labels[:, :3])
    with pytest.raises(HilumError, match="target 0: 1 of 3 labels"):
        combined_scores(np.where(np.eye(3, 4, k=0) * [1, 0, 0, 0], -1, labels), labels)
    with pytest.raises(HilumError, match="3 thresholds for 4 targets"):
        itemized_scores(labels, probabilities, TARGETS, [0.5] * 3)
    with pytest.raises(HilumError, match=r"y_score has no column 'Fracture'. Did you mean 'Fractures'\?"):
        itemized_scores(
            labels, pd.DataFrame(probabilities, columns=["Edema", "Fractures", "a", "b"]), TARGETS, THRESHOLDS
        )
    tables = [pd.DataFrame(labels, columns=TARGETS, index=index) for index in ([1, 2, 3], [1, 3, 2])]
    with pytest.raises(HilumError, match="not of the same images in the same order"):
        itemized_scores(*tables, TARGETS, THRESHOLDS)


def test_scores_with_intervals_are_the_itemized_ones_and_the_counts_add_up(make_predictions):
    draw = np.random.default_rng(2)
    labels = (draw.random((400, 2)) < (0.3, 0.1)).astype(float)
    labels[:40, 0] = np.nan
    probabilities = np.clip(0.2 * np.nan_to_num(labels) + 0.8 * draw.random((400, 2)), 0, 1)
    patients, targets, thresholds = np.arange(400) // 2, ["Edema", "Mass"], [0.4, 0.6]
    predictions = make_predictions(labels, probabilities, patients, thresholds, targets)
    table = scores_with_intervals(predictions, replicates=200)
    itemized = itemized_scores(labels, probabilities, targets, thresholds)
    pd.testing.assert_frame_equal(table[itemized.columns], itemized)
    counts = table["true_positives"] + table["false_negatives"], table["positives"]
    pd.testing.assert_series_equal(*counts, check_names=False)
    np.testing.assert_allclose(table["specificity"], table["true_negatives"] / table["negatives"])
    for score in REPLICATED_SCORES:
        assert (table[f"{score}_low"] < table[score]).all()
        assert (table[score] < table[f"{score}_high"]).all()


def test_a_target_without_positives_has_a_reason_and_no_interval(make_predictions):
    predictions = make_predictions(np.zeros((6, 1)), np.linspace(0, 1, 6)[:, None])
    table = scores_with_intervals(predictions, replicates=100)
    (row,) = table.to_dict("records")
    assert row["lack"] == "none of 6 labelled images is positive"
    assert np.isnan([row["recall"], row["recall_low"], row["recall_high"], row["roc_auc"]]).all()
    assert row["specificity"] == pytest.approx(0.5)


def test_combined_intervals_are_the_quantiles_of_the_scores_of_drawn_patients(make_predictions):
    draw = np.random.default_rng(8)
    labels = (draw.random((90, 3)) < 0.3).astype(float)
    labels[:9, 1] = np.nan
    labels[4] = np.nan  # an image without a known label counts in no score
    probabilities = draw.random((90, 3))
    patients, thresholds = np.arange(90) // 3, [0.4, 0.5, 0.6]
    found = combined_with_intervals(
        make_predictions(labels, probabilities, patients, thresholds), replicates=100, seed=3
    )
    predictions = (probabilities >= thresholds).astype(int)
    expected = combined_scores(labels, predictions)
    replicates = []
    for weights in patient_weights(30, 100, 3):
        rows = np.concatenate(
            [np.flatnonzero(patients == patient) for patient in np.repeat(np.arange(30), weights)]
        )
        replicates.append(combined_scores(labels[rows], predictions[rows]))
    for name in COMBINED_COLUMNS:
        assert found[name] == pytest.approx(expected[name])
        low, high = np.quantile([replicate[name] for replicate in replicates], [0.025, 0.975])
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx((low, high))


def test_one_patient_has_combined_scores_and_no_interval(make_predictions):
    predictions = make_predictions(np.ones((3, 1)), np.full((3, 1), 0.7), np.zeros(3))
    found = combined_with_intervals(predictions, replicates=100)
    assert found["recall"] == 1
    assert np.isnan([found["recall_low"], found["recall_high"]]).all()


def test_the_mean_is_over_the_targets_that_have_the_score(make_predictions):
    draw = np.random.default_rng(6)
    labels = (draw.random((200, 3)) < 0.4).astype(float)
    labels[:, 2] = 0
    y_score = np.clip(0.3 * labels + 0.7 * draw.random((200, 3)), 0, 1)
    bootstrap = make_predictions(labels, y_score, np.arange(200) // 2).bootstrap(200)
    found = mean_with_interval(bootstrap, "recall")
    assert found["mean"] == pytest.approx(bootstrap.estimate["recall"][:2].mean())
    assert found["low"] < found["mean"] < found["high"]
    none = mean_with_interval(make_predictions(np.zeros((4, 1)), np.zeros((4, 1))).bootstrap(100), "recall")
    assert np.isnan(list(none.values())).all()
