import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from hilum.errors import HilumError
from hilum.metrics.ranking import rank
from hilum.metrics.thresholds import (
    Policy,
    call_outs,
    choose_threshold,
    freeze_operating_points,
    parse_policy,
    recall_at_precision,
    resolve_policies,
    resolve_thresholds,
)

TARGETS = ("Edema", "Fracture", "Pleural_Effusion")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [0.5, 0.5, 0.5]),
        (0.2, [0.2, 0.2, 0.2]),
        (1, [1.0, 1.0, 1.0]),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        (np.array([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3]),
        ({"Fracture": 0.3}, [0.5, 0.3, 0.5]),
        ({"pleural effusion": 0.3, "Edema": 0}, [0.0, 0.5, 0.3]),
    ],
)
def test_every_way_to_give_thresholds(given, expected):
    resolved = resolve_thresholds(given, TARGETS)
    assert resolved.dtype == np.float64
    assert resolved.tolist() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Edma": 0.3}, r"no target 'Edma'\. Did you mean 'Edema'\?"),
        ({"Effusion": 0.3, "Pleural_Effusion": 0.4}, "Pleural_Effusion is given twice"),
        ({"Fracture": 1.7}, "Fracture is 1.7"),
        (-0.1, "Edema is -0.1"),
        ([0.5, float("nan"), 0.5], "Fracture is nan"),
        ([0.5, 0.5, "high"], "Pleural_Effusion is 'high'"),
        ([0.5, 0.5], r"2 values for 3 targets .*'Edema': 0\.3"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(HilumError, match=message):
        resolve_thresholds(given, TARGETS)


THREE = ["Edema", "Pleural_Effusion", "Fracture"]


def ranked(labels, probabilities):
    return rank(np.array(labels, dtype=np.float32), np.array(probabilities, dtype=np.float32))


def by_trying_all(ranking, policy):
    """The threshold of a policy by its definition: every distinct probability, highest first."""
    tried = [(float(threshold), ranking.confusion(float(threshold))) for threshold in ranking.thresholds]
    if policy.kind == "recall":
        return next(threshold for threshold, counts in tried if counts.recall >= policy.value)
    if policy.kind == "precision":
        enough = [pair for pair in tried if pair[1].precision >= policy.value]
        if enough:
            return max(enough, key=lambda pair: pair[1].recall)[0]
        return max(tried, key=lambda pair: pair[1].precision)[0]
    if policy.kind == "fbeta":

        def f_beta(counts):
            weight = policy.value**2
            missed = weight * counts.false_negatives
            hits = (1 + weight) * counts.true_positives
            return hits / (hits + missed + counts.false_positives)

        return max(tried, key=lambda pair: round(f_beta(pair[1]), 12))[0]

    def youden(counts):
        return counts.recall + (counts.true_negatives / ranking.negatives if ranking.negatives else 0)

    return max(tried, key=lambda pair: round(youden(pair[1]), 12))[0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1]), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0])),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(
        [
            "recall>=0.9",
            "recall>=0.5",
            "recall>=1",
            "precision>=0.5",
            "precision>=0.9",
            "fbeta",
            "fbeta:0.5",
            "fbeta:1",
            "youden",
        ]
    ),
)
def test_the_threshold_is_the_one_that_trying_all_finds(images, text):
    labels, probabilities = zip(*images, strict=True)
    ranking, policy = ranked(labels, probabilities), parse_policy(text)
    if not ranking.positives:
        assert choose_threshold(ranking, policy, manual=0.37) == 0.37
        return
    threshold = choose_threshold(ranking, policy)
    expected, found = (ranking.confusion(value) for value in (by_trying_all(ranking, policy), threshold))
    assert found == expected
    if policy.kind != "fbeta":  # equal F-beta may differ in the last bit
        assert threshold == by_trying_all(ranking, policy)
    # The number that is chosen counts the same images with scikit-learn, at the precision it is written in.
    again = np.array(probabilities, dtype=np.float32) >= np.float32(json.loads(json.dumps(threshold)))
    assert found.recall == pytest.approx(reference.recall_score(labels, again))


def test_a_share_of_positives_is_counted_in_whole_images():
    # 0.7 of 10 is 7 although 0.7 * 10 is 7.000000000000001 in some orders; and 3 of 3 are needed for 0.9.
    falling = np.linspace(0.9, 0.1, 10)
    for tenths in range(1, 11):
        ranking = ranked([1] * 10, falling)
        threshold = choose_threshold(ranking, f"recall>={tenths / 10}")
        assert ranking.confusion(threshold).true_positives == tenths
    assert ranked([1, 1, 1], [0.9, 0.5, 0.2]).confusion(0.2).recall == 1
    assert choose_threshold(ranked([1, 1, 1], [0.9, 0.5, 0.2]), "recall>=0.9") == pytest.approx(0.2)


