"""k-means and nearest neighbours over features that may be memory-mapped; the only import of FAISS.

Features are read in blocks of 8 MiB as float32, so memory does not grow with the pool. FAISS returns squared
distances; every function here returns Euclidean ones unless its name says otherwise. `positions` are those of the
samples to look at among the features.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.fast.switch import has
from al.stopwatch import phase
from al.storage import blocks as reading
from al.storage.blocks import blocks, gather
from al.strategies.feature_cache import once_per_features

SKETCH_WIDTH = 32
"""Directions in which k-means iterates: of 1,280 this saves 39 of 40 products."""
SKETCH_ROWS = 4096
"""Samples from which those directions are found."""
ROUNDING = 1e-5
"""Share of |x|^2 + |c|^2 that the rounding of a float32 product x.c stays below."""
HIERARCHY_SAMPLES = 10_000
"""Samples of which a hierarchy is made: their distances take 400 MB, and as much again while it is made."""
PAIR_ROWS = 512
"""Samples that are compared with all others at once."""
CANCELS = 1e-3
"""Squared distances below this share of |x|^2 are taken by subtraction: products leave nothing but rounding of them."""


class Clustering(NamedTuple):
    """The nearest centre of each sample. No cluster is empty, so there may be fewer than were asked for."""

    centres: NDArray[np.float32]
    """[k', D]"""
    assignment: NDArray[np.int64]
    """[N] index into `centres`."""
    distance: NDArray[np.float32]
    """[N] Euclidean, not squared."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[k'] samples of each cluster, at least 1."""
        return np.bincount(self.assignment, minlength=len(self.centres))


def kmeans(
    features: NDArray,
    k: int,
    seed: int,
    *,
    positions: NDArray[np.int64] | None = None,
    unit: bool = False,
    iterations: int = 20,
    max_points_per_centroid: int = 64,
) -> Clustering:
    """Cluster `features` [N, D], float32 or float16, by k-means (Lloyd 1982, seeded by k-means++), whatever N.

    Lloyd's iterations run in FAISS on a seeded sample of k x `max_points_per_centroid` samples, projected on
    their 32 principal directions. Then two passes over everything: the mean of each cluster in all D dimensions,
    and the exact nearest of these means for every sample.

    Args:
        features: [N, D], may be memory-mapped.
        k: clusters; with k >= N every sample is its own.
        seed: decides the sample and the first centres.
        positions: [n] the samples to cluster, all if None; `assignment` and `distance` are then [n].
        unit: cluster the samples scaled to length 1.
        iterations: of Lloyd's algorithm on the sample.
        max_points_per_centroid: bounds the sample.

    Raises:
        ValueError: k < 1, no samples, or features that are NaN or infinite.
    """
    count = len(features) if positions is None else len(positions)
    if k < 1 or not count:
        raise ValueError(f"k-means of {count} samples into k={k} clusters: both must be at least 1")
    with phase("cluster"):
        if k >= count:
            centres = gather(features, np.arange(count) if positions is None else positions, unit=unit)
            return Clustering(centres, np.arange(count), np.zeros(count, dtype=np.float32))
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.choice(count, size=min(count, k * max_points_per_centroid), replace=False))
        sample = sample if positions is None else positions[sample]
        sketch = _Sketch.of(gather(features, sample[:: -(-len(sample) // SKETCH_ROWS)], unit=unit), rng)
        coarse = _lloyd(sketch.project_all(features, sample, unit), k, int(rng.integers(2**31)), iterations)  # [k, q]
        centres = _cluster_means(features, positions, unit, sketch, coarse)  # [k', D]
        distance, assignment = nearest(features, centres, positions=positions, unit=unit)
    return _in_order_of_appearance(centres, assignment, distance)


@once_per_features
def hierarchical_clusters(features: NDArray, mean_size: int) -> NDArray[np.int64]:
    """Cluster `features` [N, D] by average linkage, cut where the mean cluster has `mean_size` samples. -> [N]

    Average linkage merges the two clusters of least mean distance between their samples, until ceil(N / mean_size)
    are left. All pairs are compared, so of more than `HIERARCHY_SAMPLES` samples a seeded part is clustered, and each
    other one joins the cluster of the nearest of these; there are no more clusters than that. Clusters are numbered by
    their first sample.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    with phase("cluster"):
        count = len(features)
        if count == 1:
            return np.zeros(1, dtype=np.int64)
        size = min(count, HIERARCHY_SAMPLES)
        sample = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
        points = gather(features, sample)
        tree = linkage(_all_distances(points), "average")
        cluster = fcluster(tree, -(-count // mean_size), "maxclust")  # [n]
        if size < count:
            cluster = cluster[nearest(features, points)[1]]  # [N]
        first, number = np.unique(cluster, return_index=True, return_inverse=True)[1:]
        return np.argsort(np.argsort(first))[number]


def _all_distances(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances of all pairs i < j of `points` [n, D], row after row as SciPy has them. -> [n (n - 1) / 2]"""
    centred = points - points.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = squared_lengths(centred)
    out, end = np.empty(len(points) * (len(points) - 1) // 2), 0
    for start in range(0, len(points), PAIR_ROWS):
        distances = np.sqrt(squared_between(centred, lengths, slice(start, start + PAIR_ROWS), start))  # [b, n - start]
        for row in range(len(distances)):
            begin, end = end, end + len(points) - start - row - 1
            out[begin:end] = distances[row, row + 1 :]
    return out


def squared_lengths(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """|x|^2. [n, D] -> [n]"""
    return np.einsum("nd,nd->n", points, points)


def squared_between(
    points: NDArray[np.float32], lengths: NDArray[np.float32], rows: slice | NDArray[np.int64], start: int
) -> NDArray[np.float32]:
    """|x - y|^2 of `rows` and all rows from `start` of `points` [n, D]; exactly 0 for equal ones. -> [b, n - start]

    `lengths` [n] are `squared_lengths(points)`.

    Centre the points first: what lies far from the origin is near to each other by comparison, and then all
    distances are taken by subtraction.
    """
    x, y, own = points[rows], points[start:], lengths[rows, None]
    squared = x @ y.T
    squared *= -2
    squared += lengths[start:]
    squared += own
    i, j = np.nonzero(squared < CANCELS * own)
    squared[i, j] = by_subtraction(x, i, y, j)
    return np.maximum(squared, 0, out=squared)


def _in_order_of_appearance(
    centres: NDArray[np.float32], assignment: NDArray[np.int64], distance: NDArray[np.float32]
) -> Clustering:
    """Drop empty clusters and number the others by their first sample, so that ties go to lower positions."""
    used, first = np.unique(assignment, return_index=True)
    used = used[np.argsort(first)]
    number = np.full(len(centres), -1)  # [k] new number of each old one
    number[used] = np.arange(len(used))
    return Clustering(centres[used], number[assignment], distance)


class _Sketch(NamedTuple):
    """An orthonormal projection on the directions of largest variance."""

    mean: NDArray[np.float32]
    basis: NDArray[np.float32] | None

    @classmethod
    def of(cls, sample: NDArray[np.float32], rng: np.random.Generator) -> "_Sketch":
        """Find them by a randomised range finder with one power iteration (Halko, Martinsson & Tropp 2011)."""
        mean = sample.mean(axis=0)
        if sample.shape[1] <= 2 * SKETCH_WIDTH or not has("sketch"):
            return cls(mean, None)
        centred = sample - mean  # [n, D]
        start = rng.standard_normal((sample.shape[1], SKETCH_WIDTH + 8), dtype=np.float32)  # 8 more than are kept
        span = np.linalg.qr(centred.T @ (centred @ start))[0]  # [D, 40]
        rotation = np.linalg.eigh(np.cov((centred @ span).T))[1][:, ::-1]  # largest variance first
        return cls(mean, np.ascontiguousarray(span @ rotation[:, :SKETCH_WIDTH].astype(np.float32)))

    def project(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates about the mean. [b, D] -> [b, 32], or [b, D] where D is small"""
        centred = block - self.mean  # before the product, which would cancel far from the origin
        return centred if self.basis is None else centred @ self.basis

    def project_all(self, features: NDArray, positions: NDArray[np.int64], unit: bool) -> NDArray[np.float32]:
        return np.concatenate([self.project(block) for _, block in blocks(features, positions, unit=unit)])


def _lloyd(points: NDArray[np.float32], k: int, seed: int, iterations: int) -> NDArray[np.float32]:
    """Centres of `points` [n, q] by Lloyd's iterations in FAISS. -> [k, q]"""
    import faiss

    solver = faiss.Kmeans(
        points.shape[1],
        k,
        niter=iterations,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,  # no warning about few
        max_points_per_centroid=len(points),  # and no second sampling
    )
    solver.train(points)
    return solver.centroids


def _cluster_means(
    features: NDArray, positions: NDArray[np.int64] | None, unit: bool, sketch: _Sketch, coarse: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Means in all D dimensions of the clusters that `coarse` [k, q] makes; [k', D], for k' <= k are not empty."""
    from scipy.sparse import csr_matrix

    norms = np.einsum("kq,kq->k", coarse, coarse)
    sums = np.zeros((len(coarse), features.shape[1]))  # float64: sums of many rows
    counts = np.zeros(len(coarse))
    for _, block in blocks(features, positions, unit=unit):
        owner = np.argmin(norms - 2 * sketch.project(block) @ coarse.T, axis=1)  # [b] argmin |c|^2 - 2 x.c
        # onehot(owner)^T [k, b] @ block [b, D]; in float64 the mean of equal float32 samples is that sample exactly
        onehot = csr_matrix((np.ones(len(block)), (owner, np.arange(len(block)))), shape=(len(coarse), len(block)))
        sums += onehot @ block
        counts += np.bincount(owner, minlength=len(coarse))
    used = counts > 0
    return (sums[used] / counts[used, None]).astype(np.float32)


def nearest(
    features: NDArray,
    centres: NDArray[np.float32],
    *,
    positions: NDArray[np.int64] | None = None,
    unit: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the nearest of `centres` [k, D] for each sample: its Euclidean distance f32[n] and its index i64[n].

    argmin_c |x - c|^2 = argmin_c |c|^2 - 2 x.c, one matrix product. That difference is all rounding where x and c lie
    far from the origin, so both are taken about the mean of the centres; and centres that rounding cannot tell apart
    are told apart by subtraction, the first of equal ones being the nearest.

    By NumPy's product: FAISS would bring threads of its own, which wait for each other's cores.
    """
    count = len(features) if positions is None else len(positions)
    distance = np.empty(count, dtype=np.float32)
    index = np.empty(count, dtype=np.int64)
    distinct, first = _distinct(centres)  # or a centre that is there a hundred times would tie with itself
    origin = distinct.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = distinct - origin
    parts = [centred[start : start + reading.BLOCK_ROWS] for start in range(0, len(centred), reading.BLOCK_ROWS)]
    scaled = [(-2 * part.T, np.einsum("kd,kd->k", part, part)) for part in parts]
    for where, block in blocks(features, positions, unit=unit):
        squared, owner = _nearest_of_block(block - origin, scaled, block, distinct)
        distance[where], index[where] = np.sqrt(squared), first[owner]
    return distance, index


def _distinct(centres: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The centres without repetition, in the order in which they first appear, and where each does."""
    as_bytes = np.ascontiguousarray(centres + np.float32(0)).view(f"V{centres.shape[1] * 4}")[:, 0]  # -0 + 0 is 0
    first = np.sort(np.unique(as_bytes, return_index=True)[1])
    return centres[first], first


def _nearest_of_block(
    centred: NDArray[np.float32],
    scaled: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    block: NDArray[np.float32],
    centres: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The squared distance to the nearest centre [b], and which that is [b].

    Args:
        centred: [b, D] x about the origin in which products are taken.
        scaled: -2 c [D, m] and |c|^2 [m] of one `BLOCK_ROWS` centres after another, about the same origin.
        block: [b, D] the samples as they are.
        centres: [k, D] the centres as they are.
    """
    lengths = np.einsum("nd,nd->n", centred, centred)  # [b] |x|^2
    doubt = ROUNDING * (lengths + max(squares.max() for _, squares in scaled))  # [b] what rounding makes of equal ones
    best = np.full(len(block), np.inf, dtype=np.float32)
    rivals = []  # sample, centre and |c|^2 - 2 x.c of all that may be the nearest
    for number, (part, squares) in enumerate(scaled):
        found = centred @ part  # [b, m]
        found += squares
        best = np.minimum(best, found.min(axis=1))
        sample, column = np.nonzero(found <= (best + doubt)[:, None])
        rivals.append((sample, number * reading.BLOCK_ROWS + column, found[sample, column]))
    sample, centre, value = (np.concatenate(part) for part in zip(*rivals))
    remaining = value <= (best + doubt)[sample]  # now that the best of all parts is known
    sample, centre = sample[remaining], centre[remaining]
    squared = by_subtraction(block, sample, centres, centre)
    order = np.lexsort((centre, squared, sample))
    winners = order[np.searchsorted(sample[order], np.arange(len(block)))]  # [b] the first of each sample
    return squared[winners], centre[winners]


def by_subtraction(
    x: NDArray[np.float32], i: NDArray[np.int64], y: NDArray[np.float32], j: NDArray[np.int64]
) -> NDArray[np.float32]:
    """|x_i - y_j|^2 of pairs (i, j): exactly 0 for equal samples. x [n, D], y [m, D], i and j [p] -> [p]"""
    squared = np.empty(len(i), dtype=np.float32)
    for start in range(0, len(i), reading.BLOCK_ROWS):
        pairs = slice(start, start + reading.BLOCK_ROWS)
        difference = y[j[pairs]]
        difference -= x[reading.as_slice(i[pairs])]  # a view where each sample has one centre, as nearly always
        squared[pairs] = np.einsum("nd,nd->n", difference, difference)
    return squared


def neighbour_distances(points: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Euclidean distances of each of `points` [n, D] to its k < n nearest others, ascending. -> [n, k]"""
    import faiss

    points = points - points.mean(axis=0, dtype=np.float64).astype(np.float32)  # FAISS takes |x|^2 + |y|^2 - 2 x.y
    out = np.empty((len(points), k), dtype=np.float32)
    for where, block in blocks(points):
        squared, index = faiss.knn(block, points, k + 1)  # [b, k + 1], each sample being its own nearest
        sample, column = np.nonzero(squared < CANCELS * np.einsum("nd,nd->n", block, block)[:, None])
        squared[sample, column] = by_subtraction(block, sample, points, index[sample, column])
        out[where] = np.sqrt(np.sort(np.maximum(squared, 0), axis=1)[:, 1:])
    return out


def squared_distances(features: NDArray, point: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared Euclidean distances to one `point` [D], by subtraction: exactly 0 for an equal sample. -> [n]"""
    import faiss

    point = np.ascontiguousarray(point, dtype=np.float32)
    out = np.empty(len(features), dtype=np.float32)
    for where, block in blocks(features):
        part = out[where]
        faiss.fvec_L2sqr_ny(faiss.swig_ptr(part), faiss.swig_ptr(point), faiss.swig_ptr(block), len(point), len(block))
    return out


def nearest_stranger(
    features: NDArray, groups: NDArray[np.int64], queries: NDArray[np.int64], *, unit: bool = False
) -> NDArray[np.float32]:
    """Euclidean distance of each of the positions `queries` [m] to the nearest sample of another group. -> [m]

    Infinite where there is only one group.

    Args:
        groups: i64[N] the group of each sample.
    """
    import faiss

    points, own = gather(features, queries, unit=unit), groups[queries]
    origin = points.mean(axis=0, dtype=np.float64).astype(np.float32)  # FAISS takes |x|^2 + |y|^2 - 2 x.y
    points -= origin
    best = np.full(len(queries), np.inf, dtype=np.float32)
    for where, block in blocks(features, unit=unit):
        squared = faiss.pairwise_distances(block - origin, points)  # [b, m]
        squared[groups[where][:, None] == own] = np.inf
        best = np.minimum(best, squared.min(axis=0))
    return np.sqrt(np.maximum(best, 0))
