"""Workers that Ray Data starts, here or on a cluster. They claim shards as all others do, and may work beside these."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np

from al.errors import UserError
from data_prep.progress import Progress
from data_prep.sharded.order import Order

EXTRA = "pip install 'active-learning-swept[ray]'"
Batch = dict[str, np.ndarray]
"""What Ray Data hands over: a column by name."""


class ShardMaker:
    """An actor of Ray's: loads the model once, then makes the shards whose numbers it is given."""

    def __init__(self, order: Order):
        self.worker = order.worker()

    def __call__(self, batch: Batch) -> Batch:
        """Rows that the shard has made, none where somebody else has it; an error in words, as Ray would wrap it."""
        (number,) = batch["shard"]
        rows, error = 0, ""
        try:
            rows = sum(self.worker.make_if_free(int(number)))
        except UserError as found:
            error = str(found)
        return {"rows": np.array([rows]), "error": np.array([error])}


def run_with_ray(order: Order, workers: int, address: str, progress: Progress) -> None:
    """Make all shards that nobody has, by so many actors; one that dies is started again by Ray.

    Args:
        address: of the cluster; `local` starts one on this machine.

    Raises:
        UserError: Ray is not here or not at that address, or what `Worker.run` raises.
    """
    try:
        import ray.data
    except ImportError:
        raise UserError(f"--ray: needs Ray Data, which is not here; {EXTRA}") from None
    worker = replace(order, device="cpu").worker()  # lists the images; the actors want the cards
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"--ray={address}: no cluster answers there ({error}); leave the address out for one here"
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        for _ in progress(_rows(ray, order, workers), worker.store.manifest.images, "embeddings"):
            pass
    finally:
        ray.shutdown()
    for _ in worker.run():  # what is left: shards that others have, or that hold broken images
        pass


def _rows(ray: ModuleType, order: Order, workers: int) -> Iterator[int]:
    """Rows done since the last time."""
    store = order.store
    pending = store.pending()
    yield store.rows_done()
    if not pending:
        return
    on_card = order.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    made = ray.data.from_items([{"shard": number} for number in pending], override_num_blocks=len(pending)).map_batches(
        ShardMaker,
        fn_constructor_args=(order,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=int(on_card),
    )
    for found in made.iter_rows():
        if found["error"]:
            raise UserError(found["error"])
        yield int(found["rows"])
