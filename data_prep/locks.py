"""One process at a time: what two runs that start together must not both do to the same files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = 0.1  # seconds between two looks at a lock that another process has


@contextmanager
def exclusive(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold the lock file `path`; wait, and say so on stderr, while another process has it.

    The lock is gone when its process ends, however that happens; a child that is forked meanwhile does not keep it.

    Raises:
        OSError: the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"waiting for another process that is {waiting_for}", file=sys.stderr, flush=True)
        lock.acquire(poll_interval=WAIT)
    try:
        yield
    finally:
        lock.release()
