"""k-means against scikit-learn's, nearest neighbours against brute force."""

import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans

from al import stopwatch
from al.strategies.clustering import (
    Clustering,
    hierarchical_clusters,
    kmeans,
    nearest,
    nearest_stranger,
    neighbour_distances,
    squared_distances,
)


def brute_force(x, y):
    """[n, m] Euclidean distances in float64, by subtraction."""
    return np.sqrt(((x[:, None, :].astype(float) - y[None].astype(float)) ** 2).sum(-1))


def inertia(clustering: Clustering) -> float:
    return float((clustering.distance.astype(float) ** 2).sum())


def decaying(n=6000, d=200, seed=0):
    """Non-negative features with a decaying spectrum, as a network's penultimate layer has them."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(np.arange(1, 25))
    latent = (rng.standard_normal((10, 24)) * scale)[rng.integers(10, size=n)] + rng.standard_normal((n, 24)) * scale
    noise = 0.3 * rng.standard_normal((n, d))
    return np.maximum(latent @ rng.standard_normal((24, d)) + noise, 0).astype(np.float32)


@pytest.fixture(scope="module")
def features():
    return decaying()


def test_inertia_is_no_worse_than_mini_batch_kmeans(features):
    ours = np.mean([inertia(kmeans(features, 40, seed)) for seed in range(3)])
    theirs = np.mean(
        [MiniBatchKMeans(40, n_init="auto", random_state=seed).fit(features).inertia_ for seed in range(3)]
    )
    assert ours <= theirs


def test_inertia_comes_near_full_kmeans(features):
    full = KMeans(40, n_init=1, random_state=0).fit(features).inertia_
    assert inertia(kmeans(features, 40, 0)) <= 1.02 * full


def test_separated_blobs_are_found():
    rng = np.random.default_rng(1)
    truth = rng.permutation(np.arange(600) % 6)
    x = (20 * rng.standard_normal((6, 100)))[truth] + rng.standard_normal((600, 100))
    found = kmeans(x.astype(np.float32), 6, 0).assignment
    assert len(set(zip(truth.tolist(), found.tolist()))) == 6


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("d", [5, 200])
def test_assignment_and_distance_are_those_of_the_nearest_centre(features, dtype, d):
    x = features[:1500, :d].astype(dtype)
    found = kmeans(x, 12, 0)
    distances = brute_force(x, found.centres)
    np.testing.assert_allclose(found.distance, distances.min(axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(distances[np.arange(len(x)), found.assignment], found.distance, rtol=1e-4, atol=1e-4)
    assert found.centres.dtype == found.distance.dtype == np.float32
    assert found.assignment.dtype == np.int64


def test_distances_are_not_squared():
    x = np.array([[0, 0], [0, 6], [100, 0], [100, 6]], dtype=np.float32)
    np.testing.assert_allclose(kmeans(x, 2, 0).distance, 3, rtol=1e-5)


def test_the_seed_decides(features):
    first, again, other = kmeans(features, 30, 5), kmeans(features, 30, 5), kmeans(features, 30, 6)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.centres, other.centres)


def test_positions_are_those_of_a_copy(features):
    rows = np.arange(3, 6000, 7)
    for a, b in zip(kmeans(features, 9, 1, positions=rows), kmeans(features[rows], 9, 1)):
        np.testing.assert_array_equal(a, b)


def test_unit_clusters_directions(features):
    lengths = np.random.default_rng(0).uniform(0.1, 10, (len(features), 1)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found, expected = kmeans(features * lengths, 9, 1, unit=True), kmeans(unit, 9, 1)
    np.testing.assert_allclose(inertia(found), inertia(expected), rtol=1e-3)


@pytest.mark.parametrize(
    "x",
    [
        np.full((200, 100), 3.7),
        np.zeros((50, 4)),
        np.repeat(np.eye(3, 70) + 0.1, 40, axis=0),
        np.r_[np.zeros((99, 3)), [[1e3, 0, 0]]],
        np.random.default_rng(0).random((30, 1)),
    ],
    ids=["equal", "zero", "three points", "outlier", "line"],
)
@pytest.mark.parametrize("k", [1, 2, 7, 29, 1000])
def test_degenerate_data(x, k, capfd):
    x = x.astype(np.float32)
    found = kmeans(x, k, 0)
    assert len(found.centres) <= min(k, len(x))
    assert found.sizes.min() >= 1
    assert found.sizes.sum() == len(x) == len(found.distance)
    if k >= len(np.unique(x, axis=0)):
        np.testing.assert_array_equal(found.distance, 0)
    assert capfd.readouterr() == ("", "")


def test_clusters_are_numbered_by_their_first_sample(features):
    assignment = kmeans(features, 20, 0).assignment
    first = [np.flatnonzero(assignment == cluster)[0] for cluster in range(assignment.max() + 1)]
    assert first == sorted(first)


def test_blocks_do_not_change_the_clusters(features, monkeypatch):
    whole = kmeans(features, 20, 0)
    monkeypatch.setattr("al.storage.blocks.BLOCK_ROWS", 137)
    small = kmeans(features, 20, 0)
    np.testing.assert_allclose(small.centres, whole.centres, rtol=1e-3, atol=1e-3)
    assert (small.assignment == whole.assignment).mean() > 0.999


def test_a_memory_map_is_clustered_as_its_values_are(features, tmp_path):
    half = features.astype(np.float16)
    np.save(tmp_path / "f.npy", half)
    mapped = kmeans(np.load(tmp_path / "f.npy", mmap_mode="r"), 10, 0)
    for a, b in zip(mapped, kmeans(half.astype(np.float32), 10, 0)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(features, value):
    x = features.copy()
    x[4321, 7] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        kmeans(x, 5, 0)


@pytest.mark.parametrize(("n", "k"), [(0, 3), (5, 0)])
def test_nothing_to_cluster_is_refused(n, k):
    with pytest.raises(ValueError, match="at least 1"):
        kmeans(np.zeros((n, 3), np.float32), k, 0)


def test_clustering_counts_as_its_phase(features):
    with stopwatch.running() as watch:
        kmeans(features, 5, 0)
    seconds = watch.lap()
    assert list(seconds) == ["cluster", "round"]
    assert seconds["cluster"] > 0


def test_nearest_is_exact_far_from_the_origin():
    rng = np.random.default_rng(0)
    x = (1000 + rng.standard_normal((300, 1280))).astype(np.float32)
    centres = np.concatenate([x[:20], (1000 + rng.standard_normal((20, 1280))).astype(np.float32)])
    distance, index = nearest(x, centres)
    np.testing.assert_array_equal(index[:20], np.arange(20))
    np.testing.assert_array_equal(distance[:20], 0)
    np.testing.assert_allclose(distance[20:], brute_force(x[20:], centres)[np.arange(280), index[20:]], rtol=1e-4)


@pytest.mark.parametrize("offset", [0, 1e3, 1e5])
@pytest.mark.parametrize("near", ["scattered", "nearly tied", "repeated"])
def test_nearest_centre_is_the_one_by_subtraction(offset, near):
    """Whatever the kernel's rounding: also of centres that lie as far away as the next, or are the same."""
    rng = np.random.default_rng(1)
    x = (offset + rng.standard_normal((400, 96))).astype(np.float32)
    centres = (offset + rng.standard_normal((30, 96))).astype(np.float32)
    if near == "nearly tied":
        centres[15:] = centres[:15]
        centres[15:, 7] = np.nextafter(centres[15:, 7], np.float32(np.inf))
    if near == "repeated":
        centres[15:] = centres[:15]
    distances = brute_force(x, centres)
    distance, index = nearest(x, centres)
    chosen = distances[np.arange(len(x)), index]
    np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-7)  # up to the rounding of the subtraction
    np.testing.assert_allclose(distance, chosen, rtol=1e-6)
    if near == "repeated":
        assert index.max() < 15, "of equal centres the first"


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_clusters_far_from_the_origin_are_those_near_it(offset):
    x = (
        (100 * decaying(1500, 200)).round().astype(np.float32)
    )  # whole numbers, so that the offset changes no difference
    near, far = kmeans(x, 12, 0), kmeans(x + np.float32(offset), 12, 0)
    assert (near.assignment == far.assignment).mean() > 0.99
    np.testing.assert_allclose(far.distance, near.distance, rtol=0.02)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_neighbours_and_strangers_far_from_the_origin(offset):
    x = (10 * np.random.default_rng(0).standard_normal((300, 64)) + offset).astype(np.float32)
    groups, queries = np.arange(300) % 3, np.array([0, 7, 299])
    distances = brute_force(x, x)
    expected = np.sort(distances, axis=1)[:, 1:6]
    np.testing.assert_allclose(neighbour_distances(x, 5), expected, rtol=1e-4)
    strangers = np.where(groups[queries][:, None] == groups, np.inf, distances[queries]).min(axis=1)
    np.testing.assert_allclose(nearest_stranger(x, groups, queries), strangers, rtol=1e-4)


