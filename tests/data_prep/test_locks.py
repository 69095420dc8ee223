"""Locks between processes: one at a time, gone with its process, kept by no child."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_prep.locks import exclusive

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys, time
from pathlib import Path
from data_prep.locks import exclusive
with exclusive(Path(sys.argv[1]), "busy"):
    if sys.argv[2] == "fork":
        read, write = os.pipe()
        if child := os.fork():
            os.read(read, 1)  # the child runs: what it does after a fork is done
            print(child, flush=True)
            os._exit(0)  # the child lives on
        os.write(write, b"!")
    if sys.argv[2] == "hold":
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def hold(path: Path, how: str) -> tuple[subprocess.Popen, int]:
    """A process that holds the lock, and the number of the one that lives on: itself, or its child."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    return process, int(process.stdout.readline())


def test_a_killed_process_lets_go_and_who_waits_says_for_what(tmp_path, capsys):
    process, pid = hold(tmp_path / "lock", "hold")
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    start = time.monotonic()
    with exclusive(tmp_path / "lock", "computing these embeddings"):
        assert time.monotonic() - start > 0.3
    assert capsys.readouterr().err == "waiting for another process that is computing these embeddings\n"
    process.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_it(tmp_path, capsys):
    """Such as a worker that outlives its run: the next run would wait for it without end."""
    process, child = hold(tmp_path / "lock", "fork")
    process.wait()
    try:
        start = time.monotonic()
        with exclusive(tmp_path / "lock", "busy"):
            assert time.monotonic() - start < 5
        assert capsys.readouterr().err == ""
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_free_lock_says_nothing(tmp_path, capsys):
    for _ in range(2):
        with exclusive(tmp_path / "lock", "busy"):
            pass
    assert capsys.readouterr().err == ""


def test_no_place_for_the_lock(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), exclusive(tmp_path / "file" / "lock", "busy"):
        pass
