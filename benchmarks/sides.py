"""One network on both sides: the usual stack's, a little trained, and ours with the same weights."""

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import EfficientNetForImageClassification

from al.fast.convolutions import for_training
from al.learning.networks import Classifier, build_model
from al.runtime import Runtime, resolve_runtime
from benchmarks import synthetic, usual

WARM_UP_IMAGES = 960


class Sides(NamedTuple):
    """The same weights, on the same device."""

    theirs: EfficientNetForImageClassification
    ours: Classifier
    runtime: Runtime

    @property
    def device(self) -> str:
        return self.runtime.device.type


def both_sides(device: str) -> Sides:
    """EfficientNet-B0 after one epoch, so that batch normalisation and scores look like a trained network's."""
    runtime = resolve_runtime(device)
    theirs = usual.efficientnet_b0(synthetic.CLASSES).to(runtime.device)
    images, labels = synthetic.images(WARM_UP_IMAGES, seed=7)
    batches = usual.loader(usual.Images(images, labels, usual.FOR_SCORING), 0, shuffle=True)
    usual.train_epoch(theirs, usual.new_optimiser(theirs), batches, runtime.device)
    return Sides(theirs, ours_from(theirs, runtime), runtime)


def ours_from(theirs: EfficientNetForImageClassification, runtime: Runtime) -> Classifier:
    """The suite's form of the network, by way of a folder in the format of the Hub."""
    with tempfile.TemporaryDirectory() as folder:
        usual.save(deepcopy(theirs).cpu(), Path(folder))
        classes, dropout = theirs.config.num_labels, theirs.config.dropout_rate
        ours = build_model(folder, classes, weights="imagenet", dropout=dropout, image_size=synthetic.SIDE, seed=0)
    ours.head.load_state_dict(theirs.classifier.state_dict())
    return for_training(ours.to(runtime.device), on_cpu=runtime.on_cpu)


def largest_difference(ours: NDArray, theirs: NDArray) -> float:
    """Relative to the largest value, so that it says the same of probabilities and of features."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def without_dropout(network: torch.nn.Module) -> torch.nn.Module:
    """A copy in which dropout and stochastic depth do nothing, for one loss on both sides."""
    network = deepcopy(network)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network
