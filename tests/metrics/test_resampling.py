"""Bootstrap samples draw whole patients, and the counts are those of the images drawn."""

import numpy as np
import pytest

from hilum.metrics.resampling import cell_counts, patient_weights, percentile_interval


def test_each_sample_draws_as_many_patients_as_there_are_and_depends_on_the_seed_alone():
    weights = patient_weights(50, 20, seed=3)
    assert weights.shape == (20, 50)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(weights, patient_weights(50, 20, seed=3))
    assert (weights != patient_weights(50, 20, seed=4)).any()
    np.testing.assert_array_equal(weights[:7], patient_weights(50, 7, seed=3))


def test_counts_are_those_of_every_image_repeated_as_often_as_its_patient():
    draw = np.random.default_rng(1)
    patients, cells = draw.integers(30, size=200), draw.integers(6, size=200)
    weights = patient_weights(30, 100, seed=0)
    counts = cell_counts(weights, patients, cells, 6)
    assert counts.shape == (100, 6)
    for sample in (0, 63, 64, 99):
        repeated = np.repeat(cells, weights[sample][patients])
        np.testing.assert_array_equal(counts[sample], np.bincount(repeated, minlength=6))


def test_the_interval_is_of_percentiles_and_undefined_where_most_samples_are():
    values = np.column_stack(
        [np.arange(101.0), np.full(101, np.nan), np.r_[np.full(40, np.nan), np.ones(61)]]
    )
    low, high = percentile_interval(values)
    np.testing.assert_allclose(low, [2.5, np.nan, 1])
    np.testing.assert_allclose(high, [97.5, np.nan, 1])
    assert percentile_interval(values, confidence=0.8)[0][0] == pytest.approx(10)
