"""What a device has room for."""

import os

import torch

from al.errors import UserError

MEMORY = "AL_DEVICE_MIB"
"""Environment variable, to try it out: images are placed as if the device, a CPU too, had so many MiB free."""


def pretended_memory() -> int | None:
    mib = os.environ.get(MEMORY, "").strip()
    if not mib:
        return None
    if not mib.isdecimal():
        raise UserError(f"{MEMORY}={mib}: not a whole number of MiB; leave it out for what the device has")
    return int(mib) * 2**20


def out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; Apple's and the CPU's say so by a plain RuntimeError."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )
