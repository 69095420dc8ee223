"""Lock files that several machines may share: the kernel's locks, which go with their process, however that ends."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from al.errors import UserError


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` unless another process does, and say whether it is held; never waits.

    The file says who holds it, for people who look. It is never removed: a process could hold what others do not see.

    Raises:
        OSError: the file cannot be made.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        lock.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, lock)
        lock.flush()
        yield True


def check_locks(folder: Path, option: str) -> None:
    """See whether a lock in `folder` keeps a second process out, which all that share it rely on.

    Args:
        option: what the folder was given by, for the error.

    Raises:
        UserError: it does not, as on some network file systems.
    """
    probe = folder / f".lock-check.{os.getpid()}"
    try:
        with probe.open("w") as first, probe.open("w") as second:
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                holds = _is_kept_out(second.fileno())
            except OSError:
                holds = False
    finally:
        probe.unlink(missing_ok=True)
    if not holds:
        raise UserError(
            f"{folder}: file locks do not lock here, so two processes could do the same work at once; mount the file "
            f"system with flock (NFS 4, Lustre's -o flock), or choose a folder elsewhere with {option}"
        )


def _is_kept_out(descriptor: int) -> bool:
    """Whether another process cannot take the lock."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
