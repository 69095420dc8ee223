"""Sharded embeddings for a run or for a proposal: the rows of given images, where they lie, memory-mapped."""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, Embeddings, ImageSet
from al.errors import UserError, first_line
from al.identity import FILE, SEAL
from al.storage.blocks import as_slice, gather, release
from al.storage.disk_array import DiskArray
from data_prep.sharded.store import IMAGES, MANIFEST, Store

CHECKED = 64
"""Images whose contents are held against what was embedded, before a run relies on their names."""
ROWS = 1 << 16


def is_sharded(path: Path) -> bool:
    """Whether `python -m data_prep embed` makes or has made this folder."""
    return (path / MANIFEST).is_file() and (path / IMAGES).is_file()


def check_complete(path: Path) -> None:
    """See that all shards are there, by the files that say so.

    Raises:
        UserError: they are not.
    """
    store = Store(path)
    if not store.complete:
        shards = len(store.manifest.shards)
        raise UserError(
            f"features={FILE}{path}: {shards - len(store.pending()):,} of {shards:,} shards are done; give its "
            "`python -m data_prep embed` command again to make the rest"
        )
    store.seal()


def embeddings_of(path: Path, data: DataSet, images: Path | None, scratch: Path) -> Embeddings:
    """The embeddings of a data set's images, found by the images' paths in its folder.

    Rows that follow each other are used where they lie; others are copied.

    Args:
        images: the data folder, where there is one: the contents of some images are held against what was embedded.
        scratch: folder for rows that lie apart and are too many for memory.

    Raises:
        UserError: not complete, damaged, or of other images.
    """
    store = open_store(path)
    splits = (data.train, data.test)
    rows = _rows_by_name(store, splits)
    for split, found in zip(splits, rows):
        _check_contents(store, split, found, images)
    return Embeddings(*(vectors_at(path, found, scratch) for found in rows))


def rows_by_content(path: Path, digests: Sequence[str]) -> NDArray[np.int64]:
    """The row of each image of these SHA-256, each named once; -1 where there is none.

    Raises:
        UserError: not complete, or damaged.
    """
    wanted = {bytes.fromhex(digest): place for place, digest in enumerate(digests)}
    beginnings = np.array([int.from_bytes(digest[:8], sys.byteorder) for digest in wanted], np.uint64)
    contents, rows = open_store(path).contents.map(), np.full(len(digests), -1)
    for start in range(0, len(contents), ROWS):
        block = np.ascontiguousarray(contents[start : start + ROWS])  # [b, 32]
        for i in np.flatnonzero(np.isin(block.view(np.uint64)[:, 0], beginnings)):
            if (place := wanted.get(block[i].tobytes())) is not None:
                rows[place] = start + i
        release(contents)
    return rows


def vectors_at(path: Path, rows: NDArray[np.int64], scratch: Path) -> NDArray:
    """The vectors [n, D] of these rows: a part of the map where they follow each other, else a copy of them."""
    vectors, where = Store(path).vectors.map(), as_slice(rows)
    if isinstance(where, slice):
        return vectors[where]
    scratch.mkdir(parents=True, exist_ok=True)
    copy = DiskArray((len(rows), vectors.shape[1]), scratch)
    for start in range(0, len(rows), ROWS):
        copy.write(start, gather(vectors, rows[start : start + ROWS]))
    return copy.read()


def open_store(path: Path) -> Store:
    """A complete folder, whose rows are what was written.

    Raises:
        UserError: they are not.
    """
    check_complete(path)
    store = Store(path)
    try:
        layout = store.vectors.map(), store.contents.map()
        known = [(file.shape, np.dtype(file.dtype)) for file in (store.vectors, store.contents)]
        if [(array.shape, array.dtype) for array in layout] != known:
            raise ValueError("of another shape")
        damaged = _damaged(path, (path / SEAL).stat().st_mtime_ns)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"features={FILE}{path}: cannot be read ({first_line(error)}); make the embeddings anew"
        ) from None
    if damaged:
        raise UserError(
            f"features={FILE}{path}: shard {damaged[0]} is not what was written, the first of {len(damaged)}; remove "
            f"{SEAL} there, and give the `python -m data_prep embed` command again to make them anew"
        )
    return store


@lru_cache(maxsize=16)
def _damaged(path: Path, sealed: int) -> tuple[int, ...]:
    """Shards with another checksum; all rows are read for that, once a process."""
    store = Store(path)
    return tuple(store.damaged(store.seal().checksums))


def _rows_by_name(store: Store, splits: Iterable[ImageSet]) -> list[NDArray[np.int64]]:
    """The row of each image of each split."""
    splits, where = list(splits), f"features={FILE}{store.folder}"
    if any(split.paths is None for split in splits):
        raise UserError(f"{where}: finds images by their paths, and this data set has none; use dataset=imagefolder")
    wanted = {name: place for place, name in enumerate(name for split in splits for name in split.paths)}
    rows = np.full(len(wanted), -1)
    for row, name in enumerate(store.all_names()):
        if (place := wanted.get(name)) is not None:
            rows[place] = row
    rows[np.isin(rows, store.seal().broken)] = -1
    if (missing := int((rows < 0).sum())) > 0:
        first = next(name for name, place in wanted.items() if rows[place] < 0)
        raise UserError(
            f"{where}: has no embedding of {missing:,} of {len(rows):,} images, {first} first; make them with "
            "`python -m data_prep embed --data=` of the same folder as data_dir, as it is now"
        )
    return np.split(rows, [len(splits[0])])


def _check_contents(store: Store, split: ImageSet, rows: NDArray[np.int64], images: Path | None) -> None:
    """Hold the contents of some images against those that were embedded under their names."""
    contents = store.contents.map()
    for place in range(0, len(rows), -(-len(rows) // CHECKED)) if images is not None else ():
        name = split.paths[place]
        if hashlib.sha256((images / name).read_bytes()).digest() != contents[rows[place]].tobytes():
            raise UserError(
                f"features={FILE}{store.folder}: {images / name} is another image than was embedded under this name; "
                "make embeddings of these images with `python -m data_prep embed`"
            )
