"""Fitting: epochs of Adam on augmented images, a plateau scheduler, early stopping, best weights."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from al import seeds
from al.fast.adam import Adam, new_adam
from al.fast.graphs import RecordedStep
from al.fast.launches import counted_at_once, without_copies
from al.fast.switch import has
from al.learning.augmentation import augmentation, warp
from al.learning.batches import Images, batches
from al.learning.learner import NetworkSettings, StateDict
from al.learning.networks import Classifier
from al.learning.scorer import to_input
from al.learning.sharing import Parts, Processes
from al.runtime import Runtime


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """[C] inverse class frequencies n / (classes present x n_c), mean 1 over the images; 0 for absent classes."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


class Peers(Protocol):
    """Other processes that take part of every training batch."""

    def begin_epoch(
        self, labels: NDArray[np.int64], rows: NDArray[np.int64], number: int, lr: float, optimiser: StateDict | None
    ) -> Processes:
        """Has them begin the epoch too, on the same weights.

        Args:
            labels: i64[n] those of `rows` i64[n].
            optimiser: its state, where it is not what the last epoch has left.
        """


class Trainer:
    """One model, its optimiser and the epochs it is trained for."""

    peers: Peers | None = None
    """Set where several processes fit together."""
    _told = False
    """Whether they have the optimiser's state."""

    def __init__(
        self, model: Classifier, runtime: Runtime, *, image_size: int, settings: NetworkSettings, classes: int
    ):
        self.model, self.runtime, self.size = without_copies(model), runtime, image_size
        self.settings, self.classes = settings, classes
        self.optimiser = new_adam(
            model.parameters(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=runtime.fused_optimiser,
            lr_on=runtime.device if runtime.recorder else None,
        )
        recorder = runtime.recorder if has("graphs") and isinstance(self.optimiser, Adam) else None
        self.step = RecordedStep(self._step, settings.batch_size, recorder)
        self._loss_sum = torch.zeros((), device=runtime.device)
        self._class_weights = torch.ones(classes, device=runtime.device) if settings.class_weights else None

    def restart(self) -> None:
        """Begin again with a fresh optimiser, on the present weights."""
        self.optimiser.reset()
        self._told = False

    def set_lr(self, lr: float) -> None:
        self.optimiser.lr = lr

    def epoch(
        self, images: Images, labels: NDArray[np.int64], rows: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.int64], float]:
        """One pass over `rows` in random order; `number` addresses its randomness.

        Args:
            images: u8[N, H, W, 3].
            labels: i64[N] the labels that training believes, aligned with `images`.

        Returns:
            i64[C, C] confusion and mean loss of the epoch's own training batches; the loss is that which is minimised,
            so with `class_weights` it is weighted.
        """
        processes = None
        if self.peers is not None:
            state = None if self._told else self.optimiser.state_dict()
            processes = self.peers.begin_epoch(labels[rows], rows, number, self.optimiser.lr, state)
            self._told = True
        return self.share_of_epoch(images, labels, rows, number, processes)

    def share_of_epoch(
        self,
        images: Images,
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        number: int,
        processes: Processes | None,
    ) -> tuple[NDArray[np.int64], float]:
        """This process's share of an `epoch`; all of it if `processes` is None. Returns the same as `epoch`."""
        order = seeds.rng(self.settings.seed, number, "order").permutation(rows)
        if len(order) % self.settings.batch_size == 1:
            order = order[:-1]  # batch normalisation cannot learn from a batch of one
        torch.manual_seed(seeds.integer(self.settings.seed, number, "dropout"))
        self.model.train()
        parts = Parts(len(order), self.settings.batch_size, processes)
        with self.step.stream(), counted_at_once(self.model, len(parts)):
            maps = self._maps(len(order), number)
            targets = torch.from_numpy(labels[order]).to(self.runtime.device)
            shown = batches(images, order[parts.rows], parts.step, self.runtime)
            predicted = torch.zeros_like(targets)
            self._begin(labels[rows])
            for batch, own in parts:  # slices of `order`: all images of a batch, and those of this process
                with self.runtime.room_for("a training step", f"use less than batch_size={self.settings.batch_size}"):
                    taken = next(shown, None), targets[own], None if maps is None else maps[own]
                    if processes is None:
                        predicted[own] = self.step(*taken)
                    else:
                        predicted[own] = self._shared_step(parts, batch, own, targets[batch], *taken)
            parts.add_up(predicted, self._loss_sum)
            confusion = torch.bincount(targets * self.classes + predicted, minlength=self.classes**2)
            return confusion.view(self.classes, self.classes).cpu().numpy(), self._loss_sum.item() / len(order)

    def _step(self, images: torch.Tensor, targets: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
        """One step on u8[b, H, W, 3], i64[b] and [b, 2, 3]; returns i64[b], the class predicted for each.

        All other tensors that it reads or writes keep their addresses, and nothing waits for the device: so the step
        can be recorded.
        """
        logits, _ = self.model(self._inputs(images, maps))
        loss = F.cross_entropy(logits, targets, weight=self._class_weights)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self._loss_sum += loss.detach() * len(logits)
        return logits.detach().argmax(1)

    def _shared_step(
        self,
        parts: Parts,
        batch: slice,
        own: slice,
        targets: torch.Tensor,
        images: torch.Tensor | None,
        own_targets: torch.Tensor,
        maps: torch.Tensor | None,
    ) -> torch.Tensor:
        """As `_step`, of one of several processes: it has the images `own` of a batch with classes `targets`."""
        inputs = self._inputs(images, maps)
        with parts.whole(batch, own):
            logits, _ = self.model(inputs)
            loss = parts.loss(logits, own_targets, targets, self._class_weights)
            self.optimiser.zero_grad()
            loss.backward()
        parts.add_up_gradients(self.model.parameters())
        self.optimiser.step()
        self._loss_sum += loss.detach() * len(targets)
        return logits.detach().argmax(1)

    def _begin(self, labels: NDArray[np.int64]) -> None:
        """Sets what the steps of an epoch over images with these labels read and add to."""
        self._loss_sum.zero_()
        if self._class_weights is not None:
            self._class_weights.copy_(torch.from_numpy(class_weights(labels, self.classes)))

    def _inputs(self, images: torch.Tensor | None, maps: torch.Tensor | None) -> torch.Tensor:
        """What the network sees [b, 3, size, size]; nothing where there are fewer images than processes."""
        if images is None:
            return torch.empty(0, 3, self.size, self.size, device=self.runtime.device)
        inputs = to_input(images, self.size)
        return inputs if maps is None else warp(inputs, maps)

    def _maps(self, count: int, number: int) -> torch.Tensor | None:
        if not self.settings.augment:
            return None
        maps = augmentation(count, seeds.rng(self.settings.seed, number, "augment"))
        return torch.from_numpy(maps).to(self.runtime.device)

    def state_dict(self) -> StateDict:
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._told = False
