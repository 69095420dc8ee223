"""The map of a pool, as `python -m data_prep map` wrote it for a data set."""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PoolMap:
    """Where each training image lies on a plane, and pictures of some."""

    points: NDArray[np.float32]
    """[N, 2] within [0, 1]"""
    labels: NDArray[np.int64]
    """[N]"""
    source: str
    """By what the images are near each other: pixels, or a model's name."""
    rows: NDArray[np.int64]
    """[n] a random sample of rows that have a picture."""
    pictures: NDArray[np.uint8]
    """[n, S, S, 3]"""
    paths: tuple[str, ...]

    @cached_property
    def pictured(self) -> dict[int, int]:
        """Row -> position among the pictures."""
        return {int(row): k for k, row in enumerate(self.rows)}


def read_map(results_dir: Path, fingerprint: str) -> PoolMap | None:
    """The map of the data with this fingerprint; None where there is none that can be read."""
    try:
        path = results_dir / "maps" / f"{fingerprint[:32]}.npz"
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in ("points", "labels", "rows", "pictures")}
            return PoolMap(**arrays, source=str(found["source"]), paths=tuple(map(str, found["paths"])))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
