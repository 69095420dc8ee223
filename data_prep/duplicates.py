"""Find images that are the same pixels: in the training and the test set, or twice in one of them.

A test image that is trained on makes the accuracy look better than it is; an image twice in the pool costs two labels.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, ImageFiles, ImageSet
from al.errors import UserError
from al.storage.blocks import release

BLOCK_BYTES = 8 << 20
EXAMPLES = 2


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of rows of images that are the same pixels: an image, and the first one that it is equal to."""

    test_in_train: NDArray[np.int64]
    """[n, 2] a row of the test set, and the row of the training set that it is equal to."""
    in_train: NDArray[np.int64]
    """[m, 2] a row of the training set, and an earlier one."""
    in_test: NDArray[np.int64]
    """[k, 2] a row of the test set that is not in the training set, and an earlier one."""


def find_duplicates(train: ImageSet, test: ImageSet) -> Duplicates:
    """Compare all images with each other, in one pass over their pixels (CIFAR-10: 0.2 s)."""
    first = first_equal([train.images, test.images])  # [N + M]
    size = len(train)
    rows = np.arange(len(first))
    repeats = first != rows
    in_test, seen_in_train = rows >= size, first < size
    pairs = np.stack([rows, first], axis=1)
    leaked = pairs[repeats & in_test & seen_in_train] - [size, 0]
    return Duplicates(leaked, pairs[repeats & ~in_test], pairs[repeats & in_test & ~seen_in_train] - size)


def first_equal(sets: Sequence[NDArray[np.uint8] | ImageFiles]) -> NDArray[np.int64]:
    """For each image of `sets`, one below the other, the index of the first image of the same pixels: often its own."""
    hashes = np.concatenate([_hashes(images) for images in sets])
    starts = np.cumsum([0, *(len(images) for images in sets)])
    first = np.arange(len(hashes))
    _, of_image, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    for i in np.flatnonzero(counts[of_image] > 1):  # equal hashes: the pixels decide
        part = int(np.searchsorted(starts, i, side="right")) - 1
        first[i] = seen.setdefault(sets[part][i - starts[part]].tobytes(), int(i))
    return first


def _hashes(images: NDArray[np.uint8] | ImageFiles) -> NDArray[np.uint64]:
    return pixel_hashes(images) if isinstance(images, np.ndarray) else images.hashes


def pixel_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """u64[N] that are equal for equal images: a sum of 8-byte words times fixed random odd numbers, modulo 2^64."""
    width = int(np.prod(images.shape[1:]))
    words = -(-width // 8)
    factors = np.random.default_rng(0).integers(0, 2**63, words, dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(images), np.uint64)
    step = max(1, BLOCK_BYTES // (8 * words))
    padded = np.zeros((min(step, len(images)), 8 * words), np.uint8)
    for start in range(0, len(images), step):
        block = images[start : start + step]
        padded[: len(block), :width] = block.reshape(len(block), width)
        hashes[start : start + len(block)] = np.einsum("ij,j->i", padded[: len(block)].view(np.uint64), factors)
        release(images)
    return hashes


def check_duplicates(data: DataSet, *, strict: bool) -> None:
    """Warn of test images that are training images too, and of training images that are there twice, in one line.

    Raises:
        UserError: `strict`, and a test image is a training image too.
    """
    found = find_duplicates(data.train, data.test)
    leaked = len(found.test_in_train)
    if leaked and strict:
        raise UserError(f"strict=true: {_leak(data, found)}; remove them from train or from test")
    parts = [_leak(data, found)] if leaked else []
    if len(found.in_train):
        parts.append(_repeats(data.train, found.in_train))
    if parts:
        remedy = "; accuracy on them is not accuracy on new images: remove them; strict=true refuses such data"
        print(f"warning: {'; '.join(parts)}{remedy if leaked else ''}", file=sys.stderr, flush=True)


def _leak(data: DataSet, found: Duplicates) -> str:
    pairs, size = found.test_in_train, len(data.test)
    examples = ", ".join(
        f"{data.test.path_of(test)} = {data.train.path_of(train)}" for test, train in pairs[:EXAMPLES].tolist()
    )
    other = np.count_nonzero(data.test.labels[pairs[:, 0]] != data.train.labels[pairs[:, 1]])
    classes = f", {other:,} of them under another class" if other else ""
    return f"{len(pairs):,} of {size:,} test images ({_percent(len(pairs), size)}) are training images too{classes}" + (
        f" ({examples}{', ...' if len(pairs) > EXAMPLES else ''})"
    )


def _repeats(train: ImageSet, pairs: NDArray[np.int64]) -> str:
    row, first = pairs[0].tolist()
    other = np.count_nonzero(train.labels[pairs[:, 0]] != train.labels[pairs[:, 1]])
    classes = f", {other:,} of them under another class" if other else ""
    return (
        f"{len(pairs):,} of {len(train):,} training images ({_percent(len(pairs), len(train))}) repeat others{classes} "
        f"({train.path_of(row)} = {train.path_of(first)}{', ...' if len(pairs) > 1 else ''})"
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2g} %"
