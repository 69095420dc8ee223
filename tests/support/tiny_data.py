"""A data set of a few random images, as arrays and as a folder."""

from pathlib import Path

import numpy as np
from PIL import Image
from tiny_clip import SIDE

from al.data import DataSet, ImageSet, content_fingerprint

CLASSES = ("cat", "dog", "ship")


def silent(counts, total, description):
    return counts


def data_set(count: int = 11) -> DataSet:
    images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    split = ImageSet(images, np.arange(count) % 3, CLASSES)
    return DataSet("tiny", split, split, content_fingerprint([split, split]))


def image_folder(root: Path, count: int = 9, size: tuple[int, int] = (SIDE, SIDE), seed: int = 0) -> Path:
    """Folders of `count` images each for training and testing, of `size` (width, height); no two are the same."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for row in range(count):
            path = root / split / CLASSES[row % 3] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return root
