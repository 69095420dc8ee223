"""Embeddings of very many images: by this process, by several here, or by those that Ray Data starts."""

import sys
from collections.abc import Iterable

from al.distributed import is_worker
from al.signals import StopRequested, StopSignals, leave_on_signals
from data_prep.progress import Progress, show_progress
from data_prep.sharded.local import run_workers
from data_prep.sharded.order import Order
from data_prep.sharded.sources import source_of


def embed_all(order: Order, workers: int = 1, ray: str | None = None) -> int:
    """Do what is left of an order; the exit status.

    Args:
        workers: processes to start here, or with Ray; 1 without Ray: this one.
        ray: address of Ray's cluster, `local` for one on this machine, None without Ray.

    Raises:
        UserError: something that the user can put right.
    """
    order.check()
    leads = order.number is None and not is_worker()
    progress = show_progress if leads else _silent
    if order.store.complete:
        order.store.tell_changes(source_of(order.data))
    elif ray is not None:
        from data_prep.sharded.with_ray import run_with_ray

        run_with_ray(order, workers, ray, progress)
    elif workers > 1:
        if code := _several(order, workers, progress):
            return code
    else:
        _alone(order, progress)
    if leads:
        about = order.store.manifest
        print(
            f"{about.images:,} embeddings of {about.dimensions:,} dimensions, {about.recipe.dtype}, "
            f"{len(about.shards):,} shards; use them with --features=file:{order.store.folder}"
        )
    return 0


def _alone(order: Order, progress: Progress) -> None:
    """Signals end it at once: what is done is on disk, and its shard is free for others."""
    leave_on_signals()
    worker = order.worker()
    for _ in progress(worker.run(), worker.store.manifest.images, "embeddings"):
        pass


def _several(order: Order, workers: int, progress: Progress) -> int:
    StopSignals().install()
    try:
        return run_workers(order, workers, progress)
    except StopRequested as stop:
        print(f"stopped by {stop}: give the same command again to go on", file=sys.stderr, flush=True)
        return stop.exit_code


def _silent(counts: Iterable[int], total: int, description: str) -> Iterable[int]:
    return counts
