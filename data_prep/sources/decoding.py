"""Decode image files: one, or many in parallel and in their order."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from al.errors import UserError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
CHUNK_BYTES = 16 << 20
CHUNK_IMAGES = 64
REDUCING_GAP = 2

Item = TypeVar("Item")
Out = TypeVar("Out")


def decode_image(path: Path, image_size: int | None) -> NDArray[np.uint8]:
    """Decode one file to u8[H, W, 3], upright (EXIF orientation applied).

    Grey, palette and CMYK images become RGB; an alpha channel is dropped, as torchvision's ImageFolder does.
    With `image_size` the shorter side is resized to it (bilinear, antialiased) and the centre square is cut out.

    Raises:
        UserError: the file is no whole image; names it.
    """
    return decode_content(path, path, image_size)


def decode_content(content: Path | BinaryIO, path: Path, image_size: int | None) -> NDArray[np.uint8]:
    """As `decode_image`, of a file that may have been read already; `path` is its name."""
    try:
        with Image.open(content) as image:
            if image_size is not None:
                # A large JPEG decodes several times faster at a fraction of its size; twice the size wanted
                # leaves the resampling filter all the detail that it can show.
                image.draft(None, (REDUCING_GAP * image_size, REDUCING_GAP * image_size))
            picture = upright_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders raise whatever they trip over: OSError, SyntaxError, struct.error, ...
        reason = str(error).replace(str(content), "the file").replace("\n", " ")
        raise UserError(f"{path}: not a whole image ({reason}); replace or remove the file") from error
    if image_size is not None:
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def upright_rgb(image: Image.Image) -> Image.Image:
    """An open image as the camera was held, in RGB; what was transparent shows the colour below."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # PIL would clip 16 bits to 255 instead of scaling them
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    image.info.pop("transparency", None)  # PIL warns of a palette's, which it drops all the same
    return image.convert("RGB")


def centre(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the centre square of an image."""
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def decode_images(paths: Sequence[Path], like: Path, image_size: int | None) -> Iterator[NDArray[np.uint8]]:
    """Decode `paths` in parallel; yields chunks u8[n, H, W, 3] in their order, all of the size of `like`.

    PIL releases Python's lock while it decodes, so threads suffice. Only a few chunks are in memory at a time.

    Raises:
        UserError: a file is broken, or images differ in size; names the files and the remedy.
    """
    shape = decode_image(like, image_size).shape
    chunk = images_at_a_time(shape)

    def decode_chunk(start: int) -> NDArray[np.uint8]:
        pictures = []
        for path in paths[start : start + chunk]:
            pictures.append(decode_image(path, image_size))
            check_size(like, shape, path, pictures[-1].shape)
        return np.stack(pictures)

    yield from in_order(decode_chunk, range(0, len(paths), chunk))


def images_at_a_time(shape: tuple[int, ...]) -> int:
    """How many images of this shape make a chunk."""
    return max(1, min(CHUNK_IMAGES, CHUNK_BYTES // math.prod(shape)))


def in_order(work: Callable[[Item], Out], items: Iterable[Item]) -> Iterator[Out]:
    """What `work` makes of each item, in parallel threads and in the items' order; few results wait at a time."""
    threads = workers()
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def workers() -> int:
    """Threads that decode at a time: one for each processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_size(like: Path, shape: tuple[int, ...], path: Path, other: tuple[int, ...]) -> None:
    """Refuse an image of another size than the first one's.

    Raises:
        UserError: names both and the remedy.
    """
    if other != shape:
        raise UserError(
            f"{like} is {shape[1]}x{shape[0]} and {path} is {other[1]}x{other[0]} pixels: all images must be "
            f"of one size; use for example --image_size={min(shape[:2] + other[:2])}"
        )
