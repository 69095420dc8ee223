"""Images to measure with: ten classes that a network can learn, so that training and scores look like real ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = 10
SIDE = 32


def images(count: int, seed: int = 0, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """u8[N, side, side, 3] and i64[N]: the pattern of a class, faint, among coarse and fine noise."""
    patterns = np.random.default_rng(0).standard_normal((CLASSES, 4, 4, 3), dtype=np.float32)
    rng = np.random.default_rng([seed, count])
    labels = rng.permutation(np.arange(count) % CLASSES)
    pixels = np.empty((count, side, side, 3), np.uint8)
    for start in range(0, count, 1000):
        part = labels[start : start + 1000]
        coarse = 25 * patterns[part] + 30 * rng.standard_normal((len(part), 4, 4, 3), dtype=np.float32)
        fine = 20 * rng.standard_normal((len(part), side, side, 3), dtype=np.float32)
        pixels[start : start + 1000] = np.clip(128 + coarse.repeat(side // 4, 1).repeat(side // 4, 2) + fine, 0, 255)
    return pixels, labels


def write_folder(folder: Path, train: int, test: int, side: int = SIDE) -> Path:
    """`folder/{train,test}/<class>/<number>.png`, for dataset=imagefolder."""
    for seed, (split, count) in enumerate({"train": train, "test": test}.items()):
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
        for number, (pixels, label) in enumerate(zip(*images(count, seed, side))):
            Image.fromarray(pixels).save(folder / split / str(label) / f"{number:06}.png", compress_level=1)
    return folder


def fill_features(features: NDArray, seed: int = 0) -> NDArray[np.int64]:
    """Fills [N, D] with what looks like a network's: non-negative, classes, a decaying spectrum; the classes i64[N]."""
    rng = np.random.default_rng(seed)
    count, dimensions = features.shape
    scale = (1 / np.sqrt(np.arange(1, 65))).astype(np.float32)
    centres = scale * rng.standard_normal((CLASSES, 64), dtype=np.float32)
    mixing = rng.standard_normal((64, dimensions), dtype=np.float32)
    truth = rng.integers(CLASSES, size=count)
    for start in range(0, count, 8192):
        part = truth[start : start + 8192]
        latent = centres[part] + scale * rng.standard_normal((len(part), 64), dtype=np.float32)
        noise = 0.3 * rng.standard_normal((len(part), dimensions), dtype=np.float32)
        features[start : start + len(part)] = np.maximum(latent @ mixing + noise, 0)
    return truth


def features(count: int, dimensions: int = 1280) -> NDArray[np.float32]:
    """f32[N, D]"""
    filled = np.empty((count, dimensions), np.float32)
    fill_features(filled)
    return filled
