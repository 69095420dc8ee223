"""Reading arrays that may be memory-mapped: block by block, so that memory does not grow with them."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 8 * 2**20
"""Of a block: small enough for the allocator to use the same memory again, as fresh pages cost more than arithmetic."""
BLOCK_ROWS = 4096
"""Of a block at most, however few dimensions they have."""
SCATTERED_ROWS = 128
"""Read at a time where they are scattered over a file: up to 200 KiB of it come into memory with each."""


@dataclass(frozen=True, eq=False)
class RowsOf:
    """Some rows of an array that stays where it is, such as in a file; used in place of an array of these rows."""

    array: NDArray
    """[N, D]"""
    rows: NDArray[np.int64]
    """[n]"""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.array.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray:
        return self.array[as_slice(self.rows[rows])]


def read(features: NDArray | RowsOf, rows: NDArray[np.int64] | slice, *, unit: bool = False) -> NDArray[np.float32]:
    """Read those rows as contiguous float32 [n, D]; `unit` scales each to length 1 (zero rows stay zero).

    Raises:
        ValueError: one of them is NaN or infinite.
    """
    block = _taken(features, rows)
    if not np.isfinite(block.sum()):  # one sum in place of a mask as large as the block
        raise ValueError(
            "features hold NaN or infinite values: the model has diverged or their file is damaged; lower lr, or make "
            "the file again"
        )
    if unit:
        block = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return block


def as_slice(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Turn consecutive rows into a slice, which reads them without a copy; others stay as they are."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _taken(features: NDArray | RowsOf, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
    """Take `features[rows]`; of a memory map few scattered rows at a time, as each brings the pages around it."""
    if isinstance(features, RowsOf):
        return _taken(features.array, features.rows[rows])
    rows = rows if isinstance(rows, slice) else as_slice(rows)
    if isinstance(rows, slice) or not isinstance(features, np.memmap):
        return as_float32(features[rows])
    block = np.empty((len(rows), features.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), SCATTERED_ROWS):
        part = slice(start, start + SCATTERED_ROWS)
        block[part] = as_float32(features[rows[part]])
        release(features)
    return block


def as_float32(array: NDArray) -> NDArray[np.float32]:
    """Copy into contiguous float32, unless it is that already.

    float16 is looked up: NumPy converts it with branches, which the zeros of rectified features mislead (6.7 against
    2.6 nanoseconds a number where half of them are 0).
    """
    if array.dtype != np.float16:  # of this machine's byte order
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.take(_halves(), array.view(np.uint16), mode="clip")


@cache
def _halves() -> NDArray[np.float32]:
    """All numbers of 16 bits, by their bits. [65536]"""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


def blocks(
    features: NDArray | RowsOf, rows: NDArray[np.int64] | None = None, *, unit: bool = False
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Read block by block: gives the slice of `rows` (None: all rows) that a block holds, and the block [b, D]."""
    count = len(features) if rows is None else len(rows)
    step = min(BLOCK_ROWS, max(1, BLOCK_BYTES // (4 * features.shape[1])))
    for start in range(0, count, step):
        where = slice(start, min(start + step, count))
        yield where, read(features, where if rows is None else rows[where], unit=unit)
        release(features)


def gather(features: NDArray | RowsOf, rows: NDArray[np.int64], *, unit: bool = False) -> NDArray[np.float32]:
    """Read rows that lie anywhere, block by block, into one array. -> [n, D]"""
    out = np.empty((len(rows), features.shape[1]), dtype=np.float32)
    for where, block in blocks(features, rows, unit=unit):
        out[where] = block
    return out


def release(features: NDArray | RowsOf) -> None:
    """Give the pages of a read-only memory map back, or a pass over it would hold the whole file in memory."""
    if isinstance(features, RowsOf):
        features = features.array
    if isinstance(features, np.memmap) and features.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        features._mmap.madvise(mmap.MADV_DONTNEED)
