"""Lock files that several machines may share: the kernel's locks, which go with their process, however that ends."""

import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from al.errors import UserError

LOCAL_LOCKS = frozenset({"nolock", "local_lock=all", "local_lock=flock", "localflock"})
"""Options of a mount (NFS, Lustre) with which locks keep out processes of the same machine only."""
MOUNTS = Path("/proc/self/mountinfo")


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


def check_locks(folder: Path, option: str, *, shared: bool = False) -> None:
    """See whether a lock in `folder` keeps a second process of this machine out, as all that use the folder rely on.

    Whether it keeps out those of other machines is not tried. What is seen is a file system that says by an option of
    its mount that it does not.

    Args:
        option: what the folder was given by, for the error.
        shared: other machines are to use the folder too; otherwise such a mount is only warned of.

    Raises:
        UserError: the lock keeps nobody out, as on some network file systems, or nobody elsewhere where it has to.
    """
    if mounted := local_locks(folder):
        said = f"{folder}: is mounted with {mounted}, so locks hold on this machine only"
        if shared:
            raise UserError(f"{said}, and two could do the same work; mount it without, or name another with {option}")
        print(f"warning: {said}; use it from one machine at a time", file=sys.stderr, flush=True)
    # process ids alone are not enough: in containers most programs have the same few
    probe = folder / f".lock-check.{socket.gethostname()}.{os.getpid()}"
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


def local_locks(folder: Path) -> str:
    """The option by which the folder's file system is mounted without locks between machines; empty without one."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return ""
    folder, found, options = folder.resolve(), Path("/"), ""
    for line in lines:  # ID PARENT DEVICE ROOT PLACE OPTIONS ... - TYPE SOURCE OPTIONS
        mount, _, system = line.partition(" - ")
        place = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4]))  # \040 is a space
        if folder.is_relative_to(place) and place.is_relative_to(found):  # the later of two covers the earlier
            found, options = place, f"{mount.split(' ')[5]},{system.split(' ')[-1]}"
    return next((option for option in options.split(",") if option in LOCAL_LOCKS), "")


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
