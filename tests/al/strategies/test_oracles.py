"""Every strategy against a brute-force version written straight from its formula: the picks must be the same.

The oracles work in float64 with loops and dense matrices, and cluster with scikit-learn, on blobs so far apart that
every sound k-means finds the same clusters.
"""

import math
from itertools import permutations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from al.strategies import REGISTRY, Pool, clustering, coverage, gradient
from al.strategies.coverage import pure_radius
from al.strategies.gradient import gradient_distances
from al.strategies.typiclust import typicality

SEEDS = [0, 1, 2]


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def blobs(sizes, d=40, seed=0):
    """Features f32[N, D] in tight far blobs, in random row order, and the blob of each row."""
    rng = np.random.default_rng(seed)
    blob = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = np.linalg.qr(rng.standard_normal((d, d)))[0][: len(sizes)] * 60
    return (centres[blob] + rng.standard_normal((len(blob), d))).astype(np.float32), blob


def some(n, count, seed=0):
    """bool[n], `count` of them True."""
    return np.isin(np.arange(n), np.random.default_rng(seed).choice(n, count, replace=False))


def probabilities(n, c=5, seed=0):
    return softmax(2 * np.random.default_rng(seed + 50).standard_normal((n, c)))


def select(name, pool, k, seed=0, **options):
    return REGISTRY[name].select(pool, k, np.random.default_rng(seed), **options)


def euclid(x, y):
    return np.sqrt(((x[:, None].astype(float) - y[None].astype(float)) ** 2).sum(-1))


def sklearn_clusters(x, k):
    model = KMeans(k, n_init=10, random_state=0).fit(x.astype(float))
    return model.labels_, model.cluster_centers_


def entropy(p):
    return -sum(v * math.log(v) for v in p if v > 0)


def best(scores: dict, k):
    """Rows of the k highest scores, ties to the lower row."""
    return sorted(scores, key=lambda row: (-scores[row], row))[:k]


@pytest.mark.parametrize("name", ["random", "stratified"])
def test_every_image_is_as_likely(name):
    """Of 12 unlabelled 3 are picked 4,000 times: 1,000 each, with a standard deviation of 27; so is each place."""
    pool = Pool(some(20, 8), 2)
    rng = np.random.default_rng(0)
    drawn = np.array([REGISTRY[name].select(pool, 3, rng).positions for _ in range(4000)])
    assert np.abs(np.bincount(drawn.ravel(), minlength=20)[pool.unlabelled] - 1000).max() < 110
    assert np.abs(np.bincount(drawn[:, 0], minlength=20)[pool.unlabelled] - 4000 / 12).max() < 80


def brute_uncertainty(p):
    return 1 - max(p)


