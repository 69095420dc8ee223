"""What `python -m data_prep embed` was asked for, as one value that can be sent to other processes."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from al.identity import FILE, hub_revision
from al.storage.locks import check_locks
from data_prep.array_cache import model_identity
from data_prep.checksums import no_room
from data_prep.sharded.records import Recipe
from data_prep.sharded.sources import source_of
from data_prep.sharded.store import REMEDY, WHAT, Store
from data_prep.sharded.worker import Worker

MODELS = ".models"
"""In the output folder: digests of models' folders, which take a while."""
GREY = 64


@dataclass(frozen=True)
class Order:
    """The same for all processes, but for `device` and `number`."""

    data: str
    out: str
    features: str
    features_size: int | None = None
    image_size: int | None = None
    dtype: str = "float16"
    shard_size: int = 65_536
    device: str = "auto"
    skip_broken: bool = False
    number: int | None = None
    """Of this process among several on its machine; None where it is alone."""

    def arguments(self) -> list[str]:
        """As options of the command."""
        given = asdict(self)
        switch = ["--skip-broken"] * given.pop("skip_broken")
        return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None] + switch

    @property
    def store(self) -> Store:
        return Store(Path(self.out).expanduser())

    def check(self) -> None:
        """See that names name something, and that the folder can be written and locked, before torch is loaded.

        Raises:
            UserError: something does not.
        """
        folder, source = self.store.folder, source_of(self.data)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_locks(folder, "--out")
        except OSError as error:
            raise no_room(folder, WHAT, error, None, REMEDY) from None
        recipe = self.recipe()
        if self.store.begun:
            self.store.check(recipe, source)

    def recipe(self) -> Recipe:
        """What the vectors depend on.

        Raises:
            UserError: `features` names no model.
        """
        if self.features.startswith(FILE):
            raise UserError(f"--features={self.features}: names embeddings; name the model that is to make some")
        return Recipe(
            model=model_identity("features", self.features, self.store.folder / MODELS),
            revision=hub_revision(self.features),
            features_size=self.features_size,
            image_size=self.image_size,
            dtype=self.dtype,
            shard_size=self.shard_size,
        )

    def worker(self) -> Worker:
        """Load the model, begin the folder unless that is done, and be ready for the first shard.

        Raises:
            UserError: as `load_vision`, `source_of` and `Store.begin`.
        """
        from al.runtime import own_card, resolve_runtime
        from data_prep.image_encoder import load_vision

        source, store = source_of(self.data), self.store
        device = self.device if self.number is None else own_card(self.device, self.number)
        encoder = load_vision(self.features, resolve_runtime(device), self.features_size)

        def encode(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.concatenate(list(encoder.images(images)))

        grey = np.full((1, GREY, GREY, 3), 128, np.uint8)
        store.begin(self.recipe(), encode(grey).shape[1], source)  # after loading, which may have fetched the model
        return Worker(store, source, encode, self.skip_broken)
