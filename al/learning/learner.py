"""What the loop asks of a model, and the learners there are. Importing this loads no torch.

A learner is trained on the labelled images, evaluated, and asked for its outputs on a pool. Whether it needs
validation images, or is fitted in one go, is asked of its `LearnerKind`; the loop has no branch for any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from al.labels import LabelledSet
from al.learning.metrics import Evaluation

if TYPE_CHECKING:
    from al.config import RunConfig
    from al.data import DataSet, Embeddings
    from al.runtime import Runtime


StateDict = dict
"""Tensors and plain values by name, as torch saves them."""


class Learner(Protocol):
    """A model on a device, with the training and test images beside it."""

    runtime: "Runtime"
    notes: Sequence[str]
    """What a user should know of a fit with these settings, a line each."""

    def fit_epoch(self, labelled: LabelledSet, number: int, lr: float) -> Evaluation:
        """One epoch over the labelled training rows; `number` addresses its randomness."""

    def evaluate_val(self, labelled: LabelledSet) -> Evaluation: ...

    def evaluate_test(self) -> Evaluation: ...

    def score(self, rows: NDArray[np.int64], needs: tuple[str, ...], number: int) -> dict[str, NDArray]:
        """The arrays of a `Pool` over `rows` of the training set; no pass over the images where none needs one."""

    def restart(self, *, warm: bool) -> None:
        """Begin a fit with a fresh optimiser, on the present weights or on those that the run began with."""

    def remember_best(self) -> None:
        """Keep the present weights as those of the best epoch."""

    def recall_best(self) -> None:
        """Put the weights of the best epoch back into the model."""

    def save_best(self, path: Path) -> None: ...

    def state_dict(self) -> StateDict: ...

    def load_state_dict(self, state: StateDict) -> None: ...


class Settings:
    """The fields of a configuration that a learner reads. One that is not declared here is not there to be read."""

    @classmethod
    def of(cls, config: "RunConfig") -> Self:
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @classmethod
    def names(cls) -> frozenset[str]:
        return frozenset(field.name for field in fields(cls))


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """What a network is built and trained with; see `RunConfig` for each."""

    model: str
    weights: str
    image_size: int | None
    dropout: float
    lr: float
    weight_decay: float
    batch_size: int
    class_weights: bool
    augment: bool
    seed: int
    split_seed: int


@dataclass(frozen=True)
class ProbeSettings(Settings):
    """What a linear probe is fitted with; see `RunConfig` for each."""

    model: str
    weight_decay: float
    class_weights: bool
    seed: int
    split_seed: int


FITTING = frozenset(
    {"val_fraction", "max_epochs", "patience", "min_delta", "lr_factor", "lr_patience", "schedule"},
)
"""Fields by which the loop takes a network through several epochs."""


@dataclass(frozen=True)
class Output:
    """An array that strategies ask of a model on the pool, and the parameters that say how it is computed."""

    options: tuple[str, ...] = ()


OUTPUTS = {
    "probs": Output(),
    "features": Output(),
    "activations": Output(),
    "head": Output(),
    "mc_probs": Output(("mc_passes", "dropout")),
    "drop_votes": Output(("drop_passes",)),
}
"""Arrays of `Pool` that a learner computes, each by the method of `Scorer` of that name."""


@dataclass(frozen=True)
class LearnerKind:
    """What the loop and the configuration know of a learner before it is made."""

    where: str
    """`module:Class`, imported when the learner is made."""
    settings: type[Settings]
    fitting: frozenset[str] = frozenset()
    """Fields that the loop reads to fit it."""
    converges_at_once: bool = False
    """Whether one epoch is a whole fit."""
    holds_out: bool = True
    """Whether it needs validation images, by which early stopping decides."""
    version: int = 1
    """To be raised when the same settings give other results: part of the digest of the runs it concerns."""
    reads_embeddings: bool = False
    """Whether it learns from the frozen embeddings that `features` names, in place of images."""

    @property
    def reads(self) -> frozenset[str]:
        """Fields of a configuration that can change what it does."""
        return self.settings.names() | self.fitting


LEARNERS = {
    "frozen": LearnerKind(
        "al.learning.linear_probe:LinearProbe",
        ProbeSettings,
        converges_at_once=True,
        holds_out=False,
        reads_embeddings=True,
        version=2,
    ),
}
"""Values of `model` that are learners of their own; every other one names a network."""
NETWORK = LearnerKind("al.learning.network_learner:NetworkLearner", NetworkSettings, FITTING)


def learner_kind(model: str) -> LearnerKind:
    return LEARNERS.get(model, NETWORK)


def new_learner(config: "RunConfig", data: "DataSet", embeddings: "Embeddings | None", scratch: Path) -> Learner:
    """The learner that `model` names, on the device of the configuration.

    Args:
        embeddings: what strategies cluster in, and a linear probe learns from; None: the model's own activations.
        scratch: folder for outputs that are too large for memory.

    Raises:
        UserError: a model or weights that cannot be loaded, or a device that is not there.
    """
    from al.runtime import resolve_runtime

    kind = config.learner
    module, _, name = kind.where.partition(":")
    options: Mapping[str, float] = {name: getattr(config, name) for kind in OUTPUTS.values() for name in kind.options}
    return getattr(import_module(module), name)(
        kind.settings.of(config),
        resolve_runtime(config.device, config.precision),
        data,
        embeddings=embeddings,
        output_options=options,
        scratch=scratch,
        images_on=config.images_on,
    )