def test_distances_do_not_depend_on_blocks(features, monkeypatch):
    """A cluster of two has both at the same distance: rounding that differs by block would choose between them."""
    expected = nearest(features, features[:40] + np.float32(0.1))
    monkeypatch.setattr("al.storage.blocks.BLOCK_ROWS", 61)
    for one, two in zip(nearest(features, features[:40] + np.float32(0.1)), expected):
        np.testing.assert_array_equal(one, two)


def test_neighbour_distances_against_brute_force(features):
    x = np.concatenate([features[:200], features[:3]])
    expected = np.sort(brute_force(x, x), axis=1)[:, 1:8]
    np.testing.assert_allclose(neighbour_distances(x, 7), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(neighbour_distances(x, 1)[:3, 0], 0)


def test_squared_distances_against_brute_force(features):
    expected = brute_force(features, features[[5]])[:, 0] ** 2
    np.testing.assert_allclose(squared_distances(features, features[5]), expected, rtol=1e-4)
    assert squared_distances(features, features[5])[5] == 0


def test_nearest_stranger_against_brute_force(features):
    x, groups, queries = features[:400], np.arange(400) % 3, np.array([0, 7, 399])
    distances = np.where(groups[queries][:, None] == groups, np.inf, brute_force(x[queries], x))
    np.testing.assert_allclose(nearest_stranger(x, groups, queries), distances.min(axis=1), rtol=1e-4)
    assert np.isinf(nearest_stranger(x, np.zeros(400, int), queries)).all()


def merged(x, count):
    """Average linkage from its definition: merge the two clusters of least mean distance until `count` are left."""
    distances, clusters = brute_force(x, x), [[row] for row in range(len(x))]
    while len(clusters) > count:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
        a, b = min(pairs, key=lambda pair: distances[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean())
        clusters[b] += clusters.pop(a)
    return {frozenset(cluster) for cluster in clusters}


def members(assignment):
    return {frozenset(np.flatnonzero(assignment == cluster).tolist()) for cluster in set(assignment.tolist())}


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("mean_size", [1, 3, 8, 45, 100])
def test_hierarchical_clusters_against_the_definition(mean_size, offset):
    x = (np.random.default_rng(2).standard_normal((45, 6)) + offset).astype(np.float32)
    x[9] = x[30]
    found = hierarchical_clusters(x, mean_size)
    assert members(found) == merged(x, -(-45 // mean_size))
    first = [np.flatnonzero(found == cluster)[0] for cluster in range(found.max() + 1)]
    assert first == sorted(first)


def test_samples_outside_the_hierarchy_join_their_nearest(monkeypatch):
    monkeypatch.setattr("al.strategies.clustering.HIERARCHY_SAMPLES", 60)
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(6), 50))
    x = (20 * rng.standard_normal((6, 40))[truth] + rng.standard_normal((300, 40))).astype(np.float32)
    found = hierarchical_clusters(x, 50)
    assert members(found) == members(truth)
    np.testing.assert_array_equal(found, hierarchical_clusters(x.copy(), 50))


def test_features_are_clustered_once(monkeypatch, tmp_path):
    """Once for the same bytes, wherever they lie; again for others, and where the answer is no longer kept."""
    calls = []
    monkeypatch.setattr(
        "al.strategies.clustering._all_distances",
        lambda points: calls.append(len(points)) or np.ones(len(points) * (len(points) - 1) // 2),
    )
    x = np.random.default_rng(8).standard_normal((30, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    for same in (x, x.copy(), np.asfortranarray(x), np.load(tmp_path / "x.npy", mmap_mode="r"), x):
        hierarchical_clusters(same, 5)
    assert len(calls) == 1
    hierarchical_clusters(x, 6)
    hierarchical_clusters(x[:29], 5)
    assert len(calls) == 3
    hierarchical_clusters(x, 5)
    assert len(calls) == 4


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("rows", [None, np.arange(40, 340), np.arange(1, 400, 3)], ids=["all", "consecutive", "some"])
def test_nearest_of_more_centres_than_a_block(features, monkeypatch, tmp_path, unit, rows):
    x, centres = features[:400], features[1000:1050].copy()
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr("al.storage.blocks.BLOCK_ROWS", 16)
    expected = x if rows is None else x[rows]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True) if unit else expected
    distances = brute_force(expected, centres)
    for stored in (x, np.load(tmp_path / "x.npy", mmap_mode="r")):
        distance, index = nearest(stored, centres, positions=rows, unit=unit)
        np.testing.assert_array_equal(index, distances.argmin(axis=1))
        np.testing.assert_allclose(distance, distances.min(axis=1), rtol=1e-4)
