"""What a device has room for."""

import os

import torch

from al.errors import UserError

MEMORY = "AL_DEVICE_MIB"
"""Environment variable, to try it out: images are placed as if the device, a CPU too, had so many MiB free."""
FULL = ("out of memory", "can't allocate memory", "alloc_failed", "unable to find an engine to execute")
"""What errors of a full device say: torch's, the CPU's, and cuBLAS' and cuDNN's, which find no workspace."""


def pretended_memory() -> int | None:
    mib = os.environ.get(MEMORY, "").strip()
    if not mib:
        return None
    if not mib.isdecimal():
        raise UserError(f"{MEMORY}={mib}: not a whole number of MiB; leave it out for what the device has")
    return int(mib) * 2**20


def out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; Apple's, the CPU's and NVIDIA's libraries say so by a plain RuntimeError."""
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in FULL)
    return isinstance(error, MemoryError)
