"""A .npy file that many processes write rows of, each its own."""

import os
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER = 4096
"""Bytes before the first row. With 2,048 rows or a multiple of them to a shard, each shard begins on a page of its own,
so that two machines never write to one page of a network file system."""
BLOCK = 4 << 20


@dataclass(frozen=True)
class RowFile:
    """`shape` = (N, D). NumPy maps the whole file, however many processes have written it."""

    path: Path
    dtype: str
    shape: tuple[int, int]

    @property
    def row_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * self.shape[1]

    @property
    def size(self) -> int:
        return HEADER + np.dtype(self.dtype).itemsize * prod(self.shape)

    def create(self) -> None:
        """Write the header and give the file its full length, without taking the room yet."""
        about = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape}
        start = np.lib.format.magic(1, 0)
        text = repr(about).ljust(HEADER - len(start) - 3) + "\n"  # 2 bytes say how long it is
        with self.path.open("wb") as file:
            file.write(start + len(text).to_bytes(2, "little") + text.encode())
            file.truncate(self.size)

    def open(self) -> BinaryIO:
        """For `write`; unbuffered."""
        return self.path.open("r+b", buffering=0)

    def write(self, file: BinaryIO, row: int, rows: NDArray, before: int) -> int:
        """Put `rows` [n, D] at `row`; the CRC-32 of them, going on from that of what came `before`.

        Written and not mapped: on a full disk a map ends in a signal, not an error.
        """
        content, place = memoryview(np.ascontiguousarray(rows, self.dtype)).cast("B"), HEADER + row * self.row_bytes
        checksum = zlib.crc32(content, before)
        while content:
            written = os.pwrite(file.fileno(), content, place)
            content, place = content[written:], place + written
        return checksum

    def checksum(self, start: int, stop: int) -> int:
        """CRC-32 of the rows as they are on disk."""
        place, end, checksum = HEADER + start * self.row_bytes, HEADER + stop * self.row_bytes, 0
        with self.path.open("rb") as file:
            while place < end and (block := os.pread(file.fileno(), min(BLOCK, end - place), place)):
                checksum, place = zlib.crc32(block, checksum), place + len(block)
        return checksum

    def map(self) -> NDArray:
        """[N, D], memory-mapped and read-only."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)
