"""Randomness follows from its address."""

import numpy as np

from al import seeds


class TestSeeds:
    def test_address_decides_and_nothing_else(self):
        first = seeds.rng(42, 3, "select").random(4)
        seeds.rng(42, 3, "augment").random(100)
        np.random.default_rng(0).random(10)
        assert np.array_equal(seeds.rng(42, 3, "select").random(4), first)

    def test_each_part_of_the_address_counts(self):
        addresses = [(s, t, n) for s in (0, 1, 42) for t in (0, 1, 42) for n in ("select", "order", "augment")]
        assert len({seeds.integer(*address) for address in addresses}) == len(addresses)

    def test_integer_fits_everywhere(self):
        assert all(0 <= seeds.integer(seed, 1, "x") < 2**31 for seed in range(200))
