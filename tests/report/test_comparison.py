"""Runs are compared on the images they share, and a claim is made only where the data support it."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from hilum.config import RunConfig
from hilum.errors import HilumError
from hilum.metrics.ranking import rank
from hilum.report.comparison import FEWER_POSITIVES, MORE_POSITIVES, compare_runs
from hilum.report.comparison_page import show_comparison
from hilum.report.comparison_types import FLIP_KINDS, PAIRS_BY_SEED, RECORD_FORMAT, SAME_IMAGES
from hilum.run_folder import RunFolder

TARGETS = ("Edema", "Mass")


class Predicted:
    """The population that all runs of a test predict: 200 patients with two images each."""

    def __init__(self):
        draw = np.random.default_rng(5)
        self.ids = np.arange(1000, 1400)
        self.patients = np.arange(400) // 2
        self.labels = (draw.random((400, 2)) < [0.3, 0.2]).astype(np.float32)
        self.difficulty = draw.normal(size=(400, 2))

    def probabilities(self, own: int, gain: float, shift: float) -> np.ndarray:
        """Of a model with its own mistakes: more skill by `gain`, everything higher by `shift`."""
        noise = 0.5 * np.random.default_rng([3, own]).normal(size=(400, 2))
        logits = (1.5 + gain) * self.labels - 1 + shift + self.difficulty + noise
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.fixture
def population() -> Predicted:
    return Predicted()


@pytest.fixture
def write(tmp_path, population):
    """Writes a finished run; `val` are rows of the population, the others are its training part."""

    def write(
        name, *, own=0, gain=0.0, shift=0.0, val=slice(None), targets=TARGETS, points=None, labels=None,
        record=None, spoil=None, **settings,
    ) -> RunFolder:  # fmt: skip
        labels = population.labels if labels is None else labels
        probabilities = population.probabilities(own, gain, shift)
        part = np.full(400, "train", dtype=object)
        part[val] = "val"
        predictions = pd.DataFrame({"part": part, "ImageID": population.ids, "draw": 0})
        for kind, values in (("label", labels), ("prob", probabilities)):
            for column, target in enumerate(TARGETS):
                if target in targets:
                    predictions[f"{kind}_{target}"] = values[:, column]
        if spoil is not None:
            predictions = spoil(predictions)
        entries = {
            "settings": RunConfig(**settings).as_record(),
            "targets": list(targets),
            "thresholds": dict.fromkeys(targets, 0.5),
            "catalog": {"name": "hand", "fingerprint": "ab"},
            "split": {"fingerprint": "cd", "unit": "patient"},
            "versions": {"hilum": "1"},
        }
        folder = RunFolder.create(tmp_path, name, "run", entries | (record or {}))
        folder.write_split(
            pd.DataFrame({"ImageID": population.ids, "PatientID": population.patients, "part": part})
        )
        folder.write_epoch(2, predictions, pd.DataFrame(), pd.DataFrame())
        frozen = {target: {"threshold": 0.4, "policy": "youden"} for target in targets}
        folder.update(best_epoch=2, status="finished", operating_points=frozen if points is None else points)
        return folder

    return write


def printed(comparison, **options) -> str:
    console = Console(file=io.StringIO(), width=100)
    show_comparison(comparison, console, **options)
    return console.file.getvalue()


def in_a_line(text: str) -> str:
    return " ".join(text.split())


def test_scores_are_those_of_the_frozen_points_and_of_the_reference_first(write, population):
    comparison = compare_runs([write("a"), write("b", own=1, gain=1.0, learning_rate=0.01)], replicates=200)
    (side,) = comparison.comparisons
    scores = side.about_models.targets["Edema"]
    for name, (own, gain) in {"reference": (0, 0.0), "other": (1, 1.0)}.items():
        ranking = rank(population.labels[:, 0], population.probabilities(own, gain, 0.0)[:, 0])
        counts = ranking.confusion(0.4)
        assert getattr(scores["recall"], name) == pytest.approx(counts.recall)
        assert getattr(scores["precision"], name) == pytest.approx(counts.precision)
        assert getattr(scores["roc_auc"], name) == pytest.approx(ranking.roc_auc())
        assert getattr(scores["avg_precision"], name) == pytest.approx(ranking.average_precision())
        rate = counts.predicted_positives / 400
        assert getattr(scores["predicted_positive_rate"], name) == pytest.approx(rate)
    mean = side.about_models.mean["roc_auc"]
    each = [side.about_models.targets[target]["roc_auc"].difference for target in TARGETS]
    assert mean.difference == pytest.approx(np.mean(each))
    assert mean.verdict == "better"
    assert scores["roc_auc"].verdict == "better"
    assert (side.images.images, side.images.patients, side.images.design) == (400, 200, SAME_IMAGES)
    assert side.operating_points["Mass"]["B"] == {"thresholds": [0.4], "policies": ["youden"]}


def test_a_run_compared_with_itself_shows_no_evidence(write):
    run = write("a")
    (side,) = compare_runs([run, run], replicates=100).comparisons
    for scores in (side.about_models.mean, *side.about_models.targets.values()):
        for of in scores.values():
            assert (of.difference, of.low, of.high, of.p_value, of.verdict) == (0, 0, 0, 1, "no evidence")
    assert not any(side.flips.images.values())
    assert side.callouts == ()
    assert side.changes.groups == {}


def test_swapping_the_runs_reverses_the_signs_and_keeps_the_p_values(write):
    a, b = write("a"), write("b", own=1, gain=0.2, learning_rate=0.01)
    (forth,) = compare_runs([a, b], replicates=100).comparisons
    (back,) = compare_runs([b, a], replicates=100).comparisons
    for score, of in forth.about_models.mean.items():
        if score != "recall_at_matched_precision":  # each is matched to its own reference
            assert back.about_models.mean[score].difference == pytest.approx(-of.difference)
            assert back.about_models.mean[score].p_value == pytest.approx(of.p_value)
    counts, turned = (side.flips.counts["Edema"] for side in (forth, back))
    assert counts["new_false_negative"] == turned["fixed_false_negative"]


@pytest.mark.parametrize(("shift", "callout"), [(1.0, MORE_POSITIVES), (-1.0, FEWER_POSITIVES)])
def test_a_pure_shift_of_the_probabilities_is_named(write, shift, callout):
    comparison = compare_runs([write("a"), write("b", shift=shift, learning_rate=0.01)], replicates=100)
    (side,) = comparison.comparisons
    assert side.callouts == (f"mean over targets, Edema, Mass: {callout}.",)
    assert side.about_models.mean["roc_auc"].difference == pytest.approx(0, abs=1e-6)
    matched = side.about_models.mean["recall_at_matched_precision"]
    assert matched.verdict == "no evidence"
    assert callout in in_a_line(printed(comparison))


def test_a_better_ranking_is_not_called_a_shift(write):
    (side,) = compare_runs(
        [write("a"), write("b", gain=0.8, shift=1.2, learning_rate=0.01)], replicates=100
    ).comparisons
    mean = side.about_models.mean
    assert (mean["recall"].verdict, mean["roc_auc"].verdict) == ("better", "better")
    assert (mean["predicted_positive_rate"].verdict, mean["specificity"].verdict) == ("higher", "worse")
    assert side.callouts == ()


def test_one_model_per_side_allows_no_claim_about_settings(write):
    comparison = compare_runs([write("a"), write("b", own=1, learning_rate=0.01)], replicates=100)
    (side,) = comparison.comparisons
    assert not side.about_settings.available
    assert side.about_settings.targets == {}
    text = in_a_line(printed(comparison))
    assert "It holds for these two trained models" in text
    assert "To conclude more, train two seeds or more on each side." in text


def test_repeats_over_seeds_allow_a_claim_about_the_settings(write):
    a = [write(f"a{seed}", own=seed, seed=seed) for seed in range(3)]
    b = [write(f"b{seed}", own=10 + seed, gain=1.0, seed=seed, learning_rate=0.01) for seed in range(3)]
    comparison = compare_runs([a[0], b[0], a[1], b[1], a[2], b[2]], replicates=100)
    (side,) = comparison.comparisons
    assert [run.name for run in comparison.reference.runs] == ["a0", "a1", "a2"]
    assert [run.seed for run in side.other.runs] == [0, 1, 2]
    assert side.changes.statement.startswith("One thing differs: learning_rate")
    assert side.about_settings.available
    assert "3 + 3 seeds" in side.about_settings.statement
    alone = [compare_runs([x, y], replicates=100).comparisons[0] for x, y in zip(a, b, strict=True)]
    each = [of.about_models.mean["roc_auc"].difference for of in alone]
    for claim in (side.about_models, side.about_settings):
        assert claim.mean["roc_auc"].difference == pytest.approx(np.mean(each))
        assert claim.mean["roc_auc"].verdict == "better"
    assert side.about_settings.mean["recall"].degrees_of_freedom < 200
    assert "from 3 + 3 seeds" in in_a_line(printed(comparison))
    assert (side.flips.reference_run, side.flips.other_run) == ("a0", "b0")


def test_runs_that_differ_only_in_the_seed_are_sides_of_their_own(write):
    comparison = compare_runs(
        [write("a"), write("b", own=1, seed=1), write("c", own=2, seed=2)], replicates=100
    )
    assert [side.other.name for side in comparison.comparisons] == ["b", "c"]
    assert [side.other.letter for side in comparison.comparisons] == ["B", "C"]
    assert all(side.changes.seeds_only for side in comparison.comparisons)
    assert "each is a side of its own" in comparison.notes[0]


def test_a_second_run_of_the_same_seed_is_left_out(write):
    comparison = compare_runs(
        [write("a"), write("again"), write("b", own=1, learning_rate=0.01)], replicates=100
    )
    assert [run.name for run in comparison.reference.runs] == ["a"]
    assert "a repeat needs another seed" in comparison.notes[0]


def test_seeds_with_different_splits_are_compared_in_pairs(write):
    draw = np.random.default_rng(8)
    halves = [np.repeat(draw.permutation(200) < 100, 2) for _ in range(3)]
    a = [write(f"a{seed}", own=seed, shift=seed, seed=seed, val=halves[seed]) for seed in range(3)]
    b = [
        write(f"b{seed}", own=9 + seed, gain=1.0, seed=seed, val=halves[seed], learning_rate=0.01)
        for seed in range(2)
    ]
    (side,) = compare_runs([*a, *b], replicates=100).comparisons
    assert side.images.design == PAIRS_BY_SEED
    assert [(pair["seed"], pair["images"]) for pair in side.images.pairs] == [(0, 200), (1, 200)]
    assert side.notes[0] == "Left out, because their seed is only on one side: a2."
    assert side.images.images == int((halves[0] | halves[1]).sum())
    # Nobody is scored on what it was trained with: the same as each pair by itself.
    each = [compare_runs([a[seed], b[seed]], replicates=100).comparisons[0] for seed in range(2)]
    for score in ("recall", "recall_at_matched_precision"):
        expected = np.mean([of.about_models.targets["Mass"][score].difference for of in each])
        assert side.about_models.targets["Mass"][score].difference == pytest.approx(expected)
    assert "2 pairs of seeds" in side.about_settings.statement


def test_only_images_that_both_evaluated_are_compared(write, population):
    comparison = compare_runs(
        [write("a", val=slice(0, 300)), write("b", own=1, val=slice(100, 400), learning_rate=0.01)],
        replicates=100,
    )
    (side,) = comparison.comparisons
    images = side.images
    assert (images.images, images.patients) == (200, 100)
    assert (images.only_reference, images.only_other) == (100, 100)
    ranking = rank(population.labels[100:300, 0], population.probabilities(0, 0, 0)[100:300, 0])
    assert side.about_models.targets["Edema"]["roc_auc"].reference == pytest.approx(ranking.roc_auc())
    assert "The runs share only a part of their images: 100 images of A and 100 of B" in in_a_line(
        printed(comparison)
    )


def test_repeated_images_count_once(write):
    def twice(predictions):
        return pd.concat([predictions, predictions.assign(draw=1)])

    (once,) = compare_runs([write("a"), write("b", own=1, seed=1)], replicates=100).comparisons
    (repeated,) = compare_runs(
        [write("c", spoil=twice), write("d", own=1, seed=1, spoil=twice)], replicates=100
    ).comparisons
    assert repeated.images.images == 400
    assert repeated.about_models.mean["recall"] == once.about_models.mean["recall"]


def test_runs_without_a_common_image_raise(write):
    a, b = write("a", val=slice(0, 100)), write("b", val=slice(100, 400))
    with pytest.raises(HilumError, match=r"a and b have no validation image in common.*--split-file"):
        compare_runs([a, b])


def test_equal_ids_of_other_patients_are_not_the_same_images(write, population):
    other_data = {"catalog": {"name": "hand", "fingerprint": "other"}}
    a, b = write("a"), write("b", record=other_data)
    moved = b.split()
    moved.loc[:99, "PatientID"] += 5000
    b.write_split(moved)
    (side,) = compare_runs([a, b], replicates=100).comparisons
    assert side.images.images == 300
    assert side.images.mismatched == 100
    assert "100 images are left out: their ImageID belongs to another patient" in side.notes[0]
    b.write_split(moved.assign(PatientID=moved["PatientID"] + 5000))
    with pytest.raises(
        HilumError, match="400 ImageIDs in common, but they belong to other patients or files"
    ):
        compare_runs([a, b])


def test_equal_ids_and_patients_of_other_files_are_not_the_same_images(write, population):
    runs = [write("a"), write("b", record={"catalog": {"name": "hand", "fingerprint": "other"}})]
    for number, run in enumerate(runs):
        names = [f"{run.path.name}/{image}.png" for image in population.ids]
        names[7] = f"another-{number}.png"
        run.write_images(run.split().assign(Image_Path=names))
    (side,) = compare_runs(runs, replicates=100).comparisons
    assert side.images.mismatched == 1


def test_targets_of_one_run_only_are_left_out_and_named(write):
    (side,) = compare_runs(
        [write("a"), write("b", targets=("Mass",), learning_rate=0.01)], replicates=100
    ).comparisons
    assert side.targets == ("Mass",)
    assert side.targets_left_out == {"Edema": "b has no such target"}
    with pytest.raises(HilumError, match="have no target in common: Edema; and Mass"):
        compare_runs([write("c", targets=("Edema",)), write("d", targets=("Mass",))])


def test_labels_that_differ_between_the_runs_are_left_out_for_that_target(write, population):
    labels = population.labels.copy()
    labels[:30, 0] = np.nan
    labels[40:50, 0] = 1 - labels[40:50, 0]
    comparison = compare_runs([write("a"), write("b", labels=labels, blank_policy="ignore")], replicates=100)
    (side,) = comparison.comparisons
    assert side.images.labels_left_out == {"Edema": 40}
    kept = np.r_[30:40, 50:400]
    expected = rank(population.labels[kept, 0], population.probabilities(0, 0, 0)[kept, 0]).roc_auc()
    assert side.about_models.targets["Edema"]["roc_auc"].reference == pytest.approx(expected)
    assert "Labels that differ between the runs are left out: Edema 40." in side.notes
    assert list(side.changes.groups) == ["labels"]


def test_a_target_without_positives_is_na_with_the_reason(write, population):
    labels = population.labels.copy()
    labels[:, 1] = 0
    comparison = compare_runs(
        [write("a", labels=labels), write("b", labels=labels, seed=1, own=1)], replicates=100
    )
    (side,) = comparison.comparisons
    of = side.about_models.targets["Mass"]["recall"]
    assert (of.verdict, of.reason) == ("n/a", "no patient has a positive image")
    # The mean is of the other target alone.
    edema = side.about_models.targets["Edema"]["recall"]
    assert side.about_models.mean["recall"].difference == pytest.approx(edema.difference)
    assert "n/a: no patient has a positive image" in in_a_line(printed(comparison))


def test_the_most_serious_flips_come_first(write, population):
    comparison = compare_runs([write("a"), write("b", own=1, learning_rate=0.01)], replicates=100)
    flips = comparison.comparisons[0].flips
    before, after = (population.probabilities(own, 0, 0)[:, 0] >= 0.4 for own in (0, 1))
    positive = population.labels[:, 0] == 1
    assert flips.counts["Edema"] == {
        "new_false_negative": int((positive & before & ~after).sum()),
        "new_false_positive": int((~positive & ~before & after).sum()),
        "fixed_false_negative": int((positive & ~before & after).sum()),
        "fixed_false_positive": int((~positive & before & ~after).sum()),
    }
    listed = flips.images["Edema"]
    assert {flip.image_id for flip in listed} == set(population.ids[before != after].tolist())
    order = [FLIP_KINDS.index(flip.kind) for flip in listed]
    assert order == sorted(order)
    first = listed[0]
    row = first.image_id - 1000
    assert (first.patient_id, first.label) == (row // 2, int(positive[row]))
    assert first.reference_probability == pytest.approx(population.probabilities(0, 0, 0)[row, 0])
    changes = [
        abs(flip.other_probability - flip.reference_probability) for flip in listed if flip.kind == first.kind
    ]
    assert changes == sorted(changes, reverse=True)
    text = printed(comparison, flips=3)
    assert "The first 3 of" in text
    assert "The first" not in printed(comparison, flips=0)


def test_the_record_is_json_with_a_format_and_without_nan(write, population):
    labels = population.labels.copy()
    labels[:, 1] = 0
    comparison = compare_runs(
        [write("a", labels=labels), write("b", labels=labels, seed=1, own=1)], replicates=100
    )
    record = json.loads(json.dumps(comparison.as_record(), allow_nan=False))
    assert record["format"] == RECORD_FORMAT == 2
    (side,) = record["comparisons"]
    assert side["about_models"]["targets"]["Mass"]["recall"]["p_value"] is None
    assert side["about_models"]["targets"]["Edema"]["recall"]["verdict"] == "no evidence"
    assert side["changes"]["groups"]["settings"] == [{"name": "seed", "reference": 0, "other": 1}]
    assert len(side["flips"]["images"]["Edema"]) == sum(side["flips"]["counts"]["Edema"].values())
    assert math.isnan(comparison.comparisons[0].about_models.targets["Mass"]["recall"].p_value)


def test_the_same_seed_gives_the_same_intervals(write):
    runs = [write("a"), write("b", own=1, seed=1)]
    first, again = (compare_runs(runs, replicates=100, seed=4).as_record() for _ in range(2))
    assert first == again
    other = compare_runs(runs, replicates=100, seed=5).as_record()
    assert other["comparisons"][0]["about_models"] != first["comparisons"][0]["about_models"]


def test_runs_without_frozen_points_use_the_thresholds_of_their_settings(write):
    (side,) = compare_runs([write("a", points={}), write("b", seed=1, own=1)], replicates=100).comparisons
    assert side.operating_points["Edema"] == {
        "A": {"thresholds": [0.5], "policies": [None]},
        "B": {"thresholds": [0.4], "policies": ["youden"]},
    }
    assert side.notes == ("a has no frozen operating points; the thresholds of its settings are used.",)


def test_operating_points_chosen_for_a_recall_are_called_out(write):
    points = {target: {"threshold": 0.4, "policy": "recall>=0.9"} for target in TARGETS}
    comparison = compare_runs(
        [write("a", points=points), write("b", own=1, seed=1, points=points)], replicates=100
    )
    assert any(
        "recall there follows from that choice" in callout for callout in comparison.comparisons[0].callouts
    )


def test_output_fits_a_hundred_columns_and_escapes_markup_in_names(write):
    a = write("a", learning_rate=0.001)
    a.update(name="[bold]a[/x]")
    text = printed(compare_runs([a, write("b", own=1, seed=1)], replicates=100))
    assert max(map(len, text.splitlines())) <= 100
    assert "[bold]a[/x]" in text
    assert "2 things differ (learning_rate, seed), so no single cause can be claimed" in in_a_line(text)


def test_a_run_that_was_split_by_image_or_failed_gets_a_note(write):
    a = write("a", record={"split": {"fingerprint": "cd", "unit": "image"}})
    b = write("b", own=1, seed=1)
    b.update(status="failed")
    comparison = compare_runs([a, b], replicates=100)
    assert "b is failed, not finished: its best epoch so far is compared." in comparison.notes[0]
    assert "a was split by image" in comparison.comparisons[0].notes[0]


def test_bad_runs_raise_with_the_reason(write, population):
    run = write("a")
    with pytest.raises(HilumError, match="Name at least two runs, the reference first; there is 1"):
        compare_runs([run])
    with pytest.raises(HilumError, match="replicates is 5"):
        compare_runs([run, run], replicates=5)
    begun = write("begun")
    begun.update(best_epoch=None, status="running")
    with pytest.raises(HilumError, match=r"begun: no epoch has ended yet \(running\)"):
        compare_runs([run, begun])
    diverged = write("nan", spoil=lambda table: table.assign(prob_Mass=np.float32("nan")))
    with pytest.raises(HilumError, match=r"nan, epoch 2: Mass: 400 of 400 probabilities .* ImageID 1000"):
        compare_runs([run, diverged])
    lacking = write("lacking", spoil=lambda table: table.drop(columns="prob_Mass"))
    with pytest.raises(HilumError, match=r"lacking, epoch 2: .* wrong here: prob_Mass"):
        compare_runs([run, lacking])
    with pytest.raises(HilumError, match=r"are all of patient 0; a comparison needs two patients or more"):
        compare_runs([write("one", val=slice(0, 2)), write("two", val=slice(0, 2))])
    strange = write("strange")
    strange.write_split(strange.split().iloc[5:])
    with pytest.raises(
        HilumError, match=r"strange, epoch 2: 5 of 400 images have no patient, the first is ImageID 1000"
    ):
        compare_runs([run, strange])
