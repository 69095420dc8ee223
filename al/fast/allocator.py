"""Memory of a CPU: what one layer gives back, the next one takes."""

import ctypes

from al.fast.switch import has

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of the settings, from glibc's malloc.h."""
MMAP_THRESHOLDS = (2**30, 2**25)
"""Bytes from which glibc takes memory from the system for each block alone; older ones allow 32 MiB at most."""


def keep_freed_memory() -> None:
    """Has glibc use the memory of activations again; elsewhere nothing.

    As it comes it gives large blocks back to the system at once and takes them anew for the next layer: each page of
    them is then faulted in and zeroed again, up to a third of the time that scoring takes.
    """
    if not has("allocator"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS and musl have no mallopt, Windows no library without a name
        return
    for limit in MMAP_THRESHOLDS:
        if mallopt(M_MMAP_THRESHOLD, limit):  # 0: refused
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # or the top of the heap would be given back all the same
            return
