"""MaxHerding and UHerding against their formulas, in float64 with dense matrices and loops."""

import tracemalloc
from itertools import combinations
from unittest.mock import Mock

import numpy as np
import pytest

from al.strategies import REGISTRY, Pool, herding
from al.strategies.herding import Kernel, smallest_distance, uncertainty_at
from al.strategies.temperature import TEMPERATURES, calibrated_temperature, calibration_error, linear_head

SEEDS = [0, 1, 2]


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def make_pool(seed, n=90, labelled=9, c=4, d=12):
    rng = np.random.default_rng(seed)
    mask = np.isin(np.arange(n), rng.choice(n, labelled, replace=False))
    features = rng.standard_normal((n, d)).astype(np.float32)
    labels = np.where(mask, rng.integers(c, size=n), -1)
    probs = softmax(2 * rng.standard_normal((n, c)))
    return Pool(mask, c, labels=labels, probs=probs, features=features, activations=features)


def select(name, pool, k, seed=0, **options):
    return REGISTRY[name].select(pool, k, np.random.default_rng(seed), **options)


def kernel_of(features, sigma):
    unit = features.astype(float) / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
    squared = ((unit[:, None] - unit[None]) ** 2).sum(axis=-1)
    return np.exp(-squared / sigma**2), np.sqrt(squared)


def brute_herding(kernel, labelled, weight, k):
    """argmax_u sum_x U(x) max(k(x, u) - c(x), 0), U being 0 on the labelled."""
    covered = kernel[:, labelled].max(axis=1, initial=0)
    free, picks, gains = np.flatnonzero(~labelled).tolist(), [], []
    for _ in range(k):
        gain = {u: (weight * np.maximum(kernel[:, u] - covered, 0))[~labelled].sum() for u in free if u not in picks}
        most = max(gain.values())
        picks.append(min(u for u in gain if gain[u] >= most * (1 - 1e-5) - 1e-6))  # two that cover each other tie
        gains.append(gain[picks[-1]])
        covered = np.maximum(covered, kernel[:, picks[-1]])
    return picks, gains


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("labelled", [0, 1, 9])
def test_maxherding(seed, labelled):
    pool = make_pool(seed, labelled=labelled)
    expected, gains = brute_herding(kernel_of(pool.features, 1)[0], pool.labelled, 1, 30)
    picks = select("maxherding", pool, 30)
    assert picks.positions.tolist() == expected
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-4, atol=1e-5)
    assert (np.diff(picks.scores) <= 1e-5).all(), "a gain rose"


@pytest.mark.parametrize("seed", SEEDS)
def test_uherding(seed):
    pool = make_pool(seed, labelled=30)
    temperature = calibrated_temperature(pool, np.random.default_rng(seed))
    q = np.sort(softmax(np.log(pool.probs.astype(float)) / temperature).astype(float), axis=1)
    distances = kernel_of(pool.features, 1)[1][np.ix_(pool.labelled, pool.labelled)]
    sigma = distances[distances > 1e-6].min()
    kernel = kernel_of(pool.features, sigma)[0]
    expected, gains = brute_herding(kernel, pool.labelled, 1 - (q[:, -1] - q[:, -2]), 30)
    picks = select("uherding", pool, 30, seed)
    assert picks.positions.tolist() == expected
    np.testing.assert_allclose(picks.scores, gains, rtol=1e-3, atol=1e-5)


def test_uherding_without_labels_is_maxherding():
    pool = make_pool(0, labelled=0)
    assert select("uherding", pool, 20).positions.tolist() == select("maxherding", pool, 20).positions.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_uherding_of_equal_uncertainty_is_maxherding(seed, monkeypatch):
    monkeypatch.setattr(herding, "smallest_distance", lambda points: 1.0)
    pool = make_pool(seed)
    undecided = Pool(
        pool.labelled,
        4,
        labels=pool.labels,
        probs=np.full((90, 4), 0.25, np.float32),
        features=pool.features,
        activations=pool.features,
    )
    assert select("uherding", undecided, 25).positions.tolist() == select("maxherding", pool, 25).positions.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_uherding_of_a_vanishing_radius_is_top_k_of_uncertainty(seed, monkeypatch):
    monkeypatch.setattr(herding, "smallest_distance", lambda points: 1e-3)
    monkeypatch.setattr(herding, "calibrated_temperature", lambda pool, rng: 1.0)
    pool = make_pool(seed)
    uncertain = np.where(pool.labelled, -1, uncertainty_at(pool.probs, 1.0))
    expected = np.argsort(-uncertain, kind="stable")[:25]
    assert select("uherding", pool, 25, seed).positions.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [2, 3, 4])
