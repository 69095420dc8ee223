"""Confident learning: against the paper's definitions spelled out in loops, and at finding planted errors."""

import numpy as np
import pytest

from data_prep.zero_shot import label_checking as init_cleaning
from data_prep.zero_shot.label_checking import checking_order, confident_class, out_of_sample_probs


def by_the_book(probs: np.ndarray, labels: np.ndarray) -> list[int]:
    """Northcutt et al. 2021, section 3.1: thresholds, the confident class of each image, order by margin."""
    count, classes = probs.shape
    thresholds = {}
    for c in range(classes):
        own = [float(probs[i, c]) for i in range(count) if labels[i] == c]
        if own:
            thresholds[c] = sum(own) / len(own)
    key = []
    for i in range(count):
        confident = [c for c in thresholds if probs[i, c] >= thresholds[c]]
        true = max(confident, key=lambda c: (probs[i, c], -c)) if confident else labels[i]
        margin = probs[i, labels[i]] - max(probs[i, c] for c in range(classes) if c != labels[i])
        key.append((true == labels[i], margin, i))
    return [i for _, _, i in sorted(key)]


@pytest.mark.parametrize("seed", range(20))
def test_order_is_the_papers(seed):
    generator = np.random.default_rng(seed)
    count, classes = generator.integers(1, 60), generator.integers(2, 6)
    probs = generator.dirichlet(np.ones(classes), count).astype(np.float32)
    labels = generator.integers(0, classes, count)
    assert checking_order(probs, labels).tolist() == by_the_book(probs, labels)
    assert checking_order(probs, labels, 7).tolist() == by_the_book(probs, labels)[:7]


def test_a_class_that_labels_nothing_is_never_suspected():
    probs = np.array([[0.1, 0.9], [0.2, 0.8]], np.float32)
    assert confident_class(probs, np.array([0, 0])).tolist() == [0, 0]


def planted(seed: int, count: int = 400, classes: int = 4, wrong: int = 60):
    """Four overlapping clouds of points; `wrong` of the labels are changed."""
    generator = np.random.default_rng(seed)
    true = np.arange(count) % classes
    features = (3 * np.eye(classes, 8)[true] + generator.normal(size=(count, 8))).astype(np.float32)
    given, changed = true.copy(), generator.choice(count, wrong, replace=False)
    given[changed] = (true[changed] + generator.integers(1, classes, wrong)) % classes
    return features, given, changed, generator


def test_planted_errors_come_first():
    features, given, changed, generator = planted(0)
    probs = out_of_sample_probs(features, given, 4, generator)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    first = checking_order(probs, given, len(changed))
    assert np.isin(first, changed).mean() > 0.8, "15 % would be chance"


def test_an_image_is_judged_without_its_own_label(monkeypatch):
    """Another label for one image changes what is said of other folds, never of its own."""
    features, given, _, generator = planted(1)
    fold = np.arange(len(given)) % 5
    monkeypatch.setattr(init_cleaning, "_deal", lambda *_: fold)
    before = out_of_sample_probs(features, given, 4, generator)
    given[10] = (given[10] + 1) % 4
    after = out_of_sample_probs(features, given, 4, generator)
    np.testing.assert_array_equal((before != after).any(1), fold != fold[10])


def test_classes_too_rare_for_the_folds():
    features, generator = planted(2)[0][:23], np.random.default_rng(0)
    given = np.zeros(23, np.int64)
    given[3] = 2
    probs = out_of_sample_probs(features, given, 4, generator)
    assert np.isfinite(probs).all()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    assert probs[3, 0] == 1, "without its own label there is no class 2"