def brute_margin(p):
    first, second = sorted(p, reverse=True)[:2]
    return second - first


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "score"), [("uncertainty", brute_uncertainty), ("margin", brute_margin), ("entropy", entropy)]
)
def test_rankings(name, score, seed):
    probs = probabilities(300, seed=seed)
    pool = Pool(some(300, 60, seed), 5, probs=probs)
    scores = {row: score(probs[row].astype(float)) for row in pool.unlabelled.tolist()}
    picks = select(name, pool, 40)
    assert picks.positions.tolist() == best(scores, 40)
    np.testing.assert_allclose(picks.scores, [scores[row] for row in picks.positions], rtol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_bald(seed):
    mc = softmax(2 * np.random.default_rng(seed).standard_normal((7, 200, 4)))
    pool = Pool(some(200, 20, seed), 4, mc_probs=mc)
    scores = {
        row: entropy(mc[:, row].astype(float).mean(axis=0)) - np.mean([entropy(p) for p in mc[:, row].astype(float)])
        for row in pool.unlabelled.tolist()
    }
    picks = select("bald", pool, 25)
    assert picks.positions.tolist() == best(scores, 25)
    np.testing.assert_allclose(picks.scores, [scores[row] for row in picks.positions], rtol=1e-3, atol=1e-6)


def test_rankings_score_the_last_partial_part(monkeypatch):
    monkeypatch.setattr("al.strategies.scores.BLOCK_BYTES", 64 * 20)
    probs = probabilities(150)
    probs[149] = 0.2
    assert select("entropy", Pool(some(150, 0), 5, probs=probs), 1).positions.tolist() == [149]


def test_entropy_of_a_certain_class_is_zero():
    probs = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    np.testing.assert_array_equal(select("entropy", Pool(some(4, 0), 3, probs=probs), 4).scores, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_typiclust_of_the_study(seed):
    features, _ = blobs([9, 8, 8, 7, 6, 12, 9, 5], seed=seed)  # 64 unlabelled: floor(sqrt) = 8 clusters
    features = np.r_[features, features[:20] * 3]
    labelled = np.arange(84) >= 64
    probs = probabilities(84, seed=seed)
    assignment, centres = sklearn_clusters(features[:64], 8)
    h = np.array([entropy(p) for p in probs[:64].astype(float)])
    d = euclid(features[:64], centres)[np.arange(64), assignment]
    score = ((h - h.min()) / (h.max() - h.min()) + (d - d.min()) / (d.max() - d.min())) / 2
    picks = select("typiclust", Pool(labelled, 5, probs=probs, features=features), 20, seed)
    assert picks.positions.tolist() == best(dict(enumerate(score)), 20)
    np.testing.assert_allclose(picks.scores, score[picks.positions], rtol=1e-3)


@pytest.mark.parametrize("same", ["probs", "features"])
def test_typiclust_of_the_study_goes_by_one_part_where_the_other_is_constant(same):
    features, _ = blobs([20, 20])
    probs = probabilities(40)
    if same == "probs":
        probs[:] = 0.2
    else:
        features[:] = 3.7
    pool = Pool(some(40, 0), 5, probs=probs, features=features)
    picks = select("typiclust", pool, 40)
    part = {row: entropy(p) for row, p in enumerate(probs.astype(float))}
    assert picks.scores.max() == pytest.approx(0.5, abs=1e-6)
    if same == "features":
        assert picks.positions.tolist() == best(part, 40)


def brute_typicality(x):
    """Of every row of x [n, D] among the others."""
    out = []
    for i in range(len(x)):
        others = np.sort(np.delete(np.linalg.norm(x - x[i], axis=1), i))
        count = min(20, len(x) // 2)
        out.append(1 / others[:count].mean() if count else 0)
    return np.array(out)


def brute_typical(features, assignment, labelled, k):
    x = features.astype(float) / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
    score, queues = np.zeros(len(x)), []
    for cluster in set(assignment):
        members = np.flatnonzero(assignment == cluster)
        score[members] = brute_typicality(x[members])
        queue = [row for row in best({row: score[row] for row in members}, len(members)) if not labelled[row]]
        order = (len(members) <= 5, labelled[members].sum(), -len(members), members[0])
        queues.append((order, queue))
    queues.sort()
    picks = []
    for small in (False, True):
        turns = [queue for order, queue in queues if order[0] == small]
        while any(turns) and len(picks) < k:
            for queue in turns:
                if queue and len(picks) < k:
                    picks.append(queue.pop(0))
    return picks, score


@pytest.mark.parametrize(("k", "labels"), [(7, 2), (3, 6), (9, 0)])
def test_typiclust_typical(k, labels):
    features, blob = blobs([40, 31, 22, 50, 13, 60, 9, 5, 3], seed=k)  # |L| + k = 9 clusters
    features *= (
        np.random.default_rng(k).uniform(0.05, 5, (len(features), 1)).astype(np.float32)
    )  # only directions count
    labelled = np.zeros(len(blob), bool)
    labelled[[np.flatnonzero(blob == b)[0] for b in range(labels)]] = True
    assignment, _ = sklearn_clusters(features / np.linalg.norm(features, axis=1, keepdims=True), 9)
    expected, score = brute_typical(features, assignment, labelled, k)
    picks = select("typiclust_typical", Pool(labelled, 5, features=features), k)
    assert picks.positions.tolist() == expected
    np.testing.assert_allclose(picks.scores, score[expected], rtol=1e-3)


def test_typiclust_typical_goes_round_again_and_takes_outliers_last():
    features, blob = blobs([8, 12, 3])
    pool = Pool(np.zeros(23, bool), 3, features=features)
    expected, _ = brute_typical(features, blob, pool.labelled, 22)
    picks = select("typiclust_typical", pool, 22, typiclust_max_clusters=3)
    assert picks.positions.tolist() == expected
    assert [int(blob[row]) for row in expected[:5]] == [1, 0, 1, 0, 1]
    assert {int(blob[row]) for row in expected[20:]} == {2}


def test_typiclust_typical_looks_at_a_part_of_a_large_cluster():
    """Of 60 samples around a point 30 are looked at: the picks are among them, and rarely the very best one."""
    options = {"typiclust_max_clusters": 2, "typiclust_members": 30}
    features, _ = blobs([60, 60])
    pool = Pool(np.zeros(120, bool), 2, features=features)
    found = [select("typiclust_typical", pool, 2, seed, **options) for seed in range(10)]
    assert len({tuple(picks.positions.tolist()) for picks in found}) > 1
    assert all((picks.scores > 0).all() for picks in found)
    again = select("typiclust_typical", pool, 2, 3, **options)
    assert again.positions.tolist() == found[3].positions.tolist()


@pytest.mark.parametrize("most", [60, 20_000])
def test_a_bound_that_no_cluster_reaches_changes_nothing(most):
    features, _ = blobs([60, 41, 7])
    pool = Pool(some(108, 15, 0), 2, features=features)
    expected = select("typiclust_typical", pool, 50)
    assert select("typiclust_typical", pool, 50, typiclust_members=most).positions.tolist() == (
        expected.positions.tolist()
    )


def test_typicality_of_equal_samples_ties():
    assert len(set(typicality(np.full((30, 7), 0.3, np.float32)).tolist())) == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("labels", [0, 1, 25])
@pytest.mark.parametrize("front", [1, 20, 8192])
def test_coreset(seed, labels, front, monkeypatch):
    monkeypatch.setattr(coverage, "FRONT_ROWS", front)
    features = np.random.default_rng(seed).standard_normal((250, 12)).astype(np.float32)
    pool = Pool(some(250, labels, seed), 3, features=features)
    picks = select("coreset", pool, 60, seed)
    distances = euclid(features, features)
    chosen = np.flatnonzero(pool.labelled).tolist() or picks.positions[:1].tolist()
    expected = [] if labels else picks.positions[:1].tolist()
    while len(expected) < 60:
        gap = {row: distances[row, chosen].min() for row in range(250) if row not in chosen}
        expected += best(gap, 1)
        chosen.append(expected[-1])
    assert picks.positions.tolist() == expected


def unit(features):
    """Scaled to length 1, as the authors of ProbCover and TypiClust do."""
    features = features.astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def brute_cover(features, labelled, delta, k, seed=0):
    rank = np.random.default_rng(seed).permutation(len(features))
    near = euclid(unit(features), unit(features)) < delta
    unlabelled = np.flatnonzero(~labelled).tolist()
    uncovered = {y for y in unlabelled if not near[labelled, y].any()}
    picks, gains = [], []
    while uncovered and len(picks) < k:
        gain = {x: sum(1 for y in uncovered if near[x, y]) for x in unlabelled}
        picks.append(max(gain, key=lambda x: (gain[x], -rank[x])))
        gains.append(gain[picks[-1]])
        uncovered -= {y for y in uncovered if near[picks[-1], y]}
    return picks, gains


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("labels", "delta"), [(0, 0.8), (20, 0.9), (3, 1.1), (10, 0.01), (5, 1e-6), (5, 100.0)])
def test_probcover(seed, labels, delta, monkeypatch):
    monkeypatch.setattr(coverage, "BALL_ROWS", 32)  # several blocks, the last not full
    monkeypatch.setattr(coverage, "BALL_COLUMNS", 96)
    monkeypatch.setattr(coverage, "BALL_SKETCH", 3)  # of 8 directions, so that many sketches are near by mistake
    features = np.random.default_rng(seed).standard_normal((315, 8)).astype(np.float32)
    pool = Pool(some(315, labels, seed), 4, features=features)
    expected, gains = brute_cover(features, pool.labelled, delta, 50)
    picks = select("probcover", pool, 50, probcover_delta=delta)
    assert picks.positions[: len(expected)].tolist() == expected
    assert picks.scores.tolist() == gains + [0] * (50 - len(gains))
    assert len(set(picks.positions.tolist())) == 50


def clear_radius(features, share):
    """A radius of about that share of all distances, well between two of them, where rounding decides nothing."""
    near = np.unique(euclid(unit(features), unit(features)))
    candidates = near[int(share * (len(near) - 1)) :][:200]
    gap = np.diff(candidates).argmax()
    return candidates[gap : gap + 2].mean()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.9])