def test_greedy_comes_near_the_best_set(seed, k):
    """(1 - 1/e) of the best of all sets is guaranteed (Nemhauser et al. 1978)."""
    pool = make_pool(seed, n=14, labelled=0, d=3)
    kernel = kernel_of(pool.features, 1)[0]
    best = max(kernel[:, list(chosen)].max(axis=1).sum() for chosen in combinations(range(14), k))
    assert select("maxherding", pool, k).scores.sum() >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("radius", [0.7, 0.9, 1.1])
@pytest.mark.parametrize("labelled", [0, 9])
def test_a_top_hat_kernel_is_probcover(radius, labelled, monkeypatch):
    def top_hat(kernel, rows, start):
        apart = np.linalg.norm(kernel.points[rows][:, None] - kernel.points[None, start:], axis=-1)
        return (apart < radius).astype(np.float32)

    pool = make_pool(4, labelled=labelled)
    monkeypatch.setattr(Kernel, "_between", top_hat)
    monkeypatch.setattr(herding, "nearest", lambda points, centres: (nearest_hat(points, centres, radius), None))
    lower_first = Mock(permutation=np.arange)
    expected = REGISTRY["probcover"].select(pool, 25, lower_first, probcover_delta=radius)
    covering = expected.scores > 0
    assert covering.sum() > 5
    picks = select("maxherding", pool, 25)
    assert picks.positions[covering].tolist() == expected.positions[covering].tolist()
    assert picks.scores.tolist() == expected.scores.tolist()


def nearest_hat(points, centres, radius):
    """A distance of 0 inside the radius and of infinity outside, so that exp(-distance^2) is the top hat."""
    least = np.linalg.norm(points[:, None] - centres[None], axis=-1).min(axis=1)
    return np.where(least < radius, 0, np.inf)


@pytest.mark.parametrize("refreshed", [1, 7, 1000])
@pytest.mark.parametrize("kept", [0, 5000, 10**9])
def test_neither_bounds_of_gains_nor_what_is_kept_changes_a_pick(refreshed, kept, monkeypatch):
    pool = make_pool(5, n=300, labelled=20)
    expected = select("maxherding", pool, 40).positions.tolist()
    monkeypatch.setattr(herding, "REFRESHED", refreshed)
    monkeypatch.setattr(herding, "KEPT_BYTES", kept)
    monkeypatch.setattr(herding, "KERNEL_ROWS", 37)
    assert select("maxherding", pool, 40).positions.tolist() == expected


def test_candidates_are_a_seeded_sample_of_a_large_pool():
    pool = make_pool(0, n=400, labelled=10)
    first, again, other = (select("maxherding", pool, 20, seed, herding_candidates=60) for seed in (1, 1, 2))
    assert first.positions.tolist() == again.positions.tolist() != other.positions.tolist()
    assert len(set(select("maxherding", pool, 100, herding_candidates=60).positions)) == 100, "fewer than k candidates"


def test_copies_are_the_last_to_be_picked():
    """30 samples four times over: a copy of what is picked or labelled raises no coverage."""
    base = make_pool(1, n=30, labelled=0)
    labelled = np.arange(120) < 5
    pool = Pool(labelled, 4, features=np.tile(base.features, (4, 1)))
    picks = select("maxherding", pool, 115)
    assert set(picks.positions[:25] % 30) == set(range(5, 30))
    np.testing.assert_array_equal(picks.scores[25:], 0)


@pytest.mark.parametrize("offset", [0, 1000])
def test_the_smallest_distance_passes_over_copies(offset):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((700, 20)) + offset).astype(np.float32)
    x[600:] = x[:100]
    squared = ((x[:, None, :].astype(float) - x[None].astype(float)) ** 2).sum(-1)
    assert smallest_distance(x) == pytest.approx(np.sqrt(squared[squared > 0].min()), rel=1e-4)
    assert smallest_distance(np.ones((5, 3), np.float32)) == smallest_distance(x[:1]) == 1


def unit_points(n=40, d=300):
    points = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_the_kernel_of_copies_is_exactly_one():
    kernel = Kernel(np.tile(unit_points(), (2, 1)), 1e-4).rows(np.arange(80))
    np.testing.assert_array_equal(np.diag(kernel), 1)
    np.testing.assert_array_equal(np.diag(kernel[:40, 40:]), 1)


@pytest.mark.parametrize("block", [1, 7, 40, 512])
def test_gains_of_parts_of_the_kernel_are_those_of_all_of_it(block, monkeypatch):
    monkeypatch.setattr(herding, "KERNEL_ROWS", block)
    rng, points = np.random.default_rng(1), unit_points()
    covered, weight = rng.random(40).astype(np.float32), rng.random(40).astype(np.float32)
    whole = kernel_of(points, 0.9)[0]
    expected = (weight[:, None] * np.maximum(whole - covered[:, None], 0)).sum(axis=0)
    np.testing.assert_allclose(Kernel(points.copy(), 0.9).gains(covered, weight), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["maxherding", "uherding"])
