"""Find images that are nearly the same: resized, compressed again, a little brighter, the next frame of a film."""

import math

import numpy as np
from numpy.typing import NDArray

CORRELATION = 0.98
"""Of two thumbnails, from which on they count as one picture: two JPEGs of one have 0.99 and more. Of the 58 pairs that
it finds in CIFAR-10 all look like one picture; with 0.97 some are merely two planes in a blue sky."""
FLAT = 4.0
"""Standard deviation of a thumbnail's values below which it shows nothing that could be compared."""
BRIGHTNESS = 25.0
"""How far the mean values of two thumbnails may be apart."""
COSINE = 0.98
"""Of two embeddings, from which on their images count as one picture."""
DIRECTIONS = 16
"""Principal directions in which neighbours are sought: distances there are never longer than in all."""
NEIGHBOURS = 12
"""Of each image, that are compared with it; among more that are alike these suffice to connect them."""
STATISTICS_ROWS = 20_000
ROUNDING = 1e-4
BLOCK = 1 << 18


def alike_by_pixels(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pairs [m, 2], the lower row first, of thumbnails u8[N, S, S, 3] that show one picture; flat ones are in none.

    Of three that are alike it may name two pairs only: enough to know that they belong together.
    """
    values = thumbnails.reshape(len(thumbnails), math.prod(thumbnails.shape[1:])).astype(np.float32)  # [N, 3 S^2]
    means = values.mean(axis=1)
    values -= means[:, None]
    lengths = np.linalg.norm(values, axis=1)
    rows = np.flatnonzero(lengths > FLAT * np.sqrt(values.shape[1]))
    pairs = rows[_close(values[rows] / lengths[rows, None], CORRELATION)]
    return pairs[np.abs(means[pairs[:, 0]] - means[pairs[:, 1]]) <= BRIGHTNESS]


def alike_by_embedding(vectors: NDArray[np.float32], cosine: float = COSINE) -> NDArray[np.int64]:
    """Pairs [m, 2], the lower row first, of embeddings [N, D] that point the same way."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
    return _close(vectors / lengths[:, None], cosine)


def groups_of(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] the same number for rows that `pairs` connect, directly or through others; numbers are lowest rows."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    return first[component]


def _close(units: NDArray[np.float32], cosine: float) -> NDArray[np.int64]:
    """Pairs [m, 2] of unit vectors [N, D] with at least this cosine, each among the nearest of one of them.

    |a - b|^2 = 2 - 2 cos(a, b), and projections are no farther apart than what they are of. So a tree over a few
    principal directions finds all that can be near enough, and the full vectors decide.
    """
    from scipy.spatial import cKDTree

    if len(units) < 2:
        return np.empty((0, 2), np.int64)
    radius = np.sqrt(2 - 2 * cosine) + ROUNDING
    projected = units @ _principal(units)  # [N, d]
    tree = cKDTree(projected)
    count = min(NEIGHBOURS + 1, len(units))
    _, neighbours = tree.query(projected, count, distance_upper_bound=radius, workers=-1)  # [N, k], N: none
    rows = np.repeat(np.arange(len(units)), count)
    pairs = np.stack([rows, neighbours.ravel()], axis=1)
    pairs = np.sort(pairs[(pairs[:, 1] < len(units)) & (pairs[:, 0] != pairs[:, 1])], axis=1)
    pairs = np.unique(pairs, axis=0).reshape(-1, 2)
    kept = [pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK)]
    kept = [some[np.einsum("nd,nd->n", units[some[:, 0]], units[some[:, 1]]) >= cosine] for some in kept]
    return np.concatenate(kept) if kept else np.empty((0, 2), np.int64)


def _principal(units: NDArray[np.float32]) -> NDArray[np.float32]:
    """[D, d] orthonormal directions in which the vectors spread most."""
    step = -(-len(units) // STATISTICS_ROWS)
    sample = units[::step].astype(np.float64)
    sample -= sample.mean(axis=0)
    _, directions = np.linalg.eigh(sample.T @ sample)
    return directions[:, -DIRECTIONS:].astype(np.float32)
