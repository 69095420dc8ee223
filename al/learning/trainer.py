"""Fitting: epochs of Adam on augmented images, a plateau scheduler, early stopping, best weights."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from al import seeds
from al.fast.adam import new_adam
from al.learning.augmentation import augmentation, warp
from al.learning.learner import NetworkSettings, StateDict
from al.learning.networks import Classifier
from al.learning.scorer import to_input
from al.runtime import Runtime


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """[C] inverse class frequencies n / (classes present x n_c), mean 1 over the images; 0 for absent classes."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


class Trainer:
    """One model, its optimiser and the epochs it is trained for."""

    def __init__(
        self, model: Classifier, runtime: Runtime, *, image_size: int, settings: NetworkSettings, classes: int
    ):
        self.model, self.runtime, self.size = model, runtime, image_size
        self.settings, self.classes = settings, classes
        self.optimiser = new_adam(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=runtime.fused_optimiser
        )

    def set_lr(self, lr: float) -> None:
        self.optimiser.lr = lr

    def epoch(
        self, images: torch.Tensor, labels: NDArray[np.int64], rows: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.int64], float]:
        """One pass over `rows` in random order; `number` addresses its randomness.

        Args:
            images: u8[N, H, W, 3] on the device.
            labels: i64[N] the labels that training believes, aligned with `images`.

        Returns:
            i64[C, C] confusion and mean loss of the epoch's own training batches.
        """
        order = seeds.rng(self.settings.seed, number, "order").permutation(rows)
        if len(order) % self.settings.batch_size == 1:
            order = order[:-1]  # batch normalisation cannot learn from a batch of one
        torch.manual_seed(seeds.integer(self.settings.seed, number, "dropout"))
        maps = self._maps(len(order), number)
        targets = torch.from_numpy(labels[order]).to(self.runtime.device)
        index = self.runtime.indices(order)
        weight = self._loss_weight(labels[rows])
        predicted = torch.empty_like(targets)
        total = torch.zeros((), device=self.runtime.device)
        self.model.train()
        for start in range(0, len(order), self.settings.batch_size):
            batch = slice(start, start + self.settings.batch_size)
            with self.runtime.room_for("a training step", f"use less than batch_size={self.settings.batch_size}"):
                inputs = to_input(images[index[batch]], self.size)
                if maps is not None:
                    inputs = warp(inputs, maps[batch])
                logits, _ = self.model(inputs)
                loss = F.cross_entropy(logits, targets[batch], weight=weight)
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
            predicted[batch] = logits.detach().argmax(1)
            total += loss.detach() * len(logits)
        confusion = torch.bincount(targets * self.classes + predicted, minlength=self.classes**2)
        return confusion.view(self.classes, self.classes).cpu().numpy(), total.item() / len(order)

    def _maps(self, count: int, number: int) -> torch.Tensor | None:
        if not self.settings.augment:
            return None
        maps = augmentation(count, seeds.rng(self.settings.seed, number, "augment"))
        return torch.from_numpy(maps).to(self.runtime.device)

    def _loss_weight(self, labels: NDArray[np.int64]) -> torch.Tensor | None:
        if not self.settings.class_weights:
            return None
        return torch.from_numpy(class_weights(labels, self.classes)).to(self.runtime.device)

    def state_dict(self) -> StateDict:
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
