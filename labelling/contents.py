"""What was computed of each image, kept by its content: embeddings, or pixels for a network.

An image is decoded once, whatever it is renamed to and whatever is added beside it. Memory holds one shard at a time.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from al.identity import FILE
from al.storage.disk_array import BOUND_BYTES
from al.storage.files import write_atomically, writing
from data_prep.array_cache import all_finite, model_identity
from data_prep.looking import BY_THE_SYSTEM
from data_prep.progress import Progress, show_progress
from data_prep.sharded.reading import rows_by_content, vectors_at
from data_prep.sources.decoding import decode_image, workers
from data_prep.sources.image_cache import FORMAT
from labelling.photos import Photo, Photos

if TYPE_CHECKING:
    from al.config import RunConfig

SHARD_BYTES = 64 << 20
"""Of decoded pixels that are in memory at a time."""
BATCH = 256
"""Shards are whole numbers of what the encoder takes at once, so that a run computes the same vectors bit for bit."""
LARGEST_NATIVE = 256
USUAL_SIDE = 224
"""Side in pixels where the images are of several sizes, or large, and nobody names one."""
PROBLEMS = "problems.json"


def side_of(photos: Photos, image_size: int | None) -> int | None:
    """The side that images are resized and cut to; None where all are the same small square and stay as they are."""
    if image_size is not None:
        return image_size
    sizes = {photo.size for photo in photos.photos}
    (width, height) = sizes.pop() if len(sizes) == 1 else (0, 1)
    return None if width == height <= LARGEST_NATIVE else USUAL_SIDE


@dataclass(frozen=True)
class Contents:
    """Arrays of photos, row for row."""

    photos: Photos
    """Those that could be decoded."""
    pixels: NDArray[np.uint8]
    """[N, S, S, 3], or a stand-in of [N, 1, 1, 3] where nothing looks at pixels."""
    embeddings: NDArray | None
    """[N, D] float32, or as they are stored elsewhere."""


def load_contents(photos: Photos, config: "RunConfig", cache: Path, progress: Progress = show_progress) -> Contents:
    """The pixels and embeddings that a configuration needs, from the cache or computed.

    Raises:
        UserError: a model that cannot be had, no image that can be read, or no room.
    """
    side = side_of(photos, config.image_size)
    problems = _Problems(cache / PROBLEMS)
    photos = photos.without(problems.of(side))
    stores = {}
    if not config.learner.reads_embeddings:
        stores["pixels"] = Shards(cache / f"pixels-{FORMAT}-{side or 'native'}")
    sharded = Path(config.features.removeprefix(FILE)) if config.features.startswith(FILE) else None
    if config.uses_embeddings and sharded is not None:
        photos = _embedded_in(sharded, photos)
    elif config.uses_embeddings:
        stores["embeddings"] = Shards(cache / f"embeddings-{_key(config, side, cache)}")
    lacking = [photo for photo in photos.photos if any(photo.sha256 not in store for store in stores.values())]
    if lacking:
        work = _compute(lacking, photos.folder, stores, problems, config, side)
        for _ in progress(work, len(lacking), "decoding and embedding" if config.uses_embeddings else "decoding"):
            pass
        photos = photos.without(problems.of(side))
    if not photos.photos:
        raise UserError(f"{photos.folder}: no image there can be read; see what is said of each")
    order, scratch, embeddings = [photo.sha256 for photo in photos.photos], cache, None
    pixels = stores["pixels"].gather(order, scratch) if "pixels" in stores else _no_pixels(len(order))
    if "embeddings" in stores:
        embeddings = stores["embeddings"].gather(order, scratch)
    elif config.uses_embeddings:
        embeddings = vectors_at(sharded, rows_by_content(sharded, order), scratch)
    return Contents(photos, pixels, embeddings)


def _embedded_in(folder: Path, photos: Photos) -> Photos:
    """The photos that sharded embeddings have; the others are set aside.

    Raises:
        UserError: they have none of them.
    """
    rows = rows_by_content(folder, [photo.sha256 for photo in photos.photos])
    if photos.photos and not (rows >= 0).any():
        raise UserError(
            f"features={FILE}{folder}: has no embedding of any image in {photos.folder}; make them with "
            "`python -m data_prep embed`"
        )
    why = f"has no embedding in {folder}; make them anew with `python -m data_prep embed`"
    return photos.without({photo.sha256: why for photo, row in zip(photos.photos, rows) if row < 0})


def _no_pixels(count: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.zeros(3, np.uint8), (count, 1, 1, 3))


def _key(config: "RunConfig", side: int | None, cache: Path) -> str:
    """What embeddings depend on besides the image: the model, and both sizes."""
    model = model_identity("features", config.features, cache)
    return sha256(json.dumps([FORMAT, model, config.features_size, side]).encode()).hexdigest()[:16]


def _compute(
    photos: Sequence[Photo],
    folder: Path,
    stores: dict[str, "Shards"],
    problems: "_Problems",
    config: "RunConfig",
    side: int | None,
) -> Iterator[int]:
    """Decode shard after shard and add what the stores lack; yields how many files are done."""
    encoder = None
    if "embeddings" in stores:
        from al.runtime import resolve_runtime
        from data_prep.image_encoder import load_vision

        encoder = load_vision(config.features, resolve_runtime(config.device, config.precision), config.features_size)
    height, width = (side, side) if side else photos[0].size
    shard = max(1, SHARD_BYTES // (3 * height * width * BATCH)) * BATCH
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(photos), shard):
            block = photos[start : start + shard]
            outcomes = list(pool.map(lambda photo: decoded(folder / photo.path, side), block))
            whole = [(photo.sha256, found) for photo, found in zip(block, outcomes) if not isinstance(found, str)]
            problems.add(side, {photo.sha256: found for photo, found in zip(block, outcomes) if isinstance(found, str)})
            if whole:
                digests, images = [digest for digest, _ in whole], np.stack([image for _, image in whole])
                if "pixels" in stores:
                    stores["pixels"].add(digests, images)
                if encoder is not None:
                    stores["embeddings"].add(digests, np.concatenate(list(encoder.images(images))))
            yield len(block)


def decoded(path: Path, side: int | None) -> NDArray[np.uint8] | str:
    """The pixels u8[S, S, 3] of an image, upright; or what is wrong with it."""
    try:
        return decode_image(path, side)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")


class Shards:
    """An append-only store of array rows by digest: files `NNNNNN.npz` of digests and rows, each written at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.places: dict[str, tuple[Path, int]] = {}
        """File and row of each digest."""
        for path in sorted(folder.glob("*.npz")):
            self._read_digests(path)

    def __contains__(self, digest: str) -> bool:
        return digest in self.places

    def _read_digests(self, path: Path) -> None:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                digests = file["digests"]
        except (OSError, ValueError, KeyError, BadZipFile):
            path.unlink(missing_ok=True)  # damaged: what it held is computed again
            return
        self.places |= {bytes(digest).hex(): (path, row) for row, digest in enumerate(digests)}

    def add(self, digests: Sequence[str], rows: NDArray) -> None:
        """Add rows [n, ...], and have them on disk.

        Raises:
            UserError: a row is NaN or infinite.
            NoRoom: the disk is full.
        """
        if rows.dtype.kind == "f" and not all_finite(rows.reshape(len(rows), -1)):
            raise UserError("features: the model makes NaN or infinite vectors of some images; use another model")
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.stem) for path in self.folder.glob("*.npz")), default=0) + 1
        path = self.folder / f"{number:06d}.npz"
        unfinished = path.with_suffix(".tmp")
        packed = np.array([list(bytes.fromhex(digest)) for digest in digests], np.uint8)
        with writing(path, rows.nbytes), unfinished.open("wb") as file:
            np.savez(file, digests=packed, rows=rows)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        self.places |= {digest: (path, row) for row, digest in enumerate(digests)}

    def gather(self, digests: Sequence[str], scratch: Path) -> NDArray:
        """The rows of these digests [N, ...]; beyond a bound in a file without a name, memory-mapped.

        Raises:
            UserError: a file is damaged; it is removed, and the next call computes its part again.
        """
        by_file: dict[Path, list[tuple[int, int]]] = {}
        for position, digest in enumerate(digests):
            path, row = self.places[digest]
            by_file.setdefault(path, []).append((position, row))
        out, file = None, None
        for path, pairs in by_file.items():
            rows = self._rows(path)
            if out is None:
                out, file = _empty((len(digests), *rows.shape[1:]), rows.dtype, scratch)
            positions, sources = np.array(pairs).T
            out[positions] = rows[sources]
        if file is None:
            return out
        out.flush()
        with file:
            return np.memmap(file, out.dtype, "r", shape=out.shape)

    def _rows(self, path: Path) -> NDArray:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return file["rows"]
        except (OSError, ValueError, KeyError, BadZipFile):
            path.unlink(missing_ok=True)
            raise UserError(f"{path}: damaged, and removed; give the same command again to make it anew") from None


def _empty(shape: tuple[int, ...], dtype: np.dtype, scratch: Path) -> tuple[NDArray, object | None]:
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= BOUND_BYTES:
        return np.empty(shape, dtype), None
    with writing(scratch, size):
        file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a signal where a map is written
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(file, dtype, "r+", shape=shape), file


class _Problems:
    """Images that could not be decoded, by side and SHA-256: they are not tried again, but for unreadable files."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.found: dict[str, dict[str, str]] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self.found = {}

    def of(self, side: int | None) -> dict[str, str]:
        return self.found.get(str(side), {})

    def add(self, side: int | None, found: dict[str, str]) -> None:
        if found:
            self.found.setdefault(str(side), {}).update(found)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = {
                size: {digest: why for digest, why in reasons.items() if BY_THE_SYSTEM not in why}
                for size, reasons in self.found.items()
            }
            write_atomically(self.path, json.dumps(kept))
