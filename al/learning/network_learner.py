"""A network that learns from images: the learner of the study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from al import seeds
from al.data import DataSet, Embeddings
from al.fast.convolutions import for_training
from al.labels import LabelledSet
from al.learning.batches import placed
from al.learning.learner import NetworkSettings, Settings, StateDict
from al.learning.metrics import Evaluation, confusion_matrix
from al.learning.networks import build_model
from al.learning.scorer import NOT_FINITE, Predictions, Scorer
from al.learning.trainer import Peers, Trainer
from al.runtime import Runtime
from al.storage.blocks import RowsOf, gather
from al.storage.disk_array import BOUND_BYTES
from al.storage.files import write_atomically

DROP_VOTES_RATE = 0.75
"""Dropout of features in DropQuery (Gupte et al. 2024)."""


class Fitter(Protocol):
    """What takes a model through an epoch: `Trainer`, or the solver of a linear probe."""

    def set_lr(self, lr: float) -> None: ...

    def epoch(
        self, images: torch.Tensor, labels: NDArray[np.int64], rows: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.int64], float]:
        """Fit to `rows` of the training set; their confusion i64[C, C] and mean loss on the way."""

    def state_dict(self) -> StateDict: ...

    def load_state_dict(self, state: StateDict) -> None: ...


class TorchLearner:
    """What networks and linear probes share: evaluation, outputs on a pool, best weights, state.

    A subclass sets `model`, `trainer` and `scorer`, and says how a fit begins.

    Args:
        embeddings: what strategies cluster in, in place of the model's activations.
        output_options: parameters of the outputs that take several passes, by name.
        scratch: folder for outputs that are too large for memory.
        images_on: where the images lie; see `RunConfig`.
    """

    model: torch.nn.Module
    scorer: Scorer
    trainer: Fitter
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        data: DataSet,
        *,
        embeddings: Embeddings | None,
        output_options: Mapping[str, float],
        scratch: Path,
        images_on: str = "auto",
    ):
        self.settings, self.runtime, self.scratch = settings, runtime, scratch
        self.name, self.images_on = data.name, images_on
        self.classes, self.options = len(data.train.classes), output_options
        self.embeddings = None if embeddings is None else embeddings.train
        self.test_labels = data.test.labels
        self.best_weights: dict[str, torch.Tensor] | None = None

    def show(self, train: NDArray, test: NDArray) -> None:
        """Place the training and test inputs [N, ...], [M, ...] where they fit."""
        arrays = train, test
        found = placed(arrays, self.runtime, self.images_on, self.name)
        self.images, self.test_images = found
        self.scorer.mapped = [array for array, there in zip(arrays, found) if isinstance(there, torch.Tensor)]

    def fit_epoch(self, labelled: LabelledSet, number: int, lr: float) -> Evaluation:
        self.trainer.set_lr(lr)
        confusion, loss = self.trainer.epoch(self.images, labelled.assigned_labels, labelled.train, number)
        self.scorer.refresh()
        return Evaluation(confusion, loss)

    def evaluate_val(self, labelled: LabelledSet) -> Evaluation:
        labels = labelled.assigned_labels[labelled.val]
        return self._evaluation(self.scorer.predict(self.images, labelled.val, labels), labels)

    def evaluate_test(self) -> Evaluation:
        return self._evaluation(self.scorer.predict(self.test_images, labels=self.test_labels), self.test_labels)

    def _evaluation(self, predictions: Predictions, labels: NDArray[np.int64]) -> Evaluation:
        confusion = confusion_matrix(labels, predictions.probs.argmax(1), self.classes)
        return Evaluation(confusion, predictions.losses.mean(dtype=np.float64), predictions.probs, labels)

    def score(self, rows: NDArray[np.int64], needs: tuple[str, ...], number: int) -> dict[str, NDArray]:
        """The arrays of a `Pool` over `rows` that a strategy needs; no pass over the images where none needs one.

        `number`, of the round, addresses the randomness of dropout where that is asked for.
        """
        known = {}
        if "features" in needs and self.embeddings is not None:
            known["features"] = self._embeddings_of(rows)
        asked = [name for name in needs if name not in known]
        if not asked:
            return known
        predictions = self.scorer.predict(self.images, rows, features=asked != ["probs"])
        activations = predictions.features
        if not np.isfinite(predictions.probs).all():
            raise FloatingPointError(NOT_FINITE)
        seed = seeds.integer(self.settings.seed, number, f"dropout passes/{self.settings.split_seed}")
        make = {
            "probs": lambda: predictions.probs,
            "features": lambda: activations,
            "activations": lambda: activations,
            "head": lambda: self.model.head.weight.detach().cpu().numpy(),
            "mc_probs": lambda: self.scorer.dropout_probs(
                activations, self.options["mc_passes"], self.options["dropout"], seed
            ),
            "drop_votes": lambda: self.scorer.dropout_votes(
                activations, self.options["drop_passes"], DROP_VOTES_RATE, seed
            ),
        }
        return known | {name: make[name]() for name in dict.fromkeys(("probs", *asked))}

    def _embeddings_of(self, rows: NDArray[np.int64]) -> NDArray | RowsOf:
        """Embeddings of the ascending `rows`: a copy where it is small; otherwise they are read from where they lie."""
        if len(rows) == len(self.embeddings):
            return self.embeddings
        small = 4 * len(rows) * self.embeddings.shape[1] <= BOUND_BYTES
        return gather(self.embeddings, rows) if small else RowsOf(self.embeddings, rows)

    def remember_best(self) -> None:
        self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def recall_best(self) -> None:
        self.model.load_state_dict(self.best_weights)
        self.scorer.refresh()

    def save_best(self, path: Path) -> None:
        from safetensors.torch import save

        weights = {name: tensor.cpu().contiguous() for name, tensor in self.best_weights.items()}
        write_atomically(path, save(weights))

    def state_dict(self) -> StateDict:
        return {"trainer": self.trainer.state_dict(), "best_weights": self.best_weights}

    def load_state_dict(self, state: StateDict) -> None:
        self.trainer.load_state_dict(state["trainer"])
        best = state["best_weights"]
        self.best_weights = best and {name: tensor.to(self.runtime.device, copy=True) for name, tensor in best.items()}
        self.scorer.refresh()


class NetworkLearner(TorchLearner):
    """Any torchvision or Hugging Face classifier, trained by Adam on augmented images."""

    settings: NetworkSettings

    def __init__(self, settings: NetworkSettings, runtime: Runtime, data: DataSet, **others: Any):
        super().__init__(settings, runtime, data, **others)
        self.size = settings.image_size or data.train.images.shape[1]
        self.model = self._build()
        self.scorer = Scorer(self.model, runtime, self.size, self.scratch)
        self.show(data.train.images, data.test.images)
        self.trainer = Trainer(self.model, runtime, image_size=self.size, settings=settings, classes=self.classes)

    def _build(self) -> torch.nn.Module:
        settings = self.settings
        model = build_model(
            settings.model,
            self.classes,
            weights=settings.weights,
            dropout=settings.dropout,
            image_size=self.size,
            seed=seeds.integer(settings.seed, 0, "weights"),
        )
        return for_training(model.to(self.runtime.device), on_cpu=self.runtime.on_cpu)

    def share_training(self, peers: Peers) -> None:
        """Every fit, from now on, is one of several processes."""
        self.trainer.peers = peers

    def restart(self, *, warm: bool) -> None:
        if not warm:
            self.model.load_state_dict(self._build().state_dict())
        self.trainer.restart()
        self.scorer.refresh()
