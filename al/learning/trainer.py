"""Fitting: epochs of Adam on augmented images, a plateau scheduler, early stopping, best weights."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from al import seeds
from al.fast.adam import new_adam
from al.learning.networks import Classifier
from al.learning.scorer import to_input
from al.runtime import Runtime

SHIFT = 4  # pixels of a 32-pixel image; scaled with the image
ROTATION = 15.0  # degrees to either side


def augmentation(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """[N, 2, 3] affine maps of output to input coordinates in [-1, 1]: flip, shift up to 4 of 32 pixels, rotation.

    The study's random horizontal flip, 4-pixel padded crop and rotation by up to 15 degrees as one warp.
    """
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, count))
    flip = rng.choice([-1.0, 1.0], count)
    shift = rng.integers(-SHIFT, SHIFT + 1, (2, count)) * (2 / 32)
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.empty((count, 2, 3), np.float32)
    maps[:, 0] = np.stack([flip * cos, -flip * sin, flip * shift[0]], axis=1)
    maps[:, 1] = np.stack([sin, cos, shift[1]], axis=1)
    return maps


def warp(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images [N, 3, H, W] in [-1, 1] under `augmentation` maps [N, 2, 3], bilinear, black outside."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    # grid_sample fills with 0, which is grey here: shift so that 0 is black
    return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False).sub_(1)


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """[C] inverse class frequencies n / (classes present x n_c), mean 1 over the images; 0 for absent classes."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


class Trainer:
    """One model, its optimiser and the epochs it is trained for."""

    def __init__(self, model: Classifier, runtime: Runtime, *, image_size: int, config: Any, classes: int):
        self.model, self.runtime, self.size = model, runtime, image_size
        self.config, self.classes = config, classes
        self.optimiser = new_adam(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=runtime.fused_optimiser
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
        order = seeds.rng(self.config.seed, number, "order").permutation(rows)
        if len(order) % self.config.batch_size == 1:
            order = order[:-1]  # batch normalisation cannot learn from a batch of one
        torch.manual_seed(seeds.integer(self.config.seed, number, "dropout"))
        maps = self._maps(len(order), number)
        targets = torch.from_numpy(labels[order]).to(self.runtime.device)
        index = self.runtime.indices(order)
        weight = self._loss_weight(labels[rows])
        predicted = torch.empty_like(targets)
        total = torch.zeros((), device=self.runtime.device)
        self.model.train()
        for start in range(0, len(order), self.config.batch_size):
            batch = slice(start, start + self.config.batch_size)
            with self.runtime.room_for("a training step", f"use less than batch_size={self.config.batch_size}"):
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
        if not self.config.augment:
            return None
        maps = augmentation(count, seeds.rng(self.config.seed, number, "augment"))
        return torch.from_numpy(maps).to(self.runtime.device)

    def _loss_weight(self, labels: NDArray[np.int64]) -> torch.Tensor | None:
        if not self.config.class_weights:
            return None
        return torch.from_numpy(class_weights(labels, self.classes)).to(self.runtime.device)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
