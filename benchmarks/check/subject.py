"""One network on the CPU and the same on the device: what the checks compare."""

import copy
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from al.fast.convolutions import for_training
from al.learning.networks import build_model
from al.learning.scorer import Predictions, Scorer, to_input
from al.learning.trainer import Trainer
from al.runtime import Runtime, resolve_runtime
from benchmarks import synthetic
from benchmarks.trained import trained
from benchmarks.training_step import STUDY

MODEL, TRAINED, SCORED_IMAGES = "efficientnet_b0", 256, 2000


class Subject:
    """The network with the statistics of a trained one, made-up images, and what the CPU makes of them (`exact`)."""

    def __init__(self, device: str, model: str = MODEL):
        self.cpu, self.there = resolve_runtime("cpu"), resolve_runtime(device, "float32")
        self.images, self.labels = synthetic.images(SCORED_IMAGES)
        self.model = trained(new_network(model))
        self.exact = self.scored(self.cpu)

    def network(self, runtime: Runtime) -> nn.Module:
        return on_device(copy.deepcopy(self.model), runtime)

    def scored(self, runtime: Runtime, network: nn.Module | None = None) -> Predictions:
        scorer = Scorer(network or self.network(runtime), runtime, synthetic.SIDE)
        return scorer.predict(runtime.place(self.images), features=True)

    def trainer(self, runtime: Runtime, *, recorded: bool = True) -> Trainer:
        trainer = trainer_of(self.network(runtime), runtime)
        if not recorded:
            trainer.step.recorder = None
        return trainer

    def after_an_epoch(self, runtime: Runtime, *, recorded: bool = True) -> Trainer:
        trainer = self.trainer(runtime, recorded=recorded)
        trainer.epoch(runtime.place(self.images), self.labels, np.arange(TRAINED), 1)
        return trainer

    def gradient(self, runtime: Runtime) -> torch.Tensor:
        """[P] of the mean loss of a batch, in evaluation mode: dropout draws other numbers on each device."""
        network = self.network(runtime).eval()
        batch, targets = runtime.place(self.images[:32]), runtime.place(self.labels[:32])
        F.cross_entropy(network(to_input(batch, synthetic.SIDE))[0], targets).backward()
        return torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None])


def new_network(model: str) -> nn.Module:
    return build_model(model, synthetic.CLASSES, weights="none", dropout=0.2, image_size=synthetic.SIDE, seed=0)


def on_device(network: nn.Module, runtime: Runtime) -> nn.Module:
    return for_training(network.to(runtime.device), on_cpu=runtime.on_cpu)


def trainer_of(network: nn.Module, runtime: Runtime) -> Trainer:
    config = SimpleNamespace(**STUDY, seed=0)
    return Trainer(network, runtime, image_size=synthetic.SIDE, settings=config, classes=synthetic.CLASSES)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in trainer.model.parameters()])


def few_steps(trainer: Trainer) -> Callable[[], int]:
    """An epoch of a few steps; returns how many."""
    images, labels = synthetic.images(TRAINED)
    placed, rows = trainer.runtime.place(images), np.arange(TRAINED)

    def train() -> int:
        trainer.epoch(placed, labels, rows, 1)
        return TRAINED // trainer.settings.batch_size

    return train
