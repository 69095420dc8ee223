"""The model as the loop sees it: train an epoch, evaluate, score, start again."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from al import seeds
from al.fast.convolutions import for_training
from al.labels import Labelled
from al.learning.metrics import Evaluation, confusion_matrix, expected_calibration_error, summarise
from al.learning.networks import build_model
from al.learning.scorer import NOT_FINITE, Predictions, Scorer
from al.learning.trainer import Trainer
from al.runtime import Runtime
from al.stopwatch import phase
from al.storage.blocks import blocks
from al.storage.disk_array import Spill
from al.storage.files import write_atomically
from al.storage.run_folder import RunFolder

DROP_VOTES_RATE = 0.75
"""Dropout of features in DropQuery (Gupte et al. 2024)."""


class Learner:
    """A network on a device, with the training and test images beside it.

    Args:
        config: a `RunConfig`.
        train_images, test_images: u8[N, H, W, 3].
        test_labels: i64[M].
        classes: number of classes.
        embeddings: [N, D] what strategies cluster in, in place of the model's activations.
    """

    converges_at_once = False
    """Whether one epoch is a whole fit."""

    def __init__(
        self,
        config: Any,
        runtime: Runtime,
        train_images: NDArray[np.uint8],
        test_images: NDArray[np.uint8],
        test_labels: NDArray[np.int64],
        classes: int,
        embeddings: NDArray | None = None,
    ):
        self.config, self.runtime, self.classes, self.embeddings = config, runtime, classes, embeddings
        self.size = config.image_size or train_images.shape[1]
        self.model = self._build()
        self.scorer = self._new_scorer()
        self.images = runtime.place(train_images)
        self.test_images, self.test_labels = runtime.place(test_images), test_labels
        self.scorer.mapped = (train_images, test_images)
        self.best_weights: dict[str, torch.Tensor] | None = None
        self.trainer = self._new_trainer()

    def _build(self) -> torch.nn.Module:
        config = self.config
        model = build_model(
            config.model,
            self.classes,
            weights=config.weights,
            dropout=config.dropout,
            image_size=self.size,
            seed=seeds.integer(config.seed, 0, "weights"),
        )
        return for_training(model) if self.runtime.on_cpu else model.to(self.runtime.device)

    def _new_scorer(self) -> Scorer:
        return Scorer(self.model, self.runtime, self.size, self.scratch)

    @property
    def scratch(self) -> Path:
        """Folder for what is too large for memory."""
        return RunFolder.of(self.config).path

    def _new_trainer(self) -> Trainer:
        return Trainer(self.model, self.runtime, image_size=self.size, config=self.config, classes=self.classes)

    def fit_epoch(self, labelled: Labelled, number: int, lr: float) -> Evaluation:
        """One epoch over the labelled training rows; `number` addresses its randomness."""
        with phase("train"):
            self.trainer.set_lr(lr)
            confusion, loss = self.trainer.epoch(self.images, labelled.given, labelled.train, number)
            self.scorer.refresh()
        return Evaluation(summarise(confusion, loss), confusion)

    def evaluate_val(self, labelled: Labelled) -> Evaluation:
        labels = labelled.given[labelled.val]
        with phase("evaluate"):
            return self._evaluation(self.scorer.predict(self.images, labelled.val, labels), labels)

    def evaluate_test(self) -> Evaluation:
        with phase("evaluate"):
            predictions = self.scorer.predict(self.test_images, labels=self.test_labels)
            return self._evaluation(predictions, self.test_labels)

    def _evaluation(self, predictions: Predictions, labels: NDArray[np.int64]) -> Evaluation:
        confusion = confusion_matrix(labels, predictions.probs.argmax(1), self.classes)
        ece = expected_calibration_error(predictions.probs, labels)
        return Evaluation(summarise(confusion, predictions.losses.mean(dtype=np.float64), ece), confusion)

    def score(self, rows: NDArray[np.int64], needs: tuple[str, ...], number: int) -> dict[str, NDArray]:
        """The arrays of a `Pool` over `rows` that a strategy needs; no pass over the images where none needs one.

        `number`, of the round, addresses the randomness of dropout where that is asked for.
        """
        given = {}
        if "features" in needs and self.embeddings is not None:
            given["features"] = self._embeddings_of(rows)
        asked = [name for name in needs if name not in given]
        if not asked:
            return given
        with phase("score"):
            predictions = self.scorer.predict(self.images, rows, features=asked != ["probs"])
            activations = predictions.features
            if not np.isfinite(predictions.probs).all():
                raise FloatingPointError(NOT_FINITE)
            seed = seeds.integer(self.config.seed, number, f"dropout passes/{self.config.split_seed}")
            make = {
                "probs": lambda: predictions.probs,
                "features": lambda: activations,
                "activations": lambda: activations,
                "head": lambda: self.model.head.weight.detach().cpu().numpy(),
                "mc_probs": lambda: self.scorer.dropout_probs(
                    activations, self.config.mc_passes, self.config.dropout, seed
                ),
                "drop_votes": lambda: self.scorer.dropout_votes(
                    activations, self.config.drop_passes, DROP_VOTES_RATE, seed
                ),
            }
            return given | {name: make[name]() for name in dict.fromkeys(("probs", *asked))}

    def _embeddings_of(self, rows: NDArray[np.int64]) -> NDArray:
        """Embeddings of `rows`, ascending; all of them as they are, so that a memory map stays one."""
        if len(rows) == len(self.embeddings):
            return self.embeddings
        out = Spill((len(rows), self.embeddings.shape[1]), self.scratch)
        for where, block in blocks(self.embeddings, rows):
            out.write(where.start, block)
        return out.read()

    def restart(self, *, warm: bool) -> None:
        """A fresh optimiser for the next fit, on the present weights or on those that the run began with."""
        if not warm:
            self.model.load_state_dict(self._build().state_dict())
        self.trainer = self._new_trainer()
        self.scorer.refresh()

    def remember_best(self) -> None:
        self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def recall_best(self) -> None:
        """Puts the weights of the best epoch back into the model."""
        self.model.load_state_dict(self.best_weights)
        self.scorer.refresh()

    def save_best(self, path: Path) -> None:
        from safetensors.torch import save

        weights = {name: tensor.cpu().contiguous() for name, tensor in self.best_weights.items()}
        write_atomically(path, save(weights))

    def state_dict(self) -> dict[str, Any]:
        return {"trainer": self.trainer.state_dict(), "best_weights": self.best_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        best = state["best_weights"]
        self.best_weights = best and {name: tensor.to(self.runtime.device) for name, tensor in best.items()}
        self.scorer.refresh()
