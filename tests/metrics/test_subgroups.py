"""AUC within groups against brute force; shortcuts are named where there are some, and hardly ever elsewhere."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from hilum.metrics.predictions import Predictions
from hilum.metrics.scores import itemized_scores
from hilum.metrics.subgroups import auc_within_groups, describe_shortcut, scores_by_group


def predictions(y_true, y_score, patients, thresholds, targets=None):
    """These arrays as one object; targets are numbered unless given."""
    return Predictions(
        y_true=y_true,
        y_score=y_score,
        image_ids=np.arange(len(y_true)),
        patients=patients,
        targets=targets or [str(column) for column in range(len(thresholds))],
        thresholds=thresholds,
    )


def simulated(shortcut: float, seed: int, images: int = 600) -> tuple[np.ndarray, ...]:
    """A finding, a correlated column, and a model that uses the column with this weight next to the finding.

    Returns:
        Labels and probabilities (N, 1), patients (N,), and the column as words (N,).
    """
    draw = np.random.default_rng(seed)
    patients = np.arange(images) // 2
    labels = (draw.random(images) < 0.25).astype(float)
    with_devices = draw.random(images) < np.where(labels == 1, 0.8, 0.3)
    score = 1.2 * labels + shortcut * with_devices + draw.normal(0, 1, images)
    words = pd.Series(np.where(with_devices, "with", "without"))
    return labels[:, None], expit(score)[:, None], patients, words


def test_the_auc_within_groups_is_that_of_all_pairs_of_one_group():
    draw = np.random.default_rng(1)
    labels = (draw.random((120, 1)) < 0.4).astype(float)
    labels[:10] = np.nan
    probabilities = np.round(0.3 * np.nan_to_num(labels) + draw.random((120, 1)) * 0.7, 1)  # with ties
    groups = pd.Series(draw.choice(["a", "b", "c"], 120))
    won = pairs = 0.0
    for i in range(10, 120):
        for j in range(10, 120):
            if labels[i] == 1 and labels[j] == 0 and groups[i] == groups[j]:
                pairs += 1
                won += float(probabilities[i, 0] > probabilities[j, 0])
                won += 0.5 * float(probabilities[i, 0] == probabilities[j, 0])
    (row,) = auc_within_groups(
        predictions(labels, probabilities, np.arange(120), [0.5], ["Edema"]),
        {"group": groups},
        replicates=100,
    ).to_dict("records")
    assert row["within_auc"] == pytest.approx(won / pairs, abs=1e-12)
    assert row["pooled_auc"] == pytest.approx(roc_auc_score(labels[10:], probabilities[10:]), abs=1e-12)
    assert row["loss"] == pytest.approx(row["pooled_auc"] - row["within_auc"])
    assert row["loss_low"] < row["loss"] < row["loss_high"]
    by_prevalence = groups[10:].map(pd.Series(labels[10:, 0]).groupby(groups[10:].to_numpy()).mean())
    assert row["column_auc"] == pytest.approx(roc_auc_score(labels[10:], by_prevalence), abs=1e-12)


def test_a_model_that_uses_the_column_is_named_with_its_figures():
    named = 0
    for seed in range(30):
        labels, probabilities, patients, words = simulated(2.0, seed)
        table = auc_within_groups(
            predictions(labels, probabilities, patients, [0.5], ["Edema"]), {"devices": words}
        )
        named += int(table["possible_shortcut"].sum())
    assert named >= 28
    sentence = describe_shortcut(table.loc[0])
    assert sentence.startswith("Edema: the model may be using devices")
    assert f"{table.at[0, 'within_auc']:.3f} among images alike in devices" in sentence


@pytest.mark.parametrize("associated", [True, False])
def test_a_model_that_sees_only_the_finding_is_hardly_ever_named(associated):
    named = 0
    for seed in range(60):
        labels, probabilities, patients, words = simulated(0.0, seed)
        if not associated:
            words = words.sample(frac=1, random_state=seed).reset_index(drop=True)
        age = pd.Series(np.random.default_rng(seed).choice(["0–39", "40–59", "60+"], len(words)))
        table = auc_within_groups(
            predictions(labels, probabilities, patients, [0.5], ["Edema"]),
            {"devices": words, "age": age},
            replicates=100,
        )
        named += bool(table["possible_shortcut"].any())
    assert named <= 2


def test_a_column_that_gives_the_finding_away_is_named_though_no_pair_is_alike():
    labels, probabilities, patients, _ = simulated(0.0, 3)
    words = pd.Series(np.where(labels[:, 0] == 1, "with", "without"))
    (row,) = (
        row
        for _, row in auc_within_groups(
            predictions(labels, probabilities, patients, [0.5], ["Edema"]), {"devices": words}
        ).iterrows()
    )
    assert row["given_away"]
    assert row["possible_shortcut"]
    assert np.isnan([row["within_auc"], row["loss"], row["p"]]).all()
    assert "these images cannot tell" in describe_shortcut(row)
    assert "no group has both positive and negative images" in describe_shortcut(row)


def test_few_positives_name_nothing_and_say_so():
    labels = np.zeros((40, 2))
    labels[:3, 0] = 1
    words = pd.Series(["with"] * 3 + ["without"] * 36 + ["with"])
    draw = np.random.default_rng(0)
    table = auc_within_groups(
        predictions(labels, draw.random((40, 2)), np.arange(40), [0.5, 0.5], ["Edema", "Mass"]),
        {"devices": words},
    )
    assert not table["possible_shortcut"].any()
    assert table["lack"].tolist() == [
        "only 3 positive images share a group with a negative image",
        "all known labels are equal",
    ]


def test_the_scores_of_a_group_are_those_of_its_images_and_few_are_marked():
    labels, probabilities, patients, words = simulated(1.0, 7)
    words[:6] = "rare"
    table = scores_by_group(
        predictions(labels, probabilities, patients, [0.6], ["Edema"]), words, replicates=100
    )
    assert table["group"].tolist() == ["rare", "with", "without"]
    assert table["few"].tolist() == [True, False, False]
    for row in table.to_dict("records"):
        inside = (words == row["group"]).to_numpy()
        expected = itemized_scores(labels[inside], probabilities[inside], ["Edema"], [0.6]).loc[0]
        assert row["images"] == inside.sum()
        assert row["patients"] == len(np.unique(patients[inside]))
        for score in ("recall", "precision", "roc_auc", "avg_precision"):
            assert row[score] == pytest.approx(expected[score], nan_ok=True)
