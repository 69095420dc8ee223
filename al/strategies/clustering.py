"""k-means and nearest neighbours over features that may be memory-mapped; the only import of FAISS.

Features are read in blocks of 8 MiB as float32, so memory does not grow with the pool. FAISS returns squared
distances; every function here returns Euclidean ones unless its name says otherwise. `positions` are those of the
samples to look at among the features.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.stopwatch import phase
from al.storage import blocks as reading
from al.storage.blocks import blocks, gather

SKETCH_WIDTH = 32
"""Directions in which k-means iterates: of 1,280 this saves 39 of 40 products."""
SKETCH_ROWS = 4096
"""Samples from which those directions are found."""
MEAN_ROUNDING = 1e-4
"""Relative error that the float32 mean of a block of equal samples stays well below."""


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
        distance, assignment = nearest(features, centres, positions=positions, unit=unit, rounding=MEAN_ROUNDING)
    return _in_order_of_appearance(centres, assignment, distance)


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
        if sample.shape[1] <= 2 * SKETCH_WIDTH:
            return cls(mean, None)
        centred = sample - mean  # [n, D]
        start = rng.standard_normal((sample.shape[1], SKETCH_WIDTH + 8), dtype=np.float32)  # 8 more than are kept
        span = np.linalg.qr(centred.T @ (centred @ start))[0]  # [D, 40]
        rotation = np.linalg.eigh(np.cov((centred @ span).T))[1][:, ::-1]  # largest variance first
        return cls(mean, np.ascontiguousarray(span @ rotation[:, :SKETCH_WIDTH].astype(np.float32)))

    def project(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates about the mean. [b, D] -> [b, 32], or [b, D] where D is small"""
        return block - self.mean if self.basis is None else block @ self.basis - self.mean @ self.basis

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
        ones = np.ones(len(block), dtype=np.float32)
        # onehot(owner)^T [k, b] @ block [b, D]: one product in place of b additions
        sums += csr_matrix((ones, (owner, np.arange(len(block)))), shape=(len(coarse), len(block))) @ block
        counts += np.bincount(owner, minlength=len(coarse))
    used = counts > 0
    return (sums[used] / counts[used, None]).astype(np.float32)


def nearest(
    features: NDArray,
    centres: NDArray[np.float32],
    *,
    positions: NDArray[np.int64] | None = None,
    unit: bool = False,
    rounding: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the nearest of `centres` [k, D] for each sample: its Euclidean distance f32[n] and its index i64[n].

    By NumPy's matrix product: FAISS would bring threads of its own, which wait for each other's cores.

    Args:
        rounding: distances up to this share of the length of the sample count as 0.
    """
    count = len(features) if positions is None else len(positions)
    distance = np.empty(count, dtype=np.float32)
    index = np.empty(count, dtype=np.int64)
    parts = [centres[start : start + reading.BLOCK_ROWS] for start in range(0, len(centres), reading.BLOCK_ROWS)]
    scaled = [(-2 * part.T, np.einsum("kd,kd->k", part, part)) for part in parts]
    for where, block in blocks(features, positions, unit=unit):
        lengths = np.einsum("nd,nd->n", block, block)
        best, owner = _nearest_of_block(block, scaled)
        squared = (best + lengths)[:, None]
        distance[where] = _settle(squared, owner[:, None], block, centres, lengths, rounding)[:, 0]
        index[where] = owner
    return distance, index


def _nearest_of_block(
    block: NDArray[np.float32], scaled: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The least of |c|^2 - 2 x.c over the centres c [b], and which centre that is [b].

    Args:
        scaled: -2 c [D, m] and |c|^2 [m] of one `BLOCK_ROWS` centres after another.
    """
    best = np.full(len(block), np.inf, dtype=np.float32)
    owner = np.zeros(len(block), dtype=np.int64)
    for number, (part, lengths) in enumerate(scaled):
        found = block @ part
        found += lengths
        column = found.argmin(axis=1)
        least = found[np.arange(len(block)), column]
        closer = least < best
        best[closer], owner[closer] = least[closer], number * reading.BLOCK_ROWS + column[closer]
    return best, owner


def neighbour_distances(points: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Euclidean distances of each of `points` [n, D] to its k < n nearest others, ascending. -> [n, k]"""
    import faiss

    out = np.empty((len(points), k), dtype=np.float32)
    for where, block in blocks(points):
        squared, index = faiss.knn(block, points, k + 1)  # [b, k + 1], each sample being its own nearest
        lengths = np.einsum("nd,nd->n", block, block)
        out[where] = np.sort(_settle(squared, index, block, points, lengths, 0.0), axis=1)[:, 1:]
    return out


def _settle(
    squared: NDArray[np.float32],
    index: NDArray[np.int64],
    block: NDArray[np.float32],
    others: NDArray[np.float32],
    lengths: NDArray[np.float32],
    rounding: float,
) -> NDArray[np.float32]:
    """Distances [b, m] from squared ones taken as |x|^2 + |y|^2 - 2 x.y, which cancels where x is near y.

    Those are computed again by subtraction: otherwise rounding alone would tell equal samples apart.

    Args:
        squared: [b, m] squared distances of x to m of the others.
        index: [b, m] which of `others` [k, D] these are.
        block: [b, D] x
        lengths: [b] |x|^2
    """
    scale = lengths[:, None]
    close = np.argwhere(squared < 1e-3 * scale)
    for start in range(0, len(close), reading.BLOCK_ROWS):
        row, column = close[start : start + reading.BLOCK_ROWS].T
        difference = block[row] - others[index[row, column]]
        squared[row, column] = np.einsum("nd,nd->n", difference, difference)
    return np.where(squared <= rounding**2 * scale, 0, np.sqrt(np.maximum(squared, 0)))


def squared_distances(features: NDArray, point: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared Euclidean distances to one `point` [D], by subtraction: exactly 0 for an equal sample. -> [n]"""
    import faiss

    point = np.ascontiguousarray(point, dtype=np.float32)
    out = np.empty(len(features), dtype=np.float32)
    for where, block in blocks(features):
        part = out[where]
        faiss.fvec_L2sqr_ny(faiss.swig_ptr(part), faiss.swig_ptr(point), faiss.swig_ptr(block), len(point), len(block))
    return out


def nearest_stranger(features: NDArray, groups: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.float32]:
    """Euclidean distance of each of the positions `queries` [m] to the nearest sample of another group. -> [m]

    Infinite where there is only one group.

    Args:
        groups: i64[N] the group of each sample.
    """
    import faiss

    points, own = gather(features, queries), groups[queries]
    best = np.full(len(queries), np.inf, dtype=np.float32)
    for where, block in blocks(features):
        squared = faiss.pairwise_distances(block, points)  # [b, m]
        squared[groups[where][:, None] == own] = np.inf
        best = np.minimum(best, squared.min(axis=0))
    return np.sqrt(np.maximum(best, 0))