def test_probcover_of_blobs_and_of_repeated_samples(share):
    features, _ = blobs([150, 200, 170], d=200)
    features[::3] = features[0]
    features = (features + 50).astype(np.float16)
    pool, delta = Pool(some(520, 1), 3, features=features), clear_radius(features, share)
    expected, _ = brute_cover(features, pool.labelled, delta, 5)
    assert select("probcover", pool, 5, probcover_delta=delta).positions[: len(expected)].tolist() == expected


@pytest.mark.parametrize("share", [0.001, 0.02, 0.2, 0.8])
def test_balls_of_every_size_and_every_part_of_a_block(share, monkeypatch):
    monkeypatch.setattr(coverage, "BALL_ROWS", 8)
    monkeypatch.setattr(coverage, "BALL_COLUMNS", 64)
    features = np.random.default_rng(0).standard_normal((203, 6)).astype(np.float32)
    radius, rows = clear_radius(features, share), np.arange(1, 203)
    balls = coverage.Balls(features, rows, 101, radius)
    near = euclid(unit(features), unit(features))[np.ix_(balls.positions[:101], balls.positions)] < radius
    assert set(balls.positions[:101]) == set(rows[:101])
    np.testing.assert_array_equal(np.unpackbits(balls.bits, axis=1, count=202), near)
    np.testing.assert_array_equal(balls.reach(np.arange(50)), near[:50].sum(axis=0))
    np.testing.assert_array_equal(balls.around(150), near[:, 150])


