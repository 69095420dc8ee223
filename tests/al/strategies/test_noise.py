"""Stochastic batches of the strategies that rank scores (Kirsch et al., TMLR 2023)."""

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from al.strategies import REGISTRY, Pool
from al.strategies.scores import NOISE_OPTIONS, noisy_top_k

RANKINGS = sorted(name for name, strategy in REGISTRY.items() if "batch_noise" in strategy.options)
NOISES = ["power", "softmax", "softrank"]


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def make_pool(n=200, labelled=40):
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((n, 4))
    return Pool(
        np.isin(np.arange(n), rng.choice(n, labelled, replace=False)),
        4,
        probs=softmax(logits),
        features=rng.standard_normal((n, 8)).astype(np.float32),
        mc_probs=softmax(logits + rng.standard_normal((5, n, 4))),
    )


def select(name, k, seed, **noise):
    return REGISTRY[name].select(make_pool(), k, np.random.default_rng(seed), **noise)


def test_every_ranking_takes_noise():
    assert RANKINGS == ["bald", "entropy", "margin", "typiclust", "uncertainty"]
    assert all(set(NOISE_OPTIONS) <= set(REGISTRY[name].options) for name in RANKINGS)


@pytest.mark.parametrize("name", RANKINGS)
@pytest.mark.parametrize("noise", NOISES)
def test_picks_are_distinct_unlabelled_and_seeded(name, noise):
    first, again, other = (select(name, 50, seed, batch_noise=noise) for seed in (1, 1, 2))
    assert first.positions.tolist() == again.positions.tolist() != other.positions.tolist()
    assert len(set(first.positions.tolist())) == 50
    assert not make_pool().labelled[first.positions].any()
    everything = select(name, 160, 3, batch_noise=noise)
    assert sorted(everything.positions.tolist()) == make_pool().unlabelled.tolist()


@pytest.mark.parametrize("name", ["bald", "entropy", "margin", "uncertainty"])
@pytest.mark.parametrize("noise", NOISES)
def test_without_noise_in_the_limit_it_is_top_k(name, noise):
    plain, limit = select(name, 30, 0), select(name, 30, 1, batch_noise=noise, batch_beta=1e9)
    assert limit.positions.tolist() == plain.positions.tolist()
    np.testing.assert_array_equal(limit.scores, plain.scores)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("least", [0.0, -1.0])
def test_the_first_pick_follows_its_distribution(noise, beta, least):
    """4,000 draws: proportional to s^beta, to exp(beta s), and to rank^-beta."""
    scores = np.array([0.9, 0.1, 0.4, 0.0, 0.6, 0.2]) + least
    chance = {
        "power": (scores - least) ** beta,
        "softmax": np.exp(beta * scores),
        "softrank": np.array([1, 5, 3, 6, 2, 4.0]) ** -beta,
    }[noise]
    rng, positions = np.random.default_rng(0), np.arange(10, 16)
    first = [
        noisy_top_k(scores, positions, 1, rng, least, batch_noise=noise, batch_beta=beta).positions[0]
        for _ in range(4000)
    ]
    seen, expected = np.bincount(np.array(first) - 10, minlength=6), 4000 * chance / chance.sum()
    possible = expected > 0
    assert not seen[~possible].any()
    assert chisquare(seen[possible], expected[possible]).pvalue > 1e-3


def test_scores_of_zero_come_last_and_by_chance():
    scores = np.zeros(50)
    scores[7] = 1e-6
    firsts = [
        noisy_top_k(scores, np.arange(50), 3, np.random.default_rng(seed), batch_noise="power").positions.tolist()
        for seed in range(20)
    ]
    assert all(picks[0] == 7 for picks in firsts)
    assert len({tuple(picks) for picks in firsts}) == 20


def test_nan_is_refused_with_noise_too():
    with pytest.raises(ValueError, match="NaN"):
        noisy_top_k(np.array([1, np.nan]), np.arange(2), 1, np.random.default_rng(0), batch_noise="power")


def test_noise_and_herding_buy_fewer_copies():
    """Digits four times over: of 100 picks by margin only a quarter are different images."""
    images, labels = load_digits(return_X_y=True)
    images = np.tile((images / 16).astype(np.float32), (4, 1))
    labelled = np.arange(len(images)) < 40
    model = LogisticRegression(C=0.1).fit(images[:40], labels[:40])
    known = np.where(labelled, np.tile(labels, 4), -1)
    pool = Pool(
        labelled,
        10,
        labels=known,
        probs=model.predict_proba(images).astype(np.float32),
        features=images,
        activations=images,
    )

    def different(name, **noise):
        picks = REGISTRY[name].select(pool, 100, np.random.default_rng(0), **noise)
        return len(set((picks.positions % (len(images) // 4)).tolist()))

    assert different("margin") <= 27
    assert all(different("margin", batch_noise=noise) >= 75 for noise in NOISES)
    assert different("maxherding") == different("uherding") == 100
