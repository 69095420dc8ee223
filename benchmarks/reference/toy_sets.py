"""Two sets of points that trap one family of strategies each, as images and embeddings that the suite runs on.

From CDALBench (Werner et al., "A Cross-Domain Benchmark for Active Learning", NeurIPS 2024); the definitions are those
of `datasets/sythData.py` and `configs/{threeclust,divergingsin}.yaml` in its repository,
github.com/wernerth94/A-Cross-Domain-Benchmark-for-Active-Learning:

- ThreeClust: two clusters of one class each, and a third that holds both classes alike. Nothing can be learnt in the
  third, and that is where a model is unsure: strategies that go by uncertainty spend their labels there.
- DivergingSin: two waves, one of each class, that run apart from left to right. All that matters is where they are
  close, a small part of the plane: strategies that cover the plane evenly spend their labels elsewhere.

The benchmark trains a linear model on the first and a small network on the second. Here both have a linear head, the
second one on random Fourier features, which make it a machine with a Gaussian kernel.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("negative", "positive")
TEST_SHARE = 0.2
FOURIER = 128
BANDWIDTH = 0.1
"""Of the Gaussian kernel, the points lying in the unit square."""


def three_clust(rng: np.random.Generator, size: int = 150) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points [4 * size, 2] and their classes; the two quarters around (4, 3) are of different classes."""
    centres = ((0, 0), (4, 3), (0, 6), (4, 3))
    points = np.concatenate([rng.multivariate_normal(centre, np.eye(2), size) for centre in centres])
    return points, np.repeat([1, 0], 2 * size)


def diverging_sin(
    rng: np.random.Generator, size: int = 100, divergence: float = 0.5, frequency: float = 2.0, noise: float = 0.3
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points [2 * size, 2] and their classes: sin(frequency x) plus and minus divergence x, with noise."""
    x = np.linspace(0, 10, size)
    waves = [np.sin(frequency * x) + sign * divergence * x + rng.normal(0, noise, size) for sign in (1, -1)]
    return np.concatenate([np.c_[x, wave] for wave in waves]), np.repeat([1, 0], size)


def fourier_features(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """[N, FOURIER] features whose inner products are a Gaussian kernel's; Rahimi & Recht, NeurIPS 2007."""
    frequencies = rng.normal(0, 1 / BANDWIDTH, (points.shape[1], FOURIER))
    return np.sqrt(2 / FOURIER) * np.cos(points @ frequencies + rng.uniform(0, 2 * np.pi, FOURIER))


def write(name: str, folder: Path, seed: int = 1) -> None:
    """Write a set below `folder`: `images/{train,test}/<class>/*.png`, and `features.npz` row for row.

    An image shows where its point lies; nothing looks at it but whoever opens it.
    """
    rng = np.random.default_rng(seed)
    points, labels = {"three_clust": three_clust, "diverging_sin": diverging_sin}[name](rng)
    order = rng.permutation(len(points))
    points, labels = points[order], labels[order]
    points = (points - points.min(0)) / np.ptp(points, axis=0)  # into the unit square
    features = points if name == "three_clust" else fourier_features(points, rng)
    test = int(TEST_SHARE * len(points))
    arrays = {}
    for split, rows in (("test", np.arange(test)), ("train", np.arange(test, len(points)))):
        rows = rows[np.argsort(labels[rows], kind="stable")]  # by class, as folders are listed
        arrays[split] = features[rows].astype(np.float32)
        for number, row in enumerate(rows):
            _draw(points[row], number, folder / "images" / split / CLASSES[labels[row]] / f"{number:04}.png")
    np.savez(folder / "features.npz", **arrays)


def _draw(point: NDArray[np.float64], number: int, path: Path) -> None:
    """A white dot on black, its number in the corner's colour: no two images are alike."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    column, row = np.minimum((point * 16).astype(int), 15)
    pixels[15 - row, column] = 255
    pixels[0, 0] = (number % 256, number // 256, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
