"""Copies between an NVIDIA card and pinned memory of the host, each under way while the card computes."""

from collections.abc import Iterable, Iterator
from functools import cache

import torch
from numpy.typing import NDArray


def to_card(batches: Iterable[torch.Tensor], card: torch.device) -> Iterator[torch.Tensor]:
    """Each of the batches on the card; the next is copied while one is computed with."""
    stream = _copying_stream(card)
    under_way = None
    for batch in batches:
        following = _copy_to(batch, card, stream)
        if under_way is not None:
            yield _arrived(*under_way)
        under_way = following
    if under_way is not None:
        yield _arrived(*under_way)


def from_card(batches: Iterable[torch.Tensor]) -> Iterator[NDArray]:
    """Each of the card's batches as an array, copied while the next one is computed.

    The copies go to two pinned buffers in turn: only from there may a copy be under way while the program goes on.
    """
    buffers: dict[int, torch.Tensor] = {}
    under_way = None
    for number, batch in enumerate(batches):
        turn = number % 2
        if turn not in buffers or len(batch) > len(buffers[turn]):
            buffers[turn] = _pinned(batch)
        buffer = buffers[turn][: len(batch)]
        copied = _copy_from(batch, buffer)
        if under_way is not None:
            yield _waited_for(*under_way)
        under_way = buffer, copied
    if under_way is not None:
        yield _waited_for(*under_way)


@cache
def _copying_stream(card: torch.device) -> torch.cuda.Stream:
    """One for all passes: torch keeps memory for each stream that a batch was copied on."""
    return torch.cuda.Stream(card)


def _copy_to(
    batch: torch.Tensor, card: torch.device, stream: torch.cuda.Stream
) -> tuple[torch.Tensor, torch.cuda.Event]:
    """Starts a copy from pinned memory; the event is when it is over."""
    with torch.cuda.stream(stream):
        there = batch.to(card, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(stream)
    return there, copied


def _arrived(batch: torch.Tensor, copied: torch.cuda.Event) -> torch.Tensor:
    """The batch, to be used on the stream that computes; its buffer in host memory may be filled again."""
    copied.synchronize()  # begun a whole step ago
    batch.record_stream(torch.cuda.current_stream(batch.device))
    return batch


def _pinned(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


def _copy_from(batch: torch.Tensor, buffer: torch.Tensor) -> torch.cuda.Event:
    """Starts a copy from the card; the event is when it is over."""
    buffer.copy_(batch, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return copied


def _waited_for(buffer: torch.Tensor, copied: torch.cuda.Event) -> NDArray:
    copied.synchronize()
    return buffer.numpy()