def test_probabilities_that_differ_in_the_last_bit_are_told_apart():
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    ranking = ranked([1, 0], [high, low])
    threshold = choose_threshold(ranking, "recall>=0.9")
    assert ranking.confusion(threshold) == (1, 0, 0, 1)
    assert ranking.confusion(float(repr(threshold))) == (1, 0, 0, 1)


def test_tied_images_stay_together():
    ranking = ranked([1, 1, 0, 0, 0], [0.6, 0.6, 0.6, 0.6, 0.1])
    threshold = choose_threshold(ranking, "recall>=0.5")
    assert ranking.confusion(threshold) == (2, 2, 0, 1)


def test_fixed_keeps_the_threshold_given():
    ranking = ranked([1, 0], [0.9, 0.1])
    assert choose_threshold(ranking, "fixed") == 0.5
    assert choose_threshold(ranking, "fixed", manual=0.83) == 0.83


def test_a_precision_never_reached_gives_the_highest_there_is():
    ranking = ranked([0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.1])
    assert choose_threshold(ranking, "precision>=0.9") == pytest.approx(0.8)
    notes = call_outs(ranking, parse_policy("precision>=0.9"), choose_threshold(ranking, "precision>=0.9"))
    assert any("no threshold reaches precision 0.9" in note for note in notes)
    reached = call_outs(ranking, parse_policy("precision>=0.5"), choose_threshold(ranking, "precision>=0.5"))
    assert not any("no threshold" in note for note in reached)


@pytest.mark.parametrize("precision", [0.1, 0.5, 0.6, 0.9, 1.0])
def test_recall_at_precision_is_the_best_point_of_scikit_learns_curve(precision):
    draw = np.random.default_rng(4)
    labels = (draw.random(500) < 0.3).astype(np.float32)
    probabilities = np.round(1 / (1 + np.exp(-(draw.normal(size=500) + labels))), 2).astype(np.float32)
    precisions, recalls, _ = reference.precision_recall_curve(labels, probabilities)
    reached = recalls[:-1][precisions[:-1] >= precision]
    expected = reached.max() if len(reached) and reached.max() > 0 else np.nan
    assert recall_at_precision(rank(labels, probabilities), precision) == pytest.approx(expected, nan_ok=True)


def test_recall_at_precision_without_positives_or_a_threshold_is_nan():
    assert np.isnan(recall_at_precision(ranked([0, 0], [0.9, 0.1]), 0.5))
    assert np.isnan(recall_at_precision(ranked([0, 1], [0.9, 0.1]), 0.9))
    assert np.isnan(recall_at_precision(ranked([], []), 0.9))


@pytest.mark.parametrize(
    ("text", "policy", "written"),
    [
        ("fixed", ("fixed", None), "fixed"),
        (" Youden ", ("youden", None), "youden"),
        ("fbeta", ("fbeta", 2), "fbeta:2"),
        ("fbeta:0.5", ("fbeta", 0.5), "fbeta:0.5"),
        ("recall>=0.9", ("recall", 0.9), "recall>=0.9"),
        ("recall >= .95", ("recall", 0.95), "recall>=0.95"),
        ("precision>=1", ("precision", 1), "precision>=1"),
    ],
)
def test_policies_are_read_and_written(text, policy, written):
    parsed = parse_policy(text)
    assert (parsed.kind, None if np.isnan(parsed.value) else parsed.value) == policy
    assert str(parsed) == written
    assert str(parse_policy(str(parsed))) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "best",
        "recall",
        "recall>0.9",
        "recall>=0",
        "recall>=1.1",
        "recall>=90",
        "recall>=-0.5",
        "recall>=nan",
        "fbeta:0",
        "fbeta:",
        "youden:1",
        None,
        0.9,
    ],
)
def test_other_text_is_refused_with_what_is_allowed(text):
    with pytest.raises(HilumError, match=r"threshold_policy: .* is not a policy") as error:
        parse_policy(text)
    for allowed in ("fixed", "recall>=R", "precision>=P", "fbeta:B", "youden"):
        assert allowed in str(error.value)


def test_policies_by_target_and_their_defaults():
    def written(setting, hand):
        return [str(policy) for policy in resolve_policies(setting, THREE, hand).values()]

    assert written(None, False) == ["recall>=0.9"] * 3
    assert written(None, True) == ["fixed"] * 3
    assert written("youden", True) == ["youden"] * 3
    assert written({"Effusion": "youden", "Fracture": "fbeta"}, False) == ["recall>=0.9", "youden", "fbeta:2"]
    assert written({"Edema": "youden"}, True) == ["youden", "fixed", "fixed"]
    assert list(resolve_policies(None, THREE, False)) == THREE


def test_policies_of_unknown_targets_are_refused():
    with pytest.raises(HilumError, match=r"no target 'Fractur'\. Did you mean 'Fracture'\?"):
        resolve_policies({"Fractur": "youden"}, THREE, False)
    with pytest.raises(HilumError, match="Pleural_Effusion is given twice"):
        resolve_policies({"Effusion": "youden", "Pleural_Effusion": "fixed"}, THREE, False)
    with pytest.raises(HilumError, match="'yuden' is not a policy"):
        resolve_policies({"Edema": "yuden"}, THREE, False)


