from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hilum.config import LabelSettings
from hilum.data.label_policies import (
    CHEXPERT_BEST,
    UNCERTAIN_CLASS,
    evaluation_labels,
    multiclass_targets,
    training_labels,
)
from hilum.errors import HilumError
from hilum.targets import COMPETITION_TARGETS


def column(catalog, labels, target):
    return labels[:, catalog.targets.index(target)]


def labels_under(catalog, uncertain, blank, seed):
    """The labels to train on under two policies."""
    return training_labels(catalog, LabelSettings(uncertain_policy=uncertain, blank_policy=blank), seed)


def codes_of(catalog, target):
    return catalog.codes[target].to_numpy()


@pytest.mark.parametrize(("policy", "value"), [("zeros", 0.0), ("ones", 1.0), ("ignore", np.nan)])
def test_uncertain_and_blank_are_mapped_separately(small_catalog, policy, value):
    for target in small_catalog.targets:
        codes = codes_of(small_catalog, target)
        uncertain = column(small_catalog, labels_under(small_catalog, policy, "zeros", 0), target)
        blank = column(small_catalog, labels_under(small_catalog, "zeros", policy, 0), target)
        np.testing.assert_array_equal(uncertain[codes == -1], value)
        np.testing.assert_array_equal(uncertain[np.isnan(codes)], 0.0)
        np.testing.assert_array_equal(blank[np.isnan(codes)], value)
        np.testing.assert_array_equal(blank[codes == -1], 0.0)


def test_positive_and_negative_stay_under_every_policy(small_catalog):
    codes = small_catalog.codes.to_numpy()
    for uncertain in ("zeros", "ones", "ignore", "smooth-zeros", "smooth-ones", "multiclass"):
        labels = labels_under(small_catalog, uncertain, "ignore", 0)
        np.testing.assert_array_equal(labels[codes == 1], 1)
        np.testing.assert_array_equal(labels[codes == 0], 0)


def test_the_default_is_the_founding_documents_rule(small_catalog):
    np.testing.assert_array_equal(labels_under(small_catalog, "zeros", "zeros", 0), small_catalog.labels())
    np.testing.assert_array_equal(evaluation_labels(small_catalog, LabelSettings()), small_catalog.labels())


def test_a_policy_by_target_leaves_the_others_at_zeros(small_catalog):
    labels = labels_under(small_catalog, {"Effusion": "ones"}, "zeros", 0)
    plain = labels_under(small_catalog, "zeros", "zeros", 0)
    ones = labels_under(small_catalog, "ones", "zeros", 0)
    for target in small_catalog.targets:
        wanted = ones if target == "Pleural_Effusion" else plain
        np.testing.assert_array_equal(
            column(small_catalog, labels, target), column(small_catalog, wanted, target)
        )


@pytest.mark.parametrize(("policy", "low", "high"), [("smooth-zeros", 0, 0.3), ("smooth-ones", 0.55, 0.85)])
def test_smoothed_labels_are_uniform_in_the_range_of_the_paper(real_catalog, policy, low, high):
    drawn = column(real_catalog, labels_under(real_catalog, policy, "zeros", 0), "Atelectasis")
    drawn = drawn[codes_of(real_catalog, "Atelectasis") == -1]
    assert len(drawn) > 10_000
    assert drawn.min() >= low
    assert drawn.max() <= high
    assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.005)
    assert drawn.std() == pytest.approx((high - low) / 12**0.5, abs=0.005)


def test_an_image_is_smoothed_alike_in_every_subset_and_otherwise_for_another_seed(small_catalog):
    ids = small_catalog.table.index[::3].to_numpy()
    whole = pd.DataFrame(
        labels_under(small_catalog, "smooth-ones", "smooth-zeros", 5), small_catalog.table.index
    )
    part = labels_under(small_catalog.select_images(ids), "smooth-ones", "smooth-zeros", 5)
    np.testing.assert_array_equal(whole.loc[ids].to_numpy(), part)
    assert not np.array_equal(whole.to_numpy(), labels_under(small_catalog, "smooth-ones", "smooth-zeros", 6))


def test_multiclass_gives_uncertain_a_class_of_its_own(small_catalog):
    labels = labels_under(small_catalog, {"Edema": "multiclass"}, "ignore", 0)
    edema, codes = column(small_catalog, labels, "Edema"), codes_of(small_catalog, "Edema")
    assert (codes == -1).any()
    np.testing.assert_array_equal(edema[codes == -1], UNCERTAIN_CLASS)
    classed = multiclass_targets(small_catalog, LabelSettings(uncertain_policy={"Edema": "multiclass"}))
    assert [t for t, c in zip(small_catalog.targets, classed, strict=True) if c] == ["Edema"]


def test_chexpert_best_is_the_choice_of_the_paper_for_the_competition_targets(small_catalog):
    assert set(CHEXPERT_BEST) == set(COMPETITION_TARGETS)
    best = labels_under(small_catalog, "chexpert-best", "zeros", 0)
    by_target = labels_under(small_catalog, CHEXPERT_BEST, "zeros", 0)
    np.testing.assert_array_equal(best, by_target)


def test_chexpert_best_needs_one_of_its_targets(small_catalog):
    with pytest.raises(HilumError, match="chexpert-best is for Atelectasis"):
        labels_under(small_catalog.select_targets(["Fracture"]), "chexpert-best", "zeros", 0)
    with pytest.raises(HilumError, match="for all targets, not for Edema alone"):
        labels_under(small_catalog, {"Edema": "chexpert-best"}, "zeros", 0)


def test_an_unknown_target_is_refused_with_the_nearest(small_catalog):
    with pytest.raises(HilumError, match=r"uncertain_policy: .*'Edemma'\. Did you mean 'Edema'"):
        labels_under(small_catalog, {"Edemma": "ones"}, "zeros", 0)


@pytest.mark.parametrize(
    ("setting", "policies"),
    [("uncertain_policy", ("ones", "zeros")), ("blank_policy", ("zeros", {"Edema": "ignore"}))],
)
def test_a_policy_without_an_effect_on_the_data_set_is_refused(small_catalog, setting, policies):
    binary = replace(small_catalog, codes=None)
    with pytest.raises(HilumError, match=f"{setting}: .* has no effect on chexpert"):
        labels_under(binary, *policies, 0)
    np.testing.assert_array_equal(labels_under(binary, "zeros", "zeros", 0), binary.labels())


def test_the_real_index_keeps_its_uncertain_labels(chexpert_index, real_catalog):
    raw = pd.read_csv(chexpert_index).iloc[real_catalog.table.index]
    for target, name in (("Edema", "Edema"), ("Pleural_Effusion", "Pleural Effusion")):
        np.testing.assert_array_equal(real_catalog.codes[target].to_numpy(), raw[name].to_numpy())
