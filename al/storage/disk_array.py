"""Arrays that are too large for memory: written piece by piece, and beyond a bound into a file without a name."""

import math
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError

BOUND_BYTES = 128 * 2**20
"""Arrays up to this size stay in memory."""


class DiskArray:
    """A float32 array of known shape that is read once all of it is written.

    Beyond `BOUND_BYTES` it lies in a file that has no name, so nothing is left of it when the array is no longer
    used, or the process killed. The picks are the same either way: what is stored is what was computed.

    Args:
        shape: of the array.
        folder: where the file would be; it must exist then.

    Raises:
        UserError: no room there.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path):
        self.shape, self.folder = shape, folder
        self._bytes = 4 * math.prod(shape)
        in_memory = self._bytes <= BOUND_BYTES
        self._array = np.empty(shape, np.float32) if in_memory else None
        self._file = None if in_memory else self._new_file()

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Puts `rows` [n, D] at `start` of the array seen as [..., D] rows one below the other."""
        if self._array is not None:
            self._array.reshape(math.prod(self.shape[:-1]), self.shape[-1])[start : start + len(rows)] = rows
            return
        try:
            self._file.seek(4 * start * self.shape[-1])
            self._file.write(np.ascontiguousarray(rows, np.float32))
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from None

    def read(self) -> NDArray[np.float32]:
        """The whole array, perhaps memory-mapped and read-only; to be called once, when all is written."""
        if self._array is not None:
            return self._array
        with self._file:  # the map keeps the contents
            return np.memmap(self._file, np.float32, "r", shape=self.shape)

    def _new_file(self) -> BinaryIO:
        """A file that has a name only until it is open; one that a kill leaves is removed by `remove_leftovers`."""
        try:
            suffix = f".{os.getpid()}"
            file = tempfile.TemporaryFile(prefix=".spill.", suffix=suffix, dir=self.folder)  # noqa: SIM115
            if hasattr(os, "posix_fallocate"):  # room for all of it, before hours are spent on filling it
                os.posix_fallocate(file.fileno(), 0, self._bytes)
        except OSError as error:
            raise self._no_room(error) from None
        return file

    def _no_room(self, error: OSError) -> UserError:
        return UserError(
            f"{self.folder}: no room for {self._bytes / 2**30:.1f} GiB of the model's outputs on the pool "
            f"({error.strerror}); make room there, name another results_dir, or score a part with pool_sample"
        )
