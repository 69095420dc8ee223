"""ALFA-Mix against its definition: explicit mixes, put through the head."""

import numpy as np
import pytest

from al.strategies import REGISTRY, Pool
from al.strategies.diverse import ALFA_CAPS, flipping_step


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def make_pool(seed, n=120, labelled=20, c=4, h=10, known=4, scale=0.3):
    """Activations, and a head that makes the probabilities of them."""
    rng = np.random.default_rng(seed)
    mask = np.isin(np.arange(n), rng.choice(n, labelled, replace=False))
    z = rng.standard_normal((n, h)).astype(np.float32)
    w = (scale * rng.standard_normal((c, h))).astype(np.float32)
    probs = softmax(z @ w.T + rng.standard_normal(c)).astype(np.float32)
    labels = np.where(mask, rng.integers(known, size=n), -1)
    return Pool(mask, c, labels=labels, probs=probs, activations=z, head=w)


def select(pool, k, seed=0):
    return REGISTRY["alfa_mix"].select(pool, k, np.random.default_rng(seed))


def candidates(pool, k):
    """As published: mix each class's anchor in under growing caps, until more than k predictions have changed."""
    z, w, p = pool.activations.astype(float), pool.head.astype(float), pool.probs.astype(float)
    predicted = p.argmax(axis=1)
    gradient = (p - np.eye(pool.classes)[predicted]) @ w  # of the loss with the prediction as label
    found = np.zeros(len(z), bool)
    for cap in ALFA_CAPS:
        for label in range(pool.classes):
            members = z[pool.labels == label]
            anchor = (members if len(members) else z[pool.labelled]).mean(axis=0)
            apart = anchor - z
            length = cap / np.sqrt(z.shape[1]) * np.linalg.norm(apart, axis=1) / np.linalg.norm(gradient, axis=1)
            alpha = length[:, None] * gradient / apart
            mixed = (1 - alpha) * z + alpha * anchor
            found |= (np.log(p) + (mixed - z) @ w.T).argmax(axis=1) != predicted
        found &= ~pool.labelled
        if found.sum() > k:
            break
    return np.flatnonzero(found)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("k", "known"), [(3, 4), (10, 4), (25, 2)])
def test_picks_are_among_the_samples_that_flip(seed, k, known):
    pool = make_pool(seed, known=known)
    expected = candidates(pool, k)
    assert len(expected) > k
    picks = select(pool, k).positions
    assert set(picks) <= set(expected)
    assert len(set(picks)) == k


@pytest.mark.parametrize("seed", range(3))
def test_of_blobs_of_candidates_it_takes_one_each(seed):
    """One cap for all: the fragile ones lie in 3 blobs, and the nearest to each centre are picked."""
    rng = np.random.default_rng(seed)
    blob = rng.permutation(np.repeat(np.arange(3), [12, 9, 14]))
    z = (30 * np.eye(3, 8)[blob] + rng.standard_normal((35, 8))).astype(np.float32)
    probs = np.tile(np.array([[0.501, 0.499]], np.float32), (35, 1))
    labelled = np.arange(35) < 2
    pool = Pool(
        labelled,
        2,
        labels=np.where(labelled, np.arange(35), -1),
        probs=probs,
        activations=z,
        head=rng.standard_normal((2, 8)).astype(np.float32),
    )
    picks = select(pool, 3).positions
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    free = np.arange(35) >= 2
    groups = sorted((np.flatnonzero((blob == b) & free) for b in range(3)), key=lambda rows: -len(rows))
    nearest = [rows[np.linalg.norm(unit[rows] - unit[rows].mean(axis=0), axis=1).argmin()] for rows in groups]
    assert picks.tolist() == nearest


def test_too_few_candidates_are_filled_up_by_chance():
    pool = make_pool(0, scale=0.001)  # a head whose logits hardly change along any step
    few = candidates(pool, 60)
    assert len(few) < 60
    one, two = select(pool, 60, 1).positions, select(pool, 60, 2).positions
    assert set(few) <= set(one) & set(two)
    assert set(one) != set(two)


def test_a_step_flips_the_class_just_there():
    pool = make_pool(3)
    p, w = pool.probs.astype(float), pool.head.astype(float)
    predicted = p.argmax(axis=1)
    gradient = (p - np.eye(4)[predicted]) @ w
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    step = flipping_step(pool.probs, pool.head)
    for share, flipped in ((0.999, False), (1.001, True)):
        moved = np.log(p) + share * step[:, None] * gradient @ w.T
        assert ((moved.argmax(axis=1) != predicted) == flipped).all()


def test_a_certain_prediction_never_flips():
    assert np.isinf(flipping_step(np.eye(3, dtype=np.float32), np.ones((3, 5), np.float32))).all()
