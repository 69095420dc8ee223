"""Draws by percentage of each class: the study's Table 1, nesting, minority classes."""

from itertools import pairwise

import numpy as np
import pytest

from al.errors import UserError
from al.variant import Shares, parse_variant
from data_prep.variants import draw_variant

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))


def draw(variant, labels=LABELS, classes=CIFAR, minority=None, seed=12):
    return draw_variant(labels, classes, parse_variant(variant), minority, np.random.default_rng(seed))


def counts(rows, labels=LABELS):
    return np.bincount(labels[rows]).tolist()


@pytest.mark.parametrize(
    ("variant", "images", "majority", "minority"),
    [
        ("balanced_100", 50_000, 5000, 5000),
        ("balanced_75", 37_500, 3750, 3750),
        ("balanced_50", 25_000, 2500, 2500),
        ("balanced_25", 12_500, 1250, 1250),
        ("balanced_10", 5_000, 500, 500),
        ("balanced_5", 2_500, 250, 250),
        ("balanced_3", 1_500, 150, 150),
        ("balanced_1", 500, 50, 50),
        ("imbalanced_3_1", 1_300, 150, 50),
        ("imbalanced_10_1", 4_100, 500, 50),
        ("imbalanced_50_1", 20_100, 2500, 50),
    ],
)
def test_table_1(variant, images, majority, minority):
    rows = draw(variant)
    assert len(rows) == images
    assert counts(rows) == [majority] * 8 + [minority] * 2
    assert np.all(np.diff(rows) > 0)
    assert rows.dtype == np.int64


def test_smaller_shares_are_subsets_of_larger_ones():
    sizes = ["balanced_1", "balanced_3", "balanced_5", "balanced_10", "balanced_75"]
    sets = [set(draw(variant).tolist()) for variant in sizes]
    assert all(small < large for small, large in pairwise(sets))
    assert set(draw("imbalanced_10_1").tolist()) < sets[3]


def test_another_seed_draws_other_images():
    assert np.array_equal(draw("balanced_1"), draw("balanced_1"))
    assert not np.array_equal(draw("balanced_1"), draw("balanced_1", seed=34))


@pytest.mark.parametrize("minority", [("cat", "dog"), ("3", "5"), ("dog", "3", "5")])
def test_minority_by_name_or_index(minority):
    assert [counts(draw("imbalanced_10_1", minority=minority))[i] for i in (2, 3, 4, 5, 9)] == [500, 50, 500, 50, 500]


def test_a_name_counts_before_an_index():
    labels = np.repeat(np.arange(3), 100)
    assert counts(draw("imbalanced_50_10", labels, ("2", "1", "0"), ("2",)), labels) == [10, 50, 50]


def test_rounds_to_the_nearest_and_keeps_one():
    labels = np.repeat(np.arange(4), [30, 44, 56, 3])
    # 10 %: 3, 4.4, 5.6, 0.3
    assert counts(draw("balanced_10", labels, ("a", "b", "c", "d")), labels) == [3, 4, 6, 1]


def test_two_classes_have_one_minority():
    labels = np.repeat(np.arange(2), 100)
    assert counts(draw("imbalanced_50_1", labels, ("cat", "dog")), labels) == [50, 1]


@pytest.mark.parametrize(
    ("minority", "message"),
    [
        (("cta",), "minority_classes='cta': .*did you mean 'cat'"),
        (("10",), "minority_classes='10': no such class, nor an index from 0 to 9"),
        (("-1",), "minority_classes='-1'"),
        (("３",), "no such class, nor an index"),
        (CIFAR, "all the classes; leave one or more out"),
    ],
)
def test_bad_minority_classes(minority, message):
    with pytest.raises(UserError, match=message):
        draw("imbalanced_10_1", minority=minority)


def test_balanced_needs_no_minority():
    rows = draw_variant(LABELS, CIFAR, Shares(1, 1), ("nonsense",), np.random.default_rng(12))
    assert np.array_equal(rows, draw("balanced_1"))