@pytest.mark.parametrize("directions", [1, 5, 30, 128])
def test_sketches_are_never_farther_apart(directions, monkeypatch):
    monkeypatch.setattr(coverage, "BALL_SKETCH", directions)
    points = blobs([40, 30, 20], d=30)[0]
    points -= points.mean(axis=0)
    sketch = coverage.sketched(points)
    assert sketch.shape == (90, min(directions, 30) + 1)
    np.testing.assert_allclose((sketch**2).sum(axis=1), (points**2).sum(axis=1), rtol=1e-4)
    excess = euclid(points, points) ** 2 - euclid(sketch, sketch) ** 2
    assert excess.min() > -1e-2
    assert excess.max() < (1e-1 if directions >= 30 else 1e5)


@pytest.mark.parametrize("radius", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("offset", [0, 300])
def test_probcover_covers_exact_duplicates_however_small_the_radius(radius, offset):
    """25 samples four times over: each pick covers its copies, and after 25 all are covered."""
    features = np.tile(np.random.default_rng(3).standard_normal((25, 600)) + offset, (4, 1)).astype(np.float32)
    picks = select("probcover", Pool(some(100, 0), 4, features=features), 30, probcover_delta=radius)
    assert set(picks.positions[:25] % 25) == set(range(25))
    assert picks.scores.tolist() == [4] * 25 + [0] * 5


def test_probcover_takes_no_class_first_where_each_sample_covers_only_itself():
    """A data set is often in order of class: the first rows of equal gain would all be of one."""
    features = np.random.default_rng(0).standard_normal((1000, 200)).astype(np.float32)
    picks = select("probcover", Pool(some(1000, 0), 4, features=features), 200, probcover_delta=0.1)
    assert (picks.scores == 1).all()
    assert np.bincount(picks.positions // 100, minlength=10).max() < 40


def test_probcover_looks_at_directions():
    features, _ = blobs([40, 60, 50], d=30)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (150, 1)).astype(np.float32)
    one = select("probcover", Pool(some(150, 5), 3, features=features), 3, probcover_delta=0.2)
    two = select("probcover", Pool(some(150, 5), 3, features=features * lengths), 3, probcover_delta=0.2)
    assert one.positions.tolist() == two.positions.tolist()


@pytest.mark.parametrize("purity", [0.5, 0.9, 0.95, 1.0])
def test_probcover_takes_the_largest_pure_radius(purity):
    features, _ = blobs([30, 40, 25], d=6)
    features = features * 0.06 + np.random.default_rng(0).standard_normal(features.shape).astype(np.float32) * 0.2
    label, _ = sklearn_clusters(unit(features), 3)
    distances = euclid(unit(features), unit(features))

    stranger = label[:, None] != label

    def share_of_pure_balls(radius):
        return 1 - ((distances < radius) & stranger).any(axis=1).mean()

    largest = max(radius for radius in np.unique(distances[stranger]) if share_of_pure_balls(radius) >= purity - 1e-9)
    found = pure_radius(features, 3, purity)
    assert found == pytest.approx(largest, rel=3e-4)
    assert share_of_pure_balls(found) >= purity - 1e-9


def test_probcover_on_its_own_radius():
    features, _ = blobs([30, 40, 25], d=6)
    pool = Pool(some(95, 1), 3, features=features)
    delta = pure_radius(features, 3, 0.95)
    expected, _ = brute_cover(features, pool.labelled, delta, 10, seed=7)
    assert select("probcover", pool, 10, seed=7).positions[: len(expected)].tolist() == expected
    assert len(expected) == 2, "one ball covers a blob, and one blob is labelled"


def test_probcover_finds_its_radius_once(monkeypatch):
    """The same in each round, whatever its generator; found again only for other features."""
    calls = []
    monkeypatch.setattr(coverage, "nearest_stranger", lambda *_, **__: calls.append(1) or np.linspace(0.1, 1, 50))
    features = np.random.default_rng(77).standard_normal((50, 6)).astype(np.float32)
    picks = [select("probcover", Pool(some(50, n), 3, features=features), 5, seed=n) for n in (0, 5, 10)]
    assert len(picks) == 3
    assert len(calls) == 1
    select("probcover", Pool(some(50, 0), 3, features=features[::-1].copy()), 5)
    assert len(calls) == 2


def test_probcover_samples_a_large_pool(monkeypatch):
    monkeypatch.setattr(coverage, "GRAPH_SAMPLES", 100)
    features, blob = blobs([200, 200, 200], d=6)
    picks = select("probcover", Pool(some(600, 0), 3, features=features), 3, probcover_delta=0.5)
    assert set(blob[picks.positions]) == {0, 1, 2}
    assert picks.scores.sum() == 100


def embeddings(probs, features):
    """[N, C x D] as BADGE defines them."""
    a = probs.astype(float) - np.eye(probs.shape[1])[probs.argmax(axis=1)]
    return np.einsum("nc,nd->ncd", a, features.astype(float)).reshape(len(probs), -1)


@pytest.mark.parametrize("seed", SEEDS)
def test_badge(seed, monkeypatch):
    monkeypatch.setattr(gradient, "REJECTED", 5)
    features = np.abs(np.random.default_rng(seed).standard_normal((200, 15))).astype(np.float32)
    probs = probabilities(200, seed=seed)
    pool = Pool(some(200, 30, seed), 5, probs=probs, activations=features)
    g = embeddings(probs, features)[pool.unlabelled]
    rng = np.random.default_rng(seed)
    picks, rejected = [int(rng.integers(len(g)))], 5
    while len(picks) < 40:
        if rejected == 5:  # all distances are looked at anew
            old, rejected = (euclid(g, g[picks]) ** 2).min(axis=1), 0
        drawn = int(np.searchsorted(np.cumsum(old), rng.random() * old.sum(), side="right"))
        if rng.random() * old[drawn] < min((euclid(g[[drawn]], g[picks]) ** 2).min(), old[drawn]):
            picks.append(drawn)
        else:
            rejected += 1
    assert select("badge", pool, 40, seed).positions.tolist() == pool.unlabelled[picks].tolist()


@pytest.mark.parametrize("rejected", [1, 1000])
def test_badge_draws_by_squared_distance(rejected, monkeypatch):
    """Of 6 samples 3 are drawn 4,000 times; compared is how often each pair follows the first."""
    monkeypatch.setattr(gradient, "REJECTED", rejected)
    features = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)
    pool = Pool(some(6, 0), 4, probs=probabilities(6, 4), activations=features)
    g = embeddings(pool.probs, features)
    squared = euclid(g, g) ** 2
    rng, drawn = np.random.default_rng(0), {}
    for _ in range(4000):
        rows = tuple(REGISTRY["badge"].select(pool, 3, rng).positions.tolist())
        drawn[rows] = drawn.get(rows, 0) + 1
    for first, second, third in permutations(range(6), 3):
        nearer = np.minimum(squared[first], squared[second])
        chance = squared[first, second] / squared[first].sum() * nearer[third] / nearer.sum() / 6
        spread = (4000 * chance * (1 - chance)) ** 0.5
        assert abs(drawn.get((first, second, third), 0) - 4000 * chance) < 4.5 * spread + 1


