"""Oversampling repeats members of rare target vectors, as often as asked, and nothing else."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.config import SplitSettings
from hilum.data.loaders import Loaders
from hilum.data.oversampling import oversample, oversampling_weights
from hilum.data.split import make_split

VALUES = st.sampled_from([0.0, 1.0, np.nan])


def vectors(labels: np.ndarray) -> list[tuple]:
    return [tuple("nan" if np.isnan(value) else value for value in row) for row in labels]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=60),
    min_count=st.integers(1, 20),
    seed=st.integers(0, 2**63 - 1),
)
def test_each_vector_reaches_the_minimum_and_none_above_it_grows(rows, min_count, seed):
    labels = np.array(rows, dtype=np.float32)
    chosen = oversample(labels, min_count, seed)
    before, after = Counter(vectors(labels)), Counter(vectors(labels[chosen]))
    assert after == {vector: max(count, min_count) for vector, count in before.items()}
    np.testing.assert_array_equal(chosen[: len(labels)], np.arange(len(labels)))
    np.testing.assert_array_equal(chosen, oversample(labels, min_count, seed))


def test_another_seed_draws_other_repeats():
    labels = np.repeat([[0.0], [1.0]], [50, 10], axis=0)
    drawn = [tuple(oversample(labels, 40, seed)[60:]) for seed in range(4)]
    assert len(set(drawn)) == 4
    assert all(row >= 50 for rows in drawn for row in rows)


def test_only_the_training_part_is_oversampled(small_catalog):
    loaders = Loaders(small_catalog, target_columns="Edema", observation_min_count=60, num_workers=0)
    train, val = loaders.get_train_val_loaders()
    split = make_split(loaders.catalog, SplitSettings(), seed=0)
    assert set(train.dataset.ids[train.dataset.rows]) == set(split.image_ids("train"))
    assert Counter(vectors(train.dataset.labels[train.dataset.rows])) == {(0.0,): 60, (1.0,): 60}
    np.testing.assert_array_equal(val.dataset.ids[val.dataset.rows], split.image_ids("val"))


def test_the_real_index_gets_as_many_rows_as_pandas_counts(real_catalog):
    catalog = real_catalog
    chosen = oversample(catalog.labels(), 150, seed=3)
    counts = catalog.table.groupby(list(catalog.targets)).size()
    missing = int((150 - counts[counts < 150]).sum())
    assert len(counts) == 802
    assert len(chosen) - len(catalog) == missing
    after = catalog.table.iloc[chosen].groupby(list(catalog.targets)).size()
    assert after.min() == 150
    assert after.max() == counts.max() == pytest.approx(25805)


def test_weights_give_each_vector_the_share_that_rows_give_it():
    draw = np.random.default_rng(0)
    labels = (draw.random((500, 3)) < [0.05, 0.2, 0.5]).astype(np.float32)
    rows = oversample(labels, 60, seed=0)
    weights = oversampling_weights(labels, 60)
    shares = weights / weights.sum()
    _, group = np.unique(labels, axis=0, return_inverse=True)
    for number in range(group.max() + 1):
        assert shares[group.ravel() == number].sum() == pytest.approx((group.ravel()[rows] == number).mean())
    assert weights.sum() == pytest.approx(len(rows))
    assert weights.min() >= 1
