import subprocess
import sys

import numpy as np
import pytest

from hilum.randomness import derived_seed, generator


def draws(*address):
    return generator(*address).integers(2**32, size=8).tolist()


def test_the_same_address_gives_the_same_draws_after_other_draws():
    expected = draws(7, "order", 3)
    np.random.default_rng(0).random(100)
    generator(7, "order", 3).random(5)
    assert draws(7, "order", 3) == expected


def test_a_different_address_gives_different_draws():
    addresses = [(7, "order", 3), (8, "order", 3), (7, "split", 3), (7, "order", 4), (7, "order", 3, 1)]
    assert len({tuple(draws(*address)) for address in addresses}) == len(addresses)


def test_streams_of_neighbouring_addresses_do_not_overlap():
    first = generator(1, "augment", 0, 5).integers(2**63, size=20_000)
    second = generator(1, "augment", 0, 6).integers(2**63, size=20_000)
    assert not set(first.tolist()) & set(second.tolist())


def test_draws_are_the_same_in_another_process():
    code = "from hilum.randomness import generator; print(generator(7, 'order', 3).integers(2**32, size=8).tolist())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == str(draws(7, "order", 3))


def test_draws_do_not_change_between_versions():
    assert draws(0, "split")[:3] == [2974948881, 2214178543, 3318006609]


def test_derived_seeds_fit_a_library_generator():
    seeds = [derived_seed(seed, "torch") for seed in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 200


def test_large_seeds_differ():
    assert draws(2**63 - 1, "split") != draws(2**63 - 2, "split")


def test_an_address_has_at_most_two_numbers():
    with pytest.raises(ValueError, match="at most two"):
        generator(0, "order", 1, 2, 3)
