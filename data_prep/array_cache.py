"""A cache of arrays with a row for each image: found by what they depend on, written atomically, resumed when cut."""

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError, first_line
from al.identity import FILE, sha256
from al.storage.blocks import BLOCK_ROWS, release
from al.storage.files import write_atomically
from data_prep.checksums import Damaged, checksum, no_room, read_info, write_info
from data_prep.locks import exclusive

Arrays = dict[str, NDArray[np.float32]]
Encode = Callable[[NDArray[np.uint8]], Iterator[NDArray[np.float32]]]
"""Images u8[n, H, W, 3] -> their vectors f32[b, D], batch after batch."""

META = "meta.json"
SECONDS = "seconds.txt"
"""Beside the shards: a line for each, so that an entry made in several goes knows what it took."""
SHARD = 2048  # images between two writes; what a cut costs at most
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Contents:
    """A complete entry."""

    arrays: Arrays
    """By name, each with a row for every image; memory-mapped."""
    source: str
    """What made them, in words."""
    seconds: float | None = None
    """What encoding all images took, over every call that had a part in it; None: not recorded."""


@dataclass(frozen=True)
class Entry:
    """One folder of the cache: `<key>/` once it is complete; until then `<key>.part/` holds its shards.

    `<key>/meta.json` has the checksums of the arrays. An entry that fails them is said to be damaged and made again.
    """

    cache_dir: Path
    description: Mapping[str, object]
    """Everything the arrays depend on; its digest is the key, so another data set or model is another folder."""
    what: str
    """What the arrays are, for messages."""
    array: str
    """Name of the array that a complete entry has in any case."""
    images: int

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        return self.cache_dir / self.key

    @property
    def _part(self) -> Path:
        return self.cache_dir / f"{self.key}.part"

    def load(self) -> Contents | None:
        """The arrays of a complete and undamaged entry, or None."""
        try:
            return self._read() if self.folder.exists() else None
        except Damaged:
            return None

    @contextmanager
    def locked(self, waiting_for: str) -> Iterator[None]:
        """Lock the entry, or wait for the process that is computing it; a damaged entry is removed first.

        Raises:
            UserError: the folder of the cache cannot be written.
        """
        with ExitStack() as stack:
            with self._writing():
                self.cache_dir.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive(self.cache_dir / f"{self.key}.lock", waiting_for))
                self._remove_damaged()
            yield

    def encode(self, images: NDArray[np.uint8], encode: Encode) -> Iterator[int]:
        """Encode all images u8[N, H, W, 3] shard by shard; shards that are on disk already are not made again.

        Yields the number of images done since the last time.

        Raises:
            UserError: a vector is NaN or infinite, which is never kept; or there is no room.
        """
        for start in range(0, len(images), SHARD):
            rows = images[start : start + SHARD]
            if self._shard(start) is not None:
                yield len(rows)
                continue
            batches, begun = [], time.perf_counter()
            for batch in encode(rows):
                if not np.isfinite(batch).all():
                    raise UserError(
                        f"{self.what}: NaN or infinite values for images {start} to {start + len(rows) - 1}, which are "
                        "not kept; start again, and if they come again use another model"
                    )
                batches.append(batch)  # [b, D]
                yield len(batch)
            self._write_shard(start, np.concatenate(batches), time.perf_counter() - begun)

    def join(self, name: str) -> NDArray[np.float32]:
        """Join the shards into one array [N, D] of the entry; memory-mapped, as it may not fit in memory."""
        shards = [self._shard(start) for start in range(0, self.images, SHARD)]
        width = np.load(shards[0], mmap_mode="r").shape[1]
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.images, width)}
        file = self._part / f"{name}.npy"
        # written and not filled through a map: on a full disk that would be a signal in place of an error
        with self._writing(2 * 4 * self.images * width), file.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            for shard in shards:
                out.write(np.load(shard).astype("<f4", copy=False))
        return np.load(file, mmap_mode="r")

    def finish(self, arrays: Arrays, source: str) -> None:
        """Add `arrays` to those joined and make the entry complete, by renaming its folder."""
        with self._writing():
            self._part.mkdir(parents=True, exist_ok=True)
            for name, array in arrays.items():
                _save(self._part / f"{name}.npy", array)
            for file in self._part.glob("rows_*"):  # shards are of no use any more
                file.unlink()
            written = {"description": dict(self.description), "source": source, "seconds": self._encoding_seconds()}
            (self._part / SECONDS).unlink(missing_ok=True)
            write_info(self._part / META, written)
            self._part.rename(self.folder)

    def _read(self) -> Contents:
        """What the entry holds.

        Raises:
            Damaged: something is missing, or is not what was written.
        """
        info = read_info(self.folder / META)
        if info.get("description") != dict(self.description) or not isinstance(info.get("source"), str):
            raise Damaged(f"{META}: not what was written")
        try:
            arrays = {file.stem: np.load(file, mmap_mode="r") for file in self.folder.glob("*.npy")}
        except (OSError, ValueError, EOFError) as error:
            raise Damaged(first_line(error)) from None
        if self.array not in arrays:
            raise Damaged(f"{self.array}.npy: No such file or directory")
        if "checksums" not in info:  # from before there were any: taken as it is, if it can be right
            self._check_old(arrays)
            with suppress(OSError):
                write_info(self.folder / META, info)
        seconds = info.get("seconds")
        return Contents(arrays, info["source"], seconds if isinstance(seconds, float) else None)

    def _check_old(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if array.ndim != 2 or len(array) != self.images:
                raise Damaged(f"{name}.npy: shape {array.shape} for {self.images} images")
            if not all_finite(array):
                raise Damaged(f"{name}.npy: NaN or infinite values")

    def _remove_damaged(self) -> None:
        if not self.folder.exists():
            return
        try:
            self._read()
        except Damaged as damage:
            print(
                f"{self.folder}: {self.what} are damaged ({damage}); removed, to be made again",
                file=sys.stderr,
                flush=True,
            )
            if self.folder.is_dir():
                shutil.rmtree(self.folder)
            else:
                self.folder.unlink()

    def _shard(self, start: int) -> Path | None:
        """The file of the shard that begins with image `start`, if it is there and has the checksum in its name."""
        for file in self._part.glob(f"rows_{start}_*.shard"):
            if file.stem.split("_")[-1] == checksum(file):
                return file
        return None

    def _encoding_seconds(self) -> float | None:
        """The sum over the shards; None where nothing was encoded, or the file is not what was written."""
        try:
            return float(sum(map(float, (self._part / SECONDS).read_text().split())))
        except (OSError, ValueError):
            return None

    def _write_shard(self, start: int, vectors: NDArray[np.float32], seconds: float) -> None:
        needed = 2 * 4 * self.images * vectors.shape[1]  # the shards, and the array that they are joined into
        with self._writing(needed):
            self._part.mkdir(parents=True, exist_ok=True)
            unfinished = self._part / f"rows_{start}.tmp"
            _save(unfinished, vectors)
            unfinished.replace(self._part / f"rows_{start}_{checksum(unfinished)}.shard")
            with (self._part / SECONDS).open("a") as taken:
                taken.write(f"{seconds:.3f}\n")

    @contextmanager
    def _writing(self, needed: int | None = None) -> Iterator[None]:
        """Turn an error of the system while the cache is written into one line.

        Args:
            needed: bytes that the whole entry takes, where known.
        """
        try:
            yield
        except OSError as error:
            remedy = "make room there, or name another results_dir; what is done is kept"
            raise no_room(self.cache_dir, self.what, error, needed, remedy) from None


def _save(file: Path, array: NDArray) -> None:
    """As `numpy.save`, whose error on a full disk does not say that the disk is full."""
    array = np.ascontiguousarray(array)
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(array))
        out.write(array)


def all_finite(array: NDArray) -> bool:
    """Whether no value is NaN or infinite, looking at a memory map block by block."""
    for start in range(0, len(array), BLOCK_ROWS):
        if not np.isfinite(array[start : start + BLOCK_ROWS]).all():
            return False
        release(array)
    return True


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
    with suppress(OSError):  # where it cannot be remembered it is computed again
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memo, digest)
    return digest
