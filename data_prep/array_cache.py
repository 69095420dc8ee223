"""A cache of arrays with a row for each image: found by what they depend on, written atomically, resumed when cut."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from al.identity import FILE, sha256
from al.storage.files import write_atomically
from data_prep.locks import exclusive

Arrays = dict[str, NDArray[np.float32]]
Encode = Callable[[NDArray[np.uint8]], Iterator[NDArray[np.float32]]]
"""Images u8[n, H, W, 3] -> their vectors f32[b, D], batch after batch."""

SHARD = 2048  # images between two writes; what a cut costs at most
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Entry:
    """One folder of the cache: `<key>/` once it is complete; until then `<key>.part/` holds its shards."""

    cache_dir: Path
    description: Mapping[str, Any]
    """Everything the arrays depend on; its digest is the key, so another data set or model is another folder."""

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
        """What `finish` wrote beside the arrays, or None where the entry is not complete."""
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
    def locked(self, waiting_for: str) -> Iterator[None]:
        """Lock the entry, or wait for the process that is computing it."""
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(self.cache_dir / f"{self.key}.lock", waiting_for):
            yield

    def encode(self, images: NDArray[np.uint8], encode: Encode) -> Iterator[int]:
        """Encode all images u8[N, H, W, 3] shard by shard, but for shards that are on disk already.

        Yields the number of images done since the last time.
        """
        self._part.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(images), SHARD):
            rows, file = images[start : start + SHARD], self._shard(start, len(images))
            if file.is_file():
                yield len(rows)
                continue
            batches = []
            for batch in encode(rows):
                batches.append(batch)
                yield len(batch)
            unfinished = file.with_suffix(".tmp")
            with unfinished.open("wb") as out:
                np.save(out, np.concatenate(batches))
            unfinished.replace(file)

    def join(self, name: str, count: int) -> NDArray[np.float32]:
        """Join the shards into one array [count, D] of the entry; memory-mapped, as it may not fit in memory."""
        width = np.load(self._shard(0, count), mmap_mode="r").shape[1]
        joined = np.lib.format.open_memmap(self._part / f"{name}.npy", "w+", dtype=np.float32, shape=(count, width))
        for start in range(0, count, SHARD):
            joined[start : start + SHARD] = np.load(self._shard(start, count))
        joined.flush()
        return joined

    def _shard(self, start: int, count: int) -> Path:
        return self._part / f"rows_{start}_{min(start + SHARD, count)}.shard"

    def finish(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Add `arrays` to those joined and make the entry complete, by renaming its folder."""
        self._part.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(self._part / f"{name}.npy", array)
        text = json.dumps({"description": dict(self.description), **meta}, indent=1)
        (self._part / "meta.json").write_text(text)
        self._part.rename(self.folder)
        for file in self.folder.glob("rows_*"):  # shards are of no use any more
            file.unlink()


def model_identity(parameter: str, model: str, cache_dir: Path) -> str:
    """What identifies a model in a key: the id on the Hub, or a digest of the files in its folder.

    Args:
        parameter: what the user called it, for the error.

    Raises:
        UserError: neither.
    """
    if Path(model).is_dir():
        return f"folder {_folder_digest(Path(model), cache_dir)}"
    if not HUB_ID.fullmatch(model):
        raise UserError(
            f"{parameter}={model!r}: no such folder and not a Hub id; use OWNER/NAME, a model's folder, or {FILE}PATH"
        )
    return f"id {model}"


def _folder_digest(folder: Path, cache_dir: Path) -> str:
    """SHA-256 over the files of a model's folder, remembered while they are unchanged: gigabytes take seconds."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    stamp = hashlib.sha256(json.dumps([str(folder.resolve()), stamps]).encode()).hexdigest()[:32]
    memo = cache_dir / "folders" / stamp
    if memo.is_file():
        return memo.read_text()
    digest = hashlib.sha256(json.dumps([[file.name, sha256(file)] for file in files]).encode()).hexdigest()
    memo.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(memo, digest)
    return digest