def test_badge_distances_are_those_of_the_embeddings():
    rng = np.random.default_rng(0)
    features, probs = rng.standard_normal((50, 9)), probabilities(50).astype(float)
    probs[7], features[7] = probs[3], features[3]
    errors = probs - np.eye(5)[probs.argmax(axis=1)]
    apart = ((features - features[3]) ** 2).sum(axis=1)
    g = embeddings(probs, features)
    found = gradient_distances(errors, (features**2).sum(axis=1), apart, 3)
    np.testing.assert_allclose(found, ((g - g[3]) ** 2).sum(axis=1), rtol=1e-9, atol=1e-12)
    assert found[3] == found[7] == 0


def test_badge_prefers_the_uncertain():
    """Certain predictions have embeddings near 0, so beyond the first pick they are hardly ever drawn."""
    probs = np.tile(np.array([[0.999, 0.001]], np.float32), (400, 1))
    probs[::4] = [0.55, 0.45]
    features = 1 + np.random.default_rng(0).random((400, 10)).astype(np.float32)
    picks = select("badge", Pool(some(400, 0), 2, probs=probs, activations=features), 30)
    assert (picks.positions[1:] % 4 == 0).mean() > 0.9


def brute_cluster_margin(probs, cluster, labelled, k, candidates=10):
    margin = {row: -abs(np.diff(np.sort(probs[row].astype(float))[-2:])[0]) for row in np.flatnonzero(~labelled)}
    queues = {}
    for row in best(margin, candidates * k):
        queues.setdefault(cluster[row], []).append(row)
    first = {name: np.flatnonzero(cluster == name)[0] for name in queues}  # of two as large the one seen first
    turns = [queues[name] for name in sorted(queues, key=lambda name: (len(queues[name]), first[name]))]
    picks = []
    while len(picks) < k and any(turns):
        picks += [queue.pop(0) for queue in turns if queue]
    return picks[:k]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [1, 4, 9])
