"""Initial pool, validation and the check that they are disjoint."""

import numpy as np
import pytest

from al.errors import UserError
from data_prep.splits import initial_pool

SKEWED = np.repeat(np.arange(4), [1000, 300, 40, 2])


def generator(seed=12):
    return np.random.default_rng(seed)


def shuffled(labels, seed=0):
    return generator(seed).permutation(labels)


def by_class(labels, rows, classes=4):
    return np.bincount(labels[rows], minlength=classes).tolist()


class TestInitialPool:
    def test_follows_the_classes_by_largest_remainders(self):
        labels = shuffled(np.repeat(np.arange(3), [50, 30, 20]))
        # quotas 3.5, 2.1, 1.4: the seat that whole parts leave goes to the first
        assert by_class(labels, initial_pool(labels, np.arange(100), 7, "stratified", generator()), 3) == [4, 2, 1]

    def test_study_pool_of_150_is_balanced(self):
        labels = shuffled(np.repeat(np.arange(10), 5000))
        rows = initial_pool(labels, np.arange(50_000), 150, "stratified", generator())
        assert by_class(labels, rows, 10) == [15] * 10
        assert np.all(np.diff(rows) > 0)
        assert rows.dtype == np.int64

    @pytest.mark.parametrize("size", [4, 5, 9, 100, 1342])
    def test_every_class_is_there_and_the_size_is_exact(self, size):
        labels = shuffled(SKEWED)
        rows = initial_pool(labels, np.arange(len(labels)), size, "stratified", generator())
        assert len(rows) == len(set(rows.tolist())) == size
        assert min(by_class(labels, rows)) >= 1

    def test_draws_from_the_rows_given_only(self):
        labels = shuffled(SKEWED)
        scope = np.flatnonzero(labels < 2)[::3]
        rows = initial_pool(labels, scope, 60, "stratified", generator())
        assert set(rows.tolist()) <= set(scope.tolist())
        assert by_class(labels, rows)[2:] == [0, 0]

    def test_ties_are_broken_by_the_seed(self):
        labels = shuffled(np.repeat(np.arange(10), 20))
        draws = [
            by_class(labels, initial_pool(labels, np.arange(200), 15, "stratified", generator(s)), 10) for s in range(8)
        ]
        assert all(sorted(draw) == [1] * 5 + [2] * 5 for draw in draws)
        assert len({tuple(draw) for draw in draws}) > 1

    @pytest.mark.parametrize("how", ["stratified", "random"])
    def test_same_seed_same_rows_whatever_their_order(self, how):
        labels = shuffled(SKEWED)
        scope = np.arange(len(labels))
        first = initial_pool(labels, scope, 50, how, generator())
        assert np.array_equal(first, initial_pool(labels, scope[::-1], 50, how, generator()))
        assert np.array_equal(first, initial_pool(labels, scope, 50, how, generator()))
        assert not np.array_equal(first, initial_pool(labels, scope, 50, how, generator(34)))

    def test_random_is_not_stratified(self):
        labels = shuffled(np.repeat(np.arange(10), 100))
        draws = [
            by_class(labels, initial_pool(labels, np.arange(1000), 100, "random", generator(s)), 10) for s in range(5)
        ]
        assert all(sum(draw) == 100 for draw in draws)
        assert any(draw != [10] * 10 for draw in draws)

    @pytest.mark.parametrize("how", ["stratified", "random"])
    def test_too_small_for_the_classes(self, how):
        with pytest.raises(UserError, match=r"3 labels: too small for 4 classes; raise initial_min.* 4 or more"):
            initial_pool(SKEWED, np.arange(len(SKEWED)), 3, how, generator())

    def test_larger_than_the_images(self):
        with pytest.raises(UserError, match="11 labels: there are only 10 images"):
            initial_pool(SKEWED, np.arange(10), 11, "random", generator())
