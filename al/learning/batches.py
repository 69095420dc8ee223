"""Batches of images for training and scoring: taken on the device, or sent to it one step ahead."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from al.data import ImageFiles
from al.errors import UserError
from al.runtime import Runtime
from al.storage.blocks import as_slice, release

SHARE = 0.5
"""Of the device's free memory that images may take; the rest is for the network, its gradients and activations."""
BUFFERS = 3
"""Of one batch each: one is computed with, one is on its way to the device, one is filled."""


class StagedImages:
    """Arrays [N, ...] that stay in host memory or in files; a thread gathers, or decodes, the next batch meanwhile.

    Args:
        array: the images, perhaps memory-mapped, or in files of their own.
        runtime: of the device that computes with them.
    """

    def __init__(self, array: NDArray | ImageFiles, runtime: Runtime):
        self.array, self.runtime = array, runtime

    def __len__(self) -> int:
        return len(self.array)

    def batches(self, order: NDArray[np.int64], step: int) -> Iterator[torch.Tensor]:
        """Batches of `step` rows in the order given, on the device; each is valid until the next is asked for."""
        return self.runtime.sent(self._gathered(order, step))

    def _gathered(self, order: NDArray[np.int64], step: int) -> Iterator[torch.Tensor]:
        shape = (min(step, len(order)), *self.array.shape[1:])
        like = torch.from_numpy(np.empty(0, self.array.dtype))
        buffers: list[torch.Tensor] = []
        ahead = None
        for number, start in enumerate(range(0, len(order), step)):
            if len(buffers) < BUFFERS:
                buffers.append(self.runtime.buffer(shape, like.dtype))
            following = self._thread.submit(self._fill, buffers[number % BUFFERS], order[start : start + step])
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()

    def _fill(self, buffer: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        filled = buffer[: len(rows)]
        out, taken = filled.numpy(), as_slice(rows)
        if not isinstance(self.array, np.ndarray):
            self.array.read(rows, out)
            return filled
        if isinstance(taken, slice) or not self.array.flags.c_contiguous:  # np.take would copy all of the latter
            out[...] = self.array[taken]
        else:
            np.take(self.array, rows, axis=0, out=out, mode="clip")  # the only mode that writes into `out` at once
        release(self.array)
        return filled

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="images")


Images = torch.Tensor | StagedImages
"""u8[N, H, W, 3], or embeddings [N, D]."""


def batches(images: Images, order: NDArray[np.int64], step: int, runtime: Runtime) -> Iterator[torch.Tensor]:
    """Batches of `step` rows in the order given, on the device; each is valid until the next is asked for.

    Consecutive rows of what is on the device are a view, so scoring a whole data set copies nothing.
    """
    if isinstance(images, StagedImages):
        yield from images.batches(order, step)
        return
    whole = isinstance(as_slice(order), slice)
    index = None if runtime.on_cpu or whole else runtime.indices(order)  # sent once, not by batch
    for start in range(0, len(order), step):
        part = slice(start, start + step)
        taken = as_slice(order[part])
        if isinstance(taken, slice):
            yield images[taken]
        else:
            yield images[torch.from_numpy(order[part]) if index is None else index[part]]


def placed(arrays: Sequence[NDArray | ImageFiles], runtime: Runtime, images_on: str, name: str) -> list[Images]:
    """Arrays [N, ...] where `images_on` has them: the same images, picks and weights wherever that is.

    Args:
        images_on: `device`, `host` (memory), `disk` (the memory-mapped cache), or `auto`: the device as long as half
            of what it has free takes them, otherwise where they are. Image files stay files with `auto`; `device` and
            `host` decode them once.
        name: of the data set, for errors.

    Raises:
        UserError: no room there, or `disk` for images that are in no cache.
    """
    if images_on == "device":
        there = [array if isinstance(array, np.ndarray) else _in_memory(array, images_on, name) for array in arrays]
        return [runtime.place(array) for array in there]
    if images_on != "auto":
        kept = _in_memory if images_on == "host" else _on_disk
        return [StagedImages(kept(array, images_on, name), runtime) for array in arrays]
    free = runtime.free_memory()
    room = None if free is None else SHARE * free
    found: dict[int, Images] = {}
    for number in sorted(range(len(arrays)), key=lambda number: arrays[number].nbytes):  # the test set first
        array = arrays[number]
        fits = isinstance(array, np.ndarray) and (room is None or array.nbytes <= room)
        found[number] = runtime.place(array) if fits else StagedImages(array, runtime)
        if fits and room is not None:
            room -= array.nbytes
    return [found[number] for number in range(len(arrays))]


def _in_memory(array: NDArray | ImageFiles, images_on: str, name: str) -> NDArray:
    """The array, read from its file, or decoded from many."""
    if isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        return array
    try:
        return np.array(array)
    except MemoryError:
        remedy = "disk" if isinstance(array, np.memmap) else "auto"
        raise UserError(
            f"images_on={images_on}: no room in memory for {array.nbytes / 2**20:,.0f} MiB of {name}'s images; "
            f"use images_on={remedy}, or a smaller image_size"
        ) from None


def _on_disk(array: NDArray | ImageFiles, images_on: str, name: str) -> NDArray:
    if not isinstance(array, np.memmap):
        raise UserError(
            f"images_on=disk: the images of {name} are in no file that could be mapped; use images_on=host or auto"
        )
    return array
