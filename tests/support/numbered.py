"""Images made from their number, so that the right embedding of each is known, and workers that a test can kill."""

import io
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.sharded.records import Recipe
from data_prep.sharded.sources import source_of
from data_prep.sharded.store import Store
from data_prep.sharded.worker import Worker

SIDE, DIMENSIONS = 8, 5
WEIGHTS = np.random.default_rng(0).integers(-99, 100, (SIDE * SIDE * 3, DIMENSIONS))


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def content(number: int) -> bytes:
    """Its PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "png")
    return file.getvalue()


def encode(images: np.ndarray) -> np.ndarray:
    """Unit vectors by whole numbers, so that they are the same in whatever batch an image is."""
    sums = images.reshape(len(images), -1).astype(np.int64) @ WEIGHTS
    lengths = np.sqrt((sums**2).sum(axis=1, keepdims=True))
    return np.where(lengths > 0, sums / np.maximum(lengths, 1), np.nan).astype(
        np.float32
    )  # as a model may: black is NaN


def expected(numbers) -> np.ndarray:
    return encode(np.stack([pixels(number) for number in numbers])).astype(np.float16)


def folder(root: Path, count: int) -> list[str]:
    """Files in nested folders, of which number i is the i-th by path, part by part; their names."""
    names = [f"{('a', 'a-b', 'b')[3 * i // count]}/{i // 7:03}/{i:05}.png" for i in range(count)]
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content(number))
    return names


def recipe(**changed) -> Recipe:
    values = {"model": "id none", "revision": None, "features_size": None, "image_size": None, "dtype": "float16"}
    return Recipe(**values | {"shard_size": 8} | changed)


def worker(data: str | Path, out: Path, *, slow: float = 0, skip_broken: bool = False, **changed) -> Worker:
    """One that needs no torch; `slow`: seconds that a batch takes."""

    def encoded(images):
        time.sleep(slow)
        return encode(images)

    store, source = Store(out), source_of(str(data))
    store.begin(recipe(**changed), DIMENSIONS, source)
    return Worker(store, source, encoded, skip_broken)


def work(data: str | Path, out: Path, **options) -> int:
    """All that is left; how many rows that were, with those done before."""
    return sum(worker(data, out, **options).run())


def work_until(operation: str, nth: int, data: Path, out: Path) -> None:
    """Work, and die of SIGKILL right before the nth call of a function of `os`."""
    left, real = [nth], getattr(os, operation)

    def struck(*args, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(os, operation, struck)
    work(data, out)
