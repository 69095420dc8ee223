"""Random generators by address: each follows from the seed and from what it is for, never from what ran before."""

import zlib

import numpy as np


def _entropy(seed: int, step: int, stream: str) -> list[int]:
    return [seed, step, zlib.crc32(stream.encode())]


def rng(seed: int, step: int, stream: str) -> np.random.Generator:
    """The generator of one `stream` ("augment", "select", ...) at one step (round or epoch) of one seed."""
    return np.random.default_rng(_entropy(seed, step, stream))


def integer(seed: int, step: int, stream: str) -> int:
    """A seed in [0, 2**31) for a library that takes a number, addressed as `rng` is."""
    return int(rng(seed, step, stream).integers(2**31))
