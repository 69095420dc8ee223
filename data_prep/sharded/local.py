"""Several workers on this machine, each a process of its own; where one is killed the others take over its shard."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from al.signals import StopRequested
from data_prep.progress import Progress
from data_prep.sharded.order import Order

POLL = 0.5
PATIENCE = 10
"""Seconds that a worker has to end after a signal."""


def run_workers(order: Order, count: int, progress: Progress) -> int:
    """Start so many workers and wait for all; the exit status.

    0 once all shards are done, whatever became of single workers; else that of the first one that failed.
    """
    reader, writer = os.pipe()
    workers = [_start(replace(order, number=number), count, writer) for number in range(count)]
    os.close(writer)
    lines = threading.Thread(target=_print_each_line_once, args=(reader,))
    lines.start()
    try:
        _wait(order, workers, progress)
    except StopRequested as stop:
        _stop(workers, stop.signum)
        raise
    finally:
        _stop(workers, signal.SIGKILL)
        lines.join()
    failed = [worker.returncode for worker in workers if worker.returncode]
    for code in failed:
        if code < 0:
            said = "the others have made its shards" if order.store.complete else "give the same command again to go on"
            print(f"a worker was killed by {signal.Signals(-code).name}; {said}", file=sys.stderr, flush=True)
    if order.store.complete:
        return 0
    return next((code for code in failed if code > 0), 1)


def _start(order: Order, count: int, stderr: int) -> subprocess.Popen:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // count))}
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", "embed", *order.arguments()],
        env={**os.environ, **threads},
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        process_group=0,  # Ctrl-C reaches this process alone, which passes it on
    )


def _wait(order: Order, workers: Sequence[subprocess.Popen], progress: Progress) -> None:
    store = order.store
    while not store.begun and any(worker.poll() is None for worker in workers):
        time.sleep(POLL)
    if store.begun:
        for _ in progress(_rows(order, workers), store.manifest.images, "embeddings"):
            pass


def _rows(order: Order, workers: Sequence[subprocess.Popen]) -> Iterator[int]:
    """Rows done since the last time, until all workers have ended."""
    store, told, going = order.store, 0, True
    while going:
        time.sleep(POLL)
        going = any(worker.poll() is None for worker in workers)
        done = store.rows_done()
        yield max(0, done - told)
        told = max(told, done)


def _stop(workers: Sequence[subprocess.Popen], signum: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signum)
    last = time.monotonic() + PATIENCE
    while any(worker.poll() is None for worker in workers) and time.monotonic() < last:
        time.sleep(POLL / 10)


def _print_each_line_once(reader: int) -> None:
    """What workers say on stderr: mostly all of them the same."""
    said: set[str] = set()
    with os.fdopen(reader, errors="backslashreplace") as lines:
        for line in lines:
            if line not in said:
                said.add(line)
                print(line, end="", file=sys.stderr, flush=True)
