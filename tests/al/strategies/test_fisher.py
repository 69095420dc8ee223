"""BAIT against its definition, with explicit inverses."""

import numpy as np
import pytest

from al.strategies import REGISTRY, Pool, fisher


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def make_pool(seed, n=80, labelled=15, c=3, d=5, scale=1.0):
    rng = np.random.default_rng(seed)
    mask = np.isin(np.arange(n), rng.choice(n, labelled, replace=False))
    features = (scale * rng.standard_normal((n, d))).astype(np.float32)
    return Pool(mask, c, probs=softmax(2 * rng.standard_normal((n, c))), activations=features)


def select(pool, k, seed=0, **options):
    return REGISTRY["bait"].select(pool, k, np.random.default_rng(seed), **options)


def brute_bait(pool, k, ridge):
    """Forward to 2 k, back to k; at each step every trace from an explicit inverse."""
    top = pool.probs.astype(float).max(axis=1)
    x = pool.activations.astype(float) * np.sqrt(top * (1 - top))[:, None]
    f = x.T @ x / len(x)
    n_l = int(pool.labelled.sum())
    m = ridge * np.eye(x.shape[1])
    if n_l:
        m += x[pool.labelled].T @ x[pool.labelled] / n_l * n_l / (n_l + k)
    x = x * np.sqrt(k / (n_l + k))

    def trace(m):
        return np.trace(np.linalg.inv(m) @ f)

    free, taken, gains = pool.unlabelled.tolist(), [], []
    for _ in range(min(2 * k, len(free))):
        lowered = {u: trace(m) - trace(m + np.outer(x[u], x[u])) for u in free if u not in taken}
        taken.append(max(lowered, key=lambda u: (lowered[u], -u)))
        gains.append(lowered[taken[-1]])
        m = m + np.outer(x[taken[-1]], x[taken[-1]])
    gain = dict(zip(taken, gains))
    while len(taken) > k:
        worst = min(taken, key=lambda u: trace(m - np.outer(x[u], x[u])))
        taken.remove(worst)
        m = m - np.outer(x[worst], x[worst])
    return taken, [gain[u] for u in taken]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("labelled", "k"), [(0, 6), (15, 1), (15, 12), (60, 15)])
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10])
def test_picks_and_scores_are_those_of_explicit_inverses(seed, labelled, k, ridge):
    pool = make_pool(seed, labelled=labelled)
    pool.activations[:] /= np.sqrt(np.mean(np.square(pool.activations, dtype=float)))
    expected, gains = brute_bait(pool, k, ridge)
    picks = select(pool, k, bait_ridge=ridge)
    assert picks.positions.tolist() == expected
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 10])
def test_the_scale_of_the_activations_changes_nothing(scale):
    picks, scaled = select(make_pool(0), 12), select(make_pool(0, scale=scale), 12)
    assert picks.positions.tolist() == scaled.positions.tolist()
    np.testing.assert_allclose(picks.scores, scaled.scores, rtol=1e-3)


def test_activations_that_are_all_zero_can_be_chosen_from():
    assert len(set(select(make_pool(0, scale=0.0), 12).positions)) == 12


def test_many_updates_stay_exact():
    """After 120 of them the inverse is still that of M."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 40)).astype(np.float32)
    information = np.cov(rng.standard_normal((40, 200)))
    taken, _, inverse = fisher._forward(x, information, np.eye(40), 120)
    m = np.eye(40) + x[taken].astype(float).T @ x[taken]
    np.testing.assert_allclose(inverse, np.linalg.inv(m), rtol=1e-5, atol=1e-8)


def test_it_comes_nearer_to_the_optimum_than_chance():
    pool = make_pool(0, n=300, labelled=10, d=20)
    top = pool.probs.max(axis=1).astype(float)
    x = pool.activations * np.sqrt(top * (1 - top))[:, None]

    def left(positions):
        chosen = np.r_[np.flatnonzero(pool.labelled), positions]
        return np.trace(np.linalg.inv(np.eye(20) + x[chosen].T @ x[chosen] / len(chosen)) @ (x.T @ x / 300))

    chance = [left(np.random.default_rng(seed).choice(pool.unlabelled, 20, replace=False)) for seed in range(50)]
    assert left(select(pool, 20).positions) < min(chance)


def test_a_large_pool_is_sampled(monkeypatch):
    monkeypatch.setattr(fisher, "CANDIDATES", 30)
    pool = make_pool(0, n=200)
    found = [select(pool, 10, seed).positions.tolist() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert len(set(select(pool, 40).positions)) == 40
