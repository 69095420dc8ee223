"""The labelled set: what is held out for validation, and the check that no row is in two places."""

import numpy as np
import pytest

from al.labels import LabelledSet, check_disjoint, hold_out

SKEWED = np.repeat(np.arange(4), [1000, 300, 40, 2])


def generator(seed=12):
    return np.random.default_rng(seed)


def shuffled(labels, seed=0):
    return generator(seed).permutation(labels)


def by_class(labels, rows, classes=4):
    return np.bincount(labels[rows], minlength=classes).tolist()


class TestHoldOut:
    def test_parts_make_up_the_whole(self):
        rows = generator(1).choice(10_000, 200, replace=False)
        labels = generator(2).integers(10, size=200)
        train, val = hold_out(labels, rows, 30, generator())
        assert len(val) == 30
        assert sorted([*train, *val]) == sorted(rows)
        assert np.all(np.diff(train) > 0)
        assert np.all(np.diff(val) > 0)

    def test_validation_of_the_initial_pool_is_stratified(self):
        labels = np.repeat(np.arange(10), 15)
        _, val = hold_out(labels, np.arange(150), 22, generator())
        assert sorted(by_class(labels, val, 10)) == [2] * 8 + [3] * 2

    def test_every_class_keeps_a_training_image(self):
        labels = np.repeat(np.arange(4), [20, 2, 2, 2])
        train, val = hold_out(labels, np.arange(26), 22, generator())
        assert by_class(labels, train) == [1, 1, 1, 1]
        assert len(val) == 22

    def test_holds_out_fewer_rather_than_a_class_whole(self):
        train, val = hold_out(np.array([3, 3]), np.array([8, 5]), 2, generator())
        assert (len(train), len(val)) == (1, 1)

    @pytest.mark.parametrize("seed", range(20))
    def test_random_batches_keep_the_promise(self, seed):
        draw = generator(seed)
        labels = draw.integers(5, size=draw.integers(1, 40))
        count = int(draw.integers(0, len(labels) // 2 + 1))
        train, val = hold_out(labels, np.arange(len(labels)), count, draw)
        assert len(val) == count
        for label in np.flatnonzero(np.bincount(labels) > 1):
            assert label in labels[train]

    def test_depends_on_the_seed_and_not_on_the_order(self):
        labels, rows = generator(3).integers(4, size=60), np.arange(100, 160)
        order = generator(4).permutation(60)
        _, val = hold_out(labels, rows, 9, generator())
        assert np.array_equal(val, hold_out(labels[order], rows[order], 9, generator())[1])
        assert not np.array_equal(val, hold_out(labels, rows, 9, generator(13))[1])

    def test_nothing_to_split(self):
        none = np.array([], dtype=np.int64)
        train, val = hold_out(none, none, 0, generator())
        assert (len(train), len(val)) == (0, 0)
        assert train.dtype == val.dtype == np.int64


class TestCheckDisjoint:
    def test_passes_what_is_disjoint(self):
        check_disjoint(np.array([0, 4]), np.array([2]), np.array([1, 3]), 5)
        check_disjoint(np.array([4]), np.array([], dtype=np.int64), np.array([1]), 5)

    @pytest.mark.parametrize(
        ("train", "val", "pool", "message"),
        [
            ([0, 1], [1], [2], "row 1 is in train and in val"),
            ([0], [1], [2, 1], "row 1 is in val and in pool"),
            ([2, 0], [1], [2], "row 2 is in train and in pool"),
            ([0, 0], [1], [2], "row 0 is in train and in train"),
            ([0], [1], [3], "pool has rows from 3 to 3; the training set has 3"),
            ([-1], [1], [2], "train has rows from -1"),
        ],
    )
    def test_names_the_row_and_the_parts(self, train, val, pool, message):
        with pytest.raises(RuntimeError, match=message):
            check_disjoint(np.array(train), np.array(val), np.array(pool), 3)


def a_set():
    labelled = LabelledSet(np.array([5, 2, 9]), np.array([1]), np.full(12, -1), np.array([2]))
    labelled.assigned_labels[[5, 2, 9, 1]] = [0, 1, 0, 2]
    return labelled


class TestLabelled:
    def test_counts(self):
        labelled = a_set()
        assert labelled.count == 4
        assert np.flatnonzero(labelled.mask).tolist() == [1, 2, 5, 9]
        assert labelled.counts_by_class(4).tolist() == [2, 1, 1, 0]
        assert LabelledSet.empty(5).count == 0
        assert not LabelledSet.empty(5).mask.any()