def test_no_kernel_of_all_pairs_is_held(name, monkeypatch):
    """Of 6,000 samples it would take 144 MB."""
    monkeypatch.setattr(herding, "KEPT_BYTES", 8 * 2**20)
    pool = make_pool(0, n=6000, labelled=20)
    tracemalloc.start()
    select(name, pool, 30)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60e6


def test_copies_among_the_labels_leave_the_radius_of_uherding_alone(monkeypatch):
    """Every label is there twice: a distance of 0 would make the kernel one of equal samples only."""
    seen, pool = [], make_pool(3, n=120, labelled=0)
    monkeypatch.setattr(herding, "_herd", lambda pool, candidates, weight, sigma, k: seen.append(sigma))
    for copies in (1, 2):
        labelled = np.isin(np.arange(120), np.arange(20 * copies))
        features = pool.features.copy()
        features[20 : 20 * copies] = features[:20] if copies == 2 else features[20:20]
        labels = np.where(labelled, np.arange(120) % 4, -1)
        now = Pool(labelled, 4, labels=labels, probs=pool.probs, features=features, activations=features)
        select("uherding", now, 5)
    assert seen[0] == pytest.approx(seen[1], rel=1e-5)
    assert seen[0] > 0.1


def test_temperature_is_the_one_of_least_calibration_error_on_labels_held_out():
    """Done again step by step, with scikit-learn in place of the head."""
    from sklearn.linear_model import LogisticRegression

    pool = make_pool(8, n=400, labelled=300)
    known = np.random.default_rng(5).permutation(np.flatnonzero(pool.labelled))
    unseen, fitted = known[:90], known[90:]
    x = pool.activations.astype(float)
    x = (x - x[fitted].mean(axis=0)) / (x[fitted].std(axis=0) * np.sqrt(x.shape[1]))
    with_ones = np.c_[x, np.ones(400)]
    head = LogisticRegression(C=1 / (210 * 1e-3), fit_intercept=False, tol=1e-10, max_iter=5000)
    head.fit(with_ones[fitted], pool.labels[fitted])
    logits = with_ones[unseen] @ head.coef_.T
    errors = [calibration_error(logits / t, pool.labels[unseen]) for t in TEMPERATURES]
    found = calibrated_temperature(pool, np.random.default_rng(5))
    assert errors[int(np.argmin(np.abs(TEMPERATURES - found)))] == pytest.approx(min(errors), abs=2e-3)


def test_temperature_is_high_where_labels_are_noise():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 40)).astype(np.float32)
    clear = x[:, :3].argmax(axis=1)
    probs = np.full((300, 3), 1 / 3, np.float32)
    noise = rng.integers(3, size=300)
    found = [
        calibrated_temperature(Pool(np.ones(300, bool), 3, labels=labels, activations=1000 + x, probs=probs), rng)
        for labels in (clear, noise)
    ]
    assert found[0] < found[1]
    assert set(found) <= set(TEMPERATURES.tolist())


@pytest.mark.parametrize("known", [0, 1, 2])
def test_temperature_of_few_labels_is_one(known):
    mask = np.arange(20) < known
    labels = np.where(mask, 0, -1)
    pool = Pool(mask, 3, labels=labels, activations=np.random.default_rng(0).random((20, 4)).astype(np.float32))
    assert calibrated_temperature(pool, np.random.default_rng(0)) == 1


def test_linear_head_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((200, 5)), rng.integers(3, size=200)
    weight, bias = linear_head(x, labels, 3)
    with_ones = np.c_[x, np.ones(200)]
    model = LogisticRegression(C=1 / (200 * 1e-3), fit_intercept=False, tol=1e-8, max_iter=1000).fit(with_ones, labels)
    np.testing.assert_allclose(softmax(x @ weight.T + bias), model.predict_proba(with_ones), atol=1e-3)


def test_calibration_error_of_a_known_case():
    """Ten predictions of 0.8 and 0.6, of which 5 and 2 of 5 are right: gaps 0.2 and 0.2."""
    probs = np.r_[np.tile([0.8, 0.2], (5, 1)), np.tile([0.6, 0.4], (5, 1))]
    labels = np.r_[np.zeros(5, int), [0, 0, 1, 1, 1]]
    assert calibration_error(np.log(probs), labels) == pytest.approx(0.2)


def test_labelled_copies_that_differ_by_rounding_do_not_narrow_the_kernel():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 20)).astype(np.float32)
    copies = np.concatenate([x, x[:3] + np.float32(1e-6)])
    assert smallest_distance(copies) == pytest.approx(smallest_distance(x), rel=1e-4)
