"""Errors that a user can act on: one line with the value, the rule and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from errno import ENOSPC
from os import strerror
from pathlib import Path

EXIT_FAILED, EXIT_USAGE, EXIT_HELD = 1, 2, 3
"""Exit statuses: failed; wrong parameters or data; another process has this run."""
MANY = 15
"""Choices that an error lists at the most."""


class UserError(Exception):
    """Something in the parameters, the data or the folders that the user can put right.

    The command line prints its text on one line and exits with status 2.
    """


class HeldElsewhere(Exception):
    """Another process works on this run."""


class NoRoom(OSError):
    """The disk is full, or the user's share of it; says which file, and how much is needed.

    Args:
        size: bytes that were to be written; 0 where that is not known.
    """

    def __init__(self, path: Path, size: int = 0):
        super().__init__(ENOSPC, strerror(ENOSPC), str(path))
        self.size = size

    def __str__(self) -> str:
        needed = f" for {max(self.size / 2**20, 0.1):,.1f} MiB" if self.size else ""
        return f"{self.filename}: no room on the disk{needed}; make room there and give the same command again to go on"


class FullDevice(Exception):
    """The device has no room left, at a place that knows no better remedy."""


FULL = ("out of memory", "outofmemory", "can't allocate memory", "alloc_failed", "unable to find an engine to execute")
"""What errors of a full device say: torch's, the CPU's, and cuBLAS' and cuDNN's, which find no workspace."""


def out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; Apple's, the CPU's and NVIDIA's libraries say so by a plain RuntimeError."""
    if isinstance(error, RuntimeError):
        said = f"{type(error).__name__}: {error}".lower()
        return any(words in said for words in FULL)
    return isinstance(error, MemoryError)


@contextmanager
def full_device_told() -> Iterator[None]:
    """Turns an error of a device's memory inside into one line.

    Raises:
        FullDevice: there is no room left.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        remedy = "use a smaller batch_size or image_size, fewer runs at a time, or another device"
        raise FullDevice(f"the device has no room left ({first_line(error)}); {remedy}") from None


def nearest(word: str, choices) -> str:
    """The end of an error about an unknown `word`: the nearest of `choices`, or up to `MANY` of them."""
    choices = [str(choice) for choice in choices]
    close = get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(choices[:MANY])
    return f"choose from {listed}" + (f" and {len(choices) - MANY} more" if len(choices) > MANY else "")


def first_line(error: BaseException) -> str:
    """What an error says, short enough to quote in another one; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