def validation(seed=0, images=400):
    draw = np.random.default_rng(seed)
    labels = (draw.random((images, 3)) < [0.3, 0.3, 0.1]).astype(np.float32)
    logits = draw.normal(size=labels.shape) + 2 * labels - 1
    return labels, (1 / (1 + np.exp(-logits))).astype(np.float32), draw.integers(0, 130, images)


def test_frozen_points_have_the_scores_of_their_thresholds(make_predictions):
    labels, probabilities, patients = validation()
    labels[::7, 1] = np.nan
    policies = resolve_policies({"Effusion": "precision>=0.8", "Fracture": "fixed"}, THREE, False)
    predictions = make_predictions(labels, probabilities, patients, [0.5, 0.5, 0.4], THREE)
    points = freeze_operating_points(predictions, policies, replicates=100, seed=2)
    assert json.loads(json.dumps(points, allow_nan=False)) == points
    assert list(points) == THREE
    assert [points[target]["policy"] for target in THREE] == ["recall>=0.9", "precision>=0.8", "fixed"]
    assert points["Fracture"]["threshold"] == 0.4
    thresholds = [point["threshold"] for point in points.values()]
    low, high = predictions.with_thresholds(thresholds).bootstrap(100, seed=2).interval("recall")
    for column, point in enumerate(points.values()):
        known = ~np.isnan(labels[:, column])
        actual = labels[known, column]
        predicted = probabilities[known, column] >= np.float32(point["threshold"])
        assert point["recall"] == pytest.approx(reference.recall_score(actual, predicted))
        assert point["precision"] == pytest.approx(reference.precision_score(actual, predicted))
        assert point["specificity"] == pytest.approx(reference.recall_score(actual, predicted, pos_label=0))
        assert point["predicted_positive_rate"] == pytest.approx(predicted.mean())
        assert (point["positives"], point["negatives"]) == ((actual == 1).sum(), (actual == 0).sum())
        assert (point["recall_low"], point["recall_high"]) == (low[column], high[column])
        assert point["recall_low"] < point["recall"] < point["recall_high"]
        assert point["notes"] == []
    assert points["Edema"]["recall"] >= 0.9
    assert points["Pleural_Effusion"]["precision"] >= 0.8


def test_a_target_without_positives_keeps_its_manual_threshold_and_has_no_recall(make_predictions):
    labels, probabilities, patients = validation()
    labels[:, 0], labels[:, 1] = 0, np.nan
    predictions = make_predictions(labels, probabilities, patients, [0.3, 0.6, 0.5], THREE)
    points = freeze_operating_points(predictions, resolve_policies(None, THREE, False), replicates=20)
    assert points["Edema"]["threshold"] == 0.3
    assert points["Edema"]["recall"] is None
    assert points["Edema"]["recall_low"] is None
    assert points["Edema"]["specificity"] > 0
    assert points["Edema"]["notes"] == ["no positives among 400 images: the threshold stays at 0.3"]
    assert points["Pleural_Effusion"]["threshold"] == 0.6
    assert points["Pleural_Effusion"]["predicted_positive_rate"] is None
    assert points["Pleural_Effusion"]["notes"] == ["no image has a known label: the threshold stays at 0.6"]


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold", "notes"),
    [
        ([1] * 10 + [0] * 90, [0.9] * 20 + [0.1] * 80, 0.5, []),
        ([1] * 10 + [0] * 90, [0.9] * 96 + [0.1] * 4, 0.5, ["predicts 96.0% of images positive"]),
        (
            [1] * 10 + [0] * 90,
            [0.5] * 100,
            0.5,
            ["predicts all images positive", "precision 0.100 is not above the prevalence 0.100"],
        ),
        ([1] * 10 + [0] * 90, [0.1] * 100, 0.5, ["nothing is predicted positive"]),
        ([1] * 9 + [0] * 91, [0.9] * 20 + [0.1] * 80, 0.5, ["only 9 images are positive"]),
        ([1] + [0] * 99, [0.9] * 20 + [0.1] * 80, 0.5, ["only 1 image is positive"]),
        (
            [0] * 90 + [1] * 10,
            [0.9] * 20 + [0.1] * 80,
            0.5,
            ["precision 0.000 is not above the prevalence 0.100"],
        ),
        ([1] * 100, [0.9] * 50 + [0.1] * 50, 0.5, []),
    ],
)
def test_call_outs_say_what_a_reader_should_know(labels, probabilities, threshold, notes):
    found = call_outs(ranked(labels, probabilities), Policy("fixed"), threshold)
    assert len(found) == len(notes)
    for note, beginning in zip(found, notes, strict=True):
        assert note.startswith(beginning)
