"""Frozen embeddings: a vector for every image, from a pretrained model (computed once, then cached) or a file.

What strategies cluster in (`features=...`), what the very first labels are chosen by (`init=probcover`, ...), and
what `model=frozen` learns from.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, Embeddings, ImageSet
from al.errors import UserError, first_line
from al.identity import FILE
from al.storage.blocks import BLOCK_ROWS, release
from data_prep.array_cache import Contents, Entry, model_identity
from data_prep.progress import Progress, show_progress
from data_prep.sharded.reading import check_complete, embeddings_of, is_sharded

if TYPE_CHECKING:
    from al.config import RunConfig
    from al.runtime import Runtime

SPLITS = ("train", "test")
ARRAY = "embeddings"
REMEDY = "download the model where there is a network and name its folder, features=FOLDER"
LARGEST = 1e15
"""Values beyond it have squares and sums of squares that float32 does not hold."""
BROKEN = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, BadZipFile)
"""What NumPy raises over files that are not there, or no arrays."""


def cache_dir(results_dir: str | Path) -> Path:
    """Where the runs of one results folder keep embeddings, so that one finds what another computed."""
    return Path(results_dir) / "embeddings"


def load_embeddings(config: "RunConfig", data: DataSet, progress: Progress = show_progress) -> Embeddings | None:
    """The embeddings that `features` names, or None where the run does not use them.

    Raises:
        UserError: no such model or file, or one that does not fit the data set.
    """
    if not config.uses_embeddings:
        return None
    if config.features.startswith(FILE):
        path = Path(config.features.removeprefix(FILE))
        if not is_sharded(path):
            return from_file(path, data)
        images = Path(config.data_dir).expanduser() if data.name == "imagefolder" else None
        return embeddings_of(path, data, images, Path(config.results_dir))
    from al.runtime import resolve_runtime

    found = cached_embeddings(config, data)
    if found is None:
        runtime = resolve_runtime(config.device, config.precision)
        given = config.features, config.features_size, runtime, cache_dir(config.results_dir), progress
        found = _joined([_load_or_compute(data, split, *given) for split in SPLITS], cached=False)
    return found


def cached_embeddings(config: "RunConfig", data: DataSet) -> Embeddings | None:
    """The embeddings that `features` names, if a run has computed them; nothing is computed, and torch not loaded."""
    cache = cache_dir(config.results_dir)
    found = [_entry(data, split, config.features, config.features_size, cache).load() for split in SPLITS]
    return None if None in found else _joined(found, cached=True)


def _joined(found: Sequence[Contents], *, cached: bool) -> Embeddings:
    seconds = [contents.seconds for contents in found]
    known = None if None in seconds else sum(seconds)
    return Embeddings(*(contents.arrays[ARRAY] for contents in found), seconds=known, cached=cached)


def embed(
    data: DataSet,
    split: str,
    model: str,
    size: int | None,
    runtime: "Runtime",
    cache_dir: Path,
    progress: Progress = show_progress,
) -> NDArray[np.float32]:
    """Unit vectors [N, D] of the images of one split, from the cache or computed; memory-mapped.

    Args:
        model: a vision model of the Hub (`OWNER/NAME`, `OWNER/NAME@REVISION`) or a folder in its format.
        size: side in pixels that the images are resized to; None: what the model's image processor does.
        runtime: says the device; the computation is float32 always.

    An interrupted call goes on after the last shard it wrote. Two calls at once compute once.

    Raises:
        UserError: the model cannot be loaded, or gives no vectors of these images.
    """
    return _load_or_compute(data, split, model, size, runtime, cache_dir, progress).arrays[ARRAY]


def _load_or_compute(
    data: DataSet,
    split: str,
    model: str,
    size: int | None,
    runtime: "Runtime",
    cache_dir: Path,
    progress: Progress,
) -> Contents:
    images: ImageSet = getattr(data, split)
    entry = _entry(data, split, model, size, cache_dir)
    if (found := entry.load()) is None:
        with entry.locked("computing these embeddings"):
            if (found := entry.load()) is None:
                _compute(entry, images, split, model, size, runtime, progress)
                found = entry.load()
    if found is None:
        raise UserError(f"{entry.folder}: was changed while it was written; start again")
    return found


def _entry(data: DataSet, split: str, model: str, size: int | None, cache_dir: Path) -> Entry:
    images: ImageSet = getattr(data, split)
    description = {
        "data": data.fingerprint,
        "split": split,
        "images": len(images),
        "model": model_identity("features", model, cache_dir),
        "size": size,
    }
    return Entry(cache_dir, description, f"the embeddings of the {split} images", ARRAY, len(images))


def _compute(
    entry: Entry,
    images: ImageSet,
    split: str,
    model: str,
    size: int | None,
    runtime: "Runtime",
    progress: Progress,
) -> None:
    """Encode the images and make the entry complete."""
    from data_prep.image_encoder import load_vision

    encoder = load_vision(model, runtime, size)
    done = entry.encode(images.images, encoder.images)
    for _ in progress(done, len(images), f"embeddings of the {split} images"):
        pass
    entry.join(ARRAY)
    entry.finish({}, source=model)


def from_file(path: Path, data: DataSet) -> Embeddings:
    """Read embeddings [N, D] and [M, D] from files, row for row those of the data set.

    Args:
        path: a folder of `train.npy` and `test.npy`, which are memory-mapped, or a file `.npz` of both arrays.

    Raises:
        UserError: not there, not readable, or of another shape than the data set.
    """
    name = f"features={FILE}{path}"
    try:
        if path.is_dir():
            arrays = {split: np.load(path / f"{split}.npy", mmap_mode="r", allow_pickle=False) for split in SPLITS}
        else:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {split: archive[split] for split in SPLITS}
    except BROKEN as error:
        raise _cannot_be_read(path, error) from None
    for split, array in arrays.items():
        _check_shape(array, getattr(data, split), f"{name}, {split}")
    if arrays["train"].shape[1] != arrays["test"].shape[1]:
        raise UserError(
            f"{name}: {arrays['train'].shape[1]} dimensions for training and {arrays['test'].shape[1]} for test "
            "images; both must come from one model"
        )
    return Embeddings(**arrays)


def check_file(path: Path) -> None:
    """Check that embeddings are in `path`, without reading them.

    Raises:
        UserError: no such file or folder, or one without the two arrays, or without some of its shards.
    """
    if is_sharded(path):
        return check_complete(path)
    try:
        if path.is_dir():
            for split in SPLITS:
                np.load(path / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        else:
            with ZipFile(path) as archive:
                for split in SPLITS:
                    archive.getinfo(f"{split}.npy")
    except BROKEN as error:
        raise _cannot_be_read(path, error) from None


def _cannot_be_read(path: Path, error: Exception) -> UserError:
    return UserError(
        f"features={FILE}{path}: cannot be read ({first_line(error)}); name a folder with train.npy and test.npy, "
        "or a .npz file of both"
    )


def _check_shape(array: NDArray, images: ImageSet, name: str) -> None:
    if array.ndim != 2 or len(array) != len(images) or array.shape[1] < 1:
        raise UserError(f"{name}: has shape {array.shape}; {len(images):,} images need as many rows, [N, D]")
    if array.dtype not in (np.float32, np.float16):
        raise UserError(f"{name}: is of type {array.dtype}; save it as float32 or float16")
    _check_values(array, name)


def _check_values(array: NDArray, name: str) -> None:
    """Refuse values that arithmetic in float32 cannot take; warn of vectors that are all the same."""
    largest, constant = 0.0, len(array) > 1
    for start in range(0, len(array), BLOCK_ROWS):
        block = np.asarray(array[start : start + BLOCK_ROWS], np.float32)
        largest = np.maximum(largest, np.abs(block).max())  # NaN where there is one
        constant = constant and bool((block == array[0]).all())
        release(array)
    if not np.isfinite(largest):
        raise UserError(f"{name}: holds NaN or infinite values; make it again")
    if largest > LARGEST:
        raise UserError(f"{name}: holds values up to {largest:.0e}, whose squares float32 cannot hold; scale them")
    if constant:
        said = f"warning: {name}: all {len(array):,} vectors are the same, so nothing can be learnt from them"
        print(said, file=sys.stderr, flush=True)