def test_cluster_margin(seed, k):
    """Blobs of different sizes are the clusters, whoever is labelled and whatever the margins are."""
    sizes = [15, 12, 4, 9, 18, 2, 20]
    features, blob = blobs(sizes, seed=seed)
    probs, labelled = probabilities(80, seed=seed), some(80, 20, seed)
    picks = select(
        "cluster_margin",
        Pool(labelled, 5, probs=probs, features=features),
        k,
        seed,
        cluster_margin_candidates=3,
        cluster_margin_size=12,  # 7 clusters of 80
    )
    assert picks.positions.tolist() == brute_cluster_margin(probs, blob, labelled, k, 3)


def test_cluster_margin_starts_with_the_smallest_cluster_of_many():
    """With as many clusters as picks the order would have no effect: here 2 picks are left to 4 clusters."""
    features, blob = blobs([12, 8, 5, 3])
    first = np.random.default_rng(0).uniform(0.5, 0.6, 28)
    pool = Pool(some(28, 0), 2, probs=np.c_[first, 1 - first].astype(np.float32), features=features)
    picks = select("cluster_margin", pool, 2, cluster_margin_candidates=14, cluster_margin_size=7)
    assert blob[picks.positions].tolist() == [3, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_cluster_margin_keeps_its_clusters_whatever_is_labelled_and_drawn(seed):
    """Another round: other labels, other margins, another generator, another array; the same clusters."""
    features = np.random.default_rng(9).standard_normal((90, 12)).astype(np.float32)
    cluster = clustering.hierarchical_clusters(features, 6)
    for number in range(3):
        probs, labelled = probabilities(90, seed=number), some(90, 10 * number, number)
        pool = Pool(labelled, 5, probs=probs, features=features.copy())
        picks = select("cluster_margin", pool, 12, seed=seed + number, cluster_margin_size=6)
        assert picks.positions.tolist() == brute_cluster_margin(probs, cluster, labelled, 12)


def test_cluster_margin_looks_at_so_many_candidates():
    """Of the 4 x 2 smallest margins most lie in blob 1, which has its turn last; of the 10 x 2 smallest in blob 0."""
    features, blob = blobs([20, 20])
    small = np.array([1, 1, 0, 1, 1, 0, 1, 1, *[0] * 12])  # blobs of the 20 smallest margins, the smallest first
    rank = np.full(40, 39)
    for b in range(2):
        rank[np.flatnonzero(blob == b)[: (small == b).sum()]] = np.flatnonzero(small == b)
    first = 0.5 + 0.01 * rank
    pool = Pool(some(40, 0), 2, probs=np.c_[first, 1 - first].astype(np.float32), features=features)
    of_blob = [int(np.flatnonzero(blob == b)[0]) for b in range(2)]
    assert select("cluster_margin", pool, 2, cluster_margin_candidates=4).positions.tolist() == of_blob
    assert select("cluster_margin", pool, 2).positions.tolist() == of_blob[::-1]


def test_cluster_margin_passes_over_exhausted_clusters():
    features, blob = blobs([2, 3, 15])
    first = np.random.default_rng(0).uniform(0.4, 0.6, 20)
    probs = np.c_[first, 1 - first].astype(np.float32)
    margin = dict(enumerate(-np.abs(probs[:, 0] - probs[:, 1])))
    queues = [best({r: margin[r] for r in np.flatnonzero(blob == b)}, 99) for b in range(3)]
    turns = [queues[b].pop(0) for b in (0, 1, 2, 0, 1, 2, 1, 2, 2, 2)]
    pool = Pool(some(20, 0), 2, probs=probs, features=features)
    assert select("cluster_margin", pool, 10, cluster_margin_size=7).positions.tolist() == turns


def most_central(features, groups):
    """Of each group of rows, the larger first, the one nearest to its mean."""
    rows = []
    for members in sorted(groups, key=lambda members: (-len(members), members[0])):
        x = features[members].astype(float)
        rows.append(int(members[np.linalg.norm(x - x.mean(axis=0), axis=1).argmin()]))
    return rows


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [4, 70])
def test_dropquery(seed, k):
    features, blob = blobs([20, 30, 12, 15], seed=seed)
    features = np.r_[features, features[:40] * 7]
    rng = np.random.default_rng(seed)
    probs = softmax(rng.standard_normal((117, 3)))
    predicted = probs.argmax(axis=1)
    changed = np.r_[rng.integers(2, 4, 77), rng.integers(0, 2, 40)]  # 77 change in 2 or 3 of 3 passes
    votes = np.array([(predicted + (changed > m)) % 3 for m in range(3)])
    labelled = np.r_[some(77, 5, seed), some(40, 5, seed)]
    pool = Pool(labelled, 3, probs=probs, features=features, drop_votes=votes)
    picks = select("dropquery", pool, k, seed)
    np.testing.assert_allclose(picks.scores, changed[picks.positions] / 3, rtol=1e-6)
    assert (picks.positions < 77).all(), "a robust sample was taken before the fragile ones"
    if k == 4:
        groups = [np.flatnonzero((blob == b) & ~labelled[:77]) for b in range(4)]
        assert picks.positions.tolist() == most_central(features, groups)


