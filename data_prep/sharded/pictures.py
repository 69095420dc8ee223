"""The images of a shard, read and decoded in parallel, in their order; a broken one does not end the others."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from data_prep.sharded.sources import Read
from data_prep.sources.decoding import CHUNK_IMAGES, centre, decode_content, in_order

Item = TypeVar("Item")


@dataclass(frozen=True)
class Picture:
    """One image, or what is wrong with it."""

    name: str
    content: bytes = b""
    """SHA-256 of its file."""
    pixels: NDArray[np.uint8] | None = None
    """[S, S, 3]; None where it is broken."""
    problem: str = ""


def pictures(images: Iterable[tuple[str, Read]], image_size: int | None) -> Iterator[Picture]:
    """Decode images of these names, as a run of an image folder does: upright, the centre square of each."""

    def decode_some(some: list[tuple[str, Read]]) -> list[Picture]:
        return [_picture(name, read, image_size) for name, read in some]

    for decoded in in_order(decode_some, batches(images, CHUNK_IMAGES)):
        yield from decoded


def _picture(name: str, read: Read, image_size: int | None) -> Picture:
    try:
        content = read()
        pixels = decode_content(io.BytesIO(content), Path(name), image_size)
    except OSError as error:
        return Picture(name, problem=f"cannot be read ({error.strerror})")
    except UserError as error:
        return Picture(name, problem=str(error).removeprefix(f"{name}: ").partition(";")[0])
    return Picture(name, hashlib.sha256(content).digest(), pixels[centre(*pixels.shape[:2])])


def batches(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """So many at a time, and the rest."""
    rest = iter(items)
    while some := list(islice(rest, count)):
        yield some
