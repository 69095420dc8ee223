"""Zero-shot labels on disk: found again by everything they depend on, written atomically, resumed after a cut."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.locks import exclusive

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Entry:
    """One folder of a cache. `<key>/` is complete; `<key>.part/` holds the shards of an unfinished one."""

    cache_dir: Path
    description: Mapping[str, Any]
    """Everything the labels depend on; its digest is the key, so another data set or prompt is another folder."""

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        return self.cache_dir / self.key

    @property
    def _part(self) -> Path:
        return self.cache_dir / f"{self.key}.part"

    def meta(self) -> dict[str, Any] | None:
        """What `finish` was told, or None where the entry is not complete."""
        try:
            meta = json.loads((self.folder / "meta.json").read_text())
        except FileNotFoundError:
            return None
        return meta if meta["description"] == dict(self.description) else None

    def load(self) -> Arrays | None:
        """The arrays of a complete entry, memory-mapped, or None."""
        if self.meta() is None:
            return None
        return {file.stem: np.load(file, mmap_mode="r") for file in self.folder.glob("*.npy")}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the entry against other processes, or waits for the one that computes it."""
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(self.cache_dir / f"{self.key}.lock", "computing these zero-shot labels"):
            yield

    def shard(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """What `write_shard` was given for rows [start, stop), if an earlier call got that far."""
        file = self._shard_file(start, stop)
        return np.load(file) if file.is_file() else None

    def write_shard(self, start: int, stop: int, array: NDArray[np.float32]) -> None:
        self._part.mkdir(parents=True, exist_ok=True)
        file = self._shard_file(start, stop)
        unfinished = file.with_suffix(".tmp")
        with unfinished.open("wb") as out:
            np.save(out, array)
        unfinished.replace(file)

    def _shard_file(self, start: int, stop: int) -> Path:
        return self._part / f"rows_{start}_{stop}.shard"

    def finish(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Makes the entry complete with `arrays`; the renaming of its folder is the moment it becomes so."""
        self._part.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(self._part / f"{name}.npy", array)
        text = json.dumps({"description": dict(self.description), **meta}, indent=1)
        (self._part / "meta.json").write_text(text)
        self._part.rename(self.folder)
        for file in self.folder.glob("rows_*"):  # shards are of no use any more
            file.unlink()