def test_dropquery_fills_up_from_the_robust():
    features, blob = blobs([10, 10, 10])
    probs = np.tile(np.array([[0.7, 0.3]], np.float32), (30, 1))
    votes = np.zeros((3, 30), np.int64)
    votes[:2, [4, 5]] = 1
    picks = select("dropquery", Pool(some(30, 0), 2, probs=probs, features=features, drop_votes=votes), 5)
    assert picks.positions[:2].tolist() == [4, 5]
    steady = np.isin(np.arange(30), [4, 5], invert=True)
    assert picks.positions[2:].tolist() == most_central(
        features, [np.flatnonzero((blob == b) & steady) for b in range(3)]
    )
    np.testing.assert_allclose(picks.scores, [2 / 3, 2 / 3, 0, 0, 0], rtol=1e-6)


def test_dropquery_half_of_an_even_number_of_passes_is_not_more_than_half():
    features, _ = blobs([10, 10])
    probs = np.tile(np.array([[0.7, 0.3]], np.float32), (20, 1))
    votes = np.zeros((4, 20), np.int64)
    votes[:2] = 1
    votes[2, 13] = 1
    pool = Pool(some(20, 0), 2, probs=probs, features=features, drop_votes=votes)
    assert select("dropquery", pool, 1).positions.tolist() == [13]


def test_streaming_gives_the_same_picks(monkeypatch):
    features, _ = blobs([60, 70, 80], d=20)
    pool = Pool(some(210, 12), 3, probs=probabilities(210, 3), features=features, activations=features)
    whole = {name: select(name, pool, 30).positions for name in ("coreset", "badge")}
    monkeypatch.setattr("al.storage.blocks.BLOCK_ROWS", 64)
    for name, rows in whole.items():
        np.testing.assert_array_equal(select(name, pool, 30).positions, rows)
