import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from hilum.errors import HilumError
from hilum.metrics.ranking import rank

FLOATS = {32: np.float32, 64: np.float64}


def drawn(seed, rows, distinct=None, dtype=np.float32):
    draw = np.random.default_rng(seed)
    labels = (draw.random(rows) < 0.3).astype(np.float32)
    labels[:2] = 0, 1
    scores = (
        draw.random(rows) if distinct is None else draw.integers(0, distinct, rows) / max(distinct - 1, 1)
    )
    return labels, scores.astype(dtype)


@st.composite
def ranked_cases(draw):
    """Labels with both classes and unknowns, and probabilities with many ties, 0 and 1 among them."""
    rows = draw(st.integers(2, 40))
    labels = draw(arrays.arrays(np.float32, rows, elements=st.sampled_from([0.0, 1.0, np.nan])))
    labels[:2] = 0, 1
    width = draw(st.sampled_from([32, 64]))
    few = st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0])
    some = st.one_of(few, st.floats(0, 1, width=width))
    return labels, draw(arrays.arrays(FLOATS[width], rows, elements=some))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distinct", [None, 1, 2, 7, 100])
def test_areas_are_those_of_scikit_learn(dtype, distinct):
    labels, scores = drawn(1, 3000, distinct, dtype)
    ranking = rank(labels, scores)
    assert ranking.roc_auc() == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-9)
    assert ranking.average_precision() == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-9
    )


@settings(max_examples=150, deadline=None)
@given(ranked_cases())
def test_areas_are_those_of_scikit_learn_without_the_unknown(case):
    labels, scores = case
    known = ~np.isnan(labels)
    ranking = rank(labels, scores)
    # scikit-learn takes scores for tied whose difference underflows; as whole numbers none does.
    order = np.unique(scores, return_inverse=True)[1][known]
    assert ranking.roc_auc() == pytest.approx(reference.roc_auc_score(labels[known], order), abs=1e-9)
    expected = reference.average_precision_score(labels[known], order)
    assert ranking.average_precision() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(ranked_cases(), st.data())
def test_confusion_is_what_counting_gives(case, data):
    labels, scores = case
    threshold = data.draw(
        st.one_of(st.sampled_from([0.0, 0.5, 0.7, 1.0, *map(float, scores)]), st.floats(0, 1))
    )
    known, reached = ~np.isnan(labels), scores >= scores.dtype.type(threshold)
    counted = [
        int(np.sum(known & (labels == actual) & (reached == predicted)))
        for predicted, actual in ((True, 1), (True, 0), (False, 1), (False, 0))
    ]
    assert list(rank(labels, scores).confusion(threshold)) == counted


@settings(max_examples=100, deadline=None)
@given(ranked_cases())
def test_areas_depend_on_the_order_alone(case):
    labels, scores = case
    distinct, position = np.unique(scores, return_inverse=True)
    squeezed = np.linspace(0.4, 0.6, len(distinct))[position]
    before, after = rank(labels, scores), rank(labels, squeezed)
    assert before.roc_auc() == after.roc_auc()
    assert before.average_precision() == after.average_precision()


@settings(max_examples=100, deadline=None)
@given(ranked_cases(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(case, random):
    labels, scores = case
    order = list(range(len(labels)))
    random.shuffle(order)
    first, second = rank(labels, scores), rank(labels[order], scores[order])
    np.testing.assert_array_equal(first.thresholds, second.thresholds)
    np.testing.assert_array_equal(first.true_positives, second.true_positives)
    np.testing.assert_array_equal(first.false_positives, second.false_positives)


@settings(max_examples=100, deadline=None)
@given(ranked_cases())
def test_area_is_the_chance_to_rank_a_positive_above_a_negative(case):
    labels, scores = case
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None, :]
    chance = np.mean((positive > negative) + 0.5 * (positive == negative))
    assert rank(labels, scores).roc_auc() == pytest.approx(chance, abs=1e-12)


@pytest.mark.parametrize("distinct", [None, 5])
def test_curves_are_those_of_scikit_learn(distinct):
    labels, scores = drawn(2, 500, distinct)
    ranking = rank(labels, scores)
    for ours, theirs in zip(
        ranking.roc_curve(), reference.roc_curve(labels, scores, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for ours, theirs in zip(
        ranking.precision_recall_curve(), reference.precision_recall_curve(labels, scores), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class(label):
    ranking = rank(np.full(4, label), np.array([0.1, 0.9, 0.9, 0.4]))
    counts = ranking.confusion(0.5)
    assert np.isnan(ranking.roc_auc())
    if label:
        assert (ranking.average_precision(), counts.recall, counts.precision) == (1.0, 0.5, 1.0)
        assert counts.f1 == pytest.approx(2 / 3)
        assert np.isnan(ranking.roc_curve()[0]).all()
        assert ranking.lack() == "none of 4 labelled images is negative"
    else:
        assert np.isnan([ranking.average_precision(), counts.recall, counts.precision, counts.f1]).all()
        assert np.isnan(ranking.precision_recall_curve()[0]).all()
        assert ranking.lack() == "none of 4 labelled images is positive"


@pytest.mark.parametrize("rows", [0, 3])
def test_no_known_label(rows):
    ranking = rank(np.full(rows, np.nan), np.full(rows, 0.5, dtype=np.float32))
    assert tuple(ranking.confusion(0.5)) == (0, 0, 0, 0)
    assert np.isnan([ranking.roc_auc(), ranking.average_precision(), ranking.confusion(0.5).f1]).all()
    assert [len(points) for points in ranking.roc_curve()] == [1, 1, 1]
    assert ranking.lack() == "no image has a known label"


def test_single_row():
    ranking = rank(np.array([1.0]), np.array([0.5], dtype=np.float32))
    assert tuple(ranking.confusion(0.5)) == (1, 0, 0, 0)
    assert tuple(ranking.confusion(0.51)) == (0, 0, 1, 0)
    assert ranking.average_precision() == 1.0


def test_nothing_predicted_positive_has_no_precision_but_an_f1_of_0():
    counts = rank(np.array([1.0, 0.0]), np.array([0.2, 0.1])).confusion(0.5)
    assert np.isnan(counts.precision)
    assert (counts.recall, counts.f1) == (0.0, 0.0)


def test_minus_zero_is_zero():
    ranking = rank(np.array([1.0, 0.0]), np.array([-0.0, 0.0], dtype=np.float32))
    assert ranking.roc_auc() == 0.5


def test_threshold_is_compared_in_the_precision_of_the_probabilities():
    assert float(np.float32(0.7)) < 0.7
    ranking = rank(np.array([1.0]), np.array([0.7], dtype=np.float32))
    assert ranking.confusion(0.7).true_positives == 1


def test_whole_numbers_are_probabilities_too():
    assert rank(np.array([1, 0]), np.array([1, 0])).roc_auc() == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.5])
def test_bad_probability_is_named(bad):
    with pytest.raises(HilumError, match=r"Edema: 1 of 3 probabilities .* at ImageID 9\."):
        rank(np.array([1, 0, np.nan]), np.array([0.1, 0.2, bad]), "Edema", [7, 8, 9])


def test_bad_label_is_named():
    with pytest.raises(HilumError, match=r"Edema: 1 of 2 labels .* the first is -1\.0 at row 1"):
        rank(np.array([1.0, -1.0]), np.array([0.1, 0.2]), "Edema")


def test_lengths_must_agree():
    with pytest.raises(HilumError, match=r"y_true is \(2,\) and y_score \(3,\)"):
        rank(np.zeros(2), np.zeros(3))
