"""A map of the training images: a point each on a plane, near each other where the images are alike.

Principal components, then t-SNE of a sample; all other images lie between the sampled ones that they are nearest to.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet
from al.storage.files import write_atomically

DIMENSIONS = 50
"""Principal components that nearness is measured in."""
SAMPLE = 2000
"""Images that t-SNE places: half a minute on one core."""
NEIGHBOURS = 5
PICTURED = 300
"""Images that the map keeps a small picture of, drawn at random."""
SIDE, PICTURE_SIDE = 16, 64
"""Pixels to which images are reduced where there are no embeddings, and that a picture has."""
SEED = 0


def map_file(results_dir: str | Path, fingerprint: str) -> Path:
    return Path(results_dir) / "maps" / f"{fingerprint[:32]}.npz"


def write_map(data: DataSet, vectors: NDArray | None, source: str, path: Path) -> None:
    """Compute the map and write it, whole or not at all.

    Args:
        vectors: [N, D] embeddings of the training images; None takes their pixels.
        source: what `vectors` are, in words.
    """
    train = data.train
    points = place(reduced(train.images) if vectors is None else vectors)
    rows = np.sort(np.random.default_rng(SEED).permutation(len(train))[:PICTURED])
    pictures = np.stack([_resized(train.images[row], PICTURE_SIDE) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    paths = np.array([train.path_of(int(row)) for row in rows])
    pictured = {"rows": rows, "pictures": pictures, "paths": paths}
    np.savez_compressed(packed, points=points, labels=train.labels, source=np.array(source), **pictured)
    write_atomically(path, packed.getvalue())


def place(vectors: NDArray, sample: int = SAMPLE) -> NDArray[np.float32]:
    """f32[N, 2] a point for each of [N, D] vectors, within [0, 1]; the same ones on every call."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsRegressor

    vectors = np.asarray(vectors, np.float32)
    size, width = vectors.shape
    if size < 5:
        return np.linspace(0, 1, 2 * size, dtype=np.float32).reshape(size, 2)
    components = min(DIMENSIONS, width, size)
    near = PCA(components, random_state=SEED, svd_solver="auto").fit_transform(vectors)  # [N, components]
    chosen = np.random.default_rng(SEED).permutation(size)[:sample]
    placed = _by_tsne(near[chosen])  # [n, 2]
    points = np.empty((size, 2), np.float32)
    others = np.setdiff1d(np.arange(size), chosen)
    points[chosen] = placed
    if len(others):
        between = KNeighborsRegressor(NEIGHBOURS, weights="distance").fit(near[chosen], placed)
        points[others] = between.predict(near[others])
    low, high = points.min(axis=0), points.max(axis=0)
    return ((points - low) / np.maximum(high - low, 1e-12)).astype(np.float32)


def _by_tsne(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """f32[n, 2] a place for each of `points` [n, d]; the same one for all where they are all equal."""
    from sklearn.manifold import TSNE

    if (points == points[0]).all():  # scikit-learn would divide by their deviation, and crash
        return np.zeros((len(points), 2), np.float32)
    if points.shape[1] < 2:  # it begins with two components
        points = np.pad(points, ((0, 0), (0, 1)))
    return TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init="pca", random_state=SEED).fit_transform(points)


def reduced(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """f32[N, 16 * 16 * 3] the images at a size at which only what is large counts."""
    return np.stack([_resized(image, SIDE).reshape(-1) for image in images]).astype(np.float32) / 255


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
