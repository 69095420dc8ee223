"""The yardstick: active learning on the usual stack, written plainly and with the ordinary care.

Hugging Face EfficientNet-B0 in float32 NCHW, PIL transforms in a DataLoader, batches of 32, one pass for
probabilities and a second for features, scikit-learn's MiniBatchKMeans.
"""

from collections.abc import Callable
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers import EfficientNetConfig, EfficientNetForImageClassification
from transformers.utils import logging

from benchmarks.measuring import cpus, in_turn

BATCH = 32
TRIALS = 3
"""Times that each number of workers is tried."""
NORMALISED = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
FOR_SCORING = transforms.Compose(NORMALISED)
FOR_TRAINING = transforms.Compose(
    [
        transforms.RandomHorizontalFlip(),
        transforms.RandomCrop(32, padding=4),
        transforms.RandomRotation(15),
        *NORMALISED,
    ]
)


class Images(Dataset):
    """Images u8[N, H, W, 3] with labels i64[N], through PIL and a transform."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Any):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), int(self.labels[row])


def efficientnet_b0(classes: int, seed: int = 0) -> EfficientNetForImageClassification:
    """EfficientNet-B0 with random weights, drawn as torchvision draws them.

    Those that transformers draws scale batch normalisation by about 0.02: activations vanish layer by layer into
    denormal numbers, on which a CPU is several times as slow.
    """
    torch.manual_seed(seed)
    network = EfficientNetForImageClassification(
        EfficientNetConfig(
            width_coefficient=1.0,
            depth_coefficient=1.0,
            hidden_dim=1280,
            dropout_rate=0.2,
            image_size=32,
            num_labels=classes,
        )
    )
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
    return network


def save(network: EfficientNetForImageClassification, folder: Path) -> None:
    """In the format of the Hub, for `model=FOLDER`."""
    logging.disable_progress_bar()
    network.save_pretrained(folder)


def loader(dataset: Images, workers: int, *, shuffle: bool = False) -> DataLoader:
    """Batches of 32, decoded by worker processes that stay for the next epoch."""
    return DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def probabilities(network: EfficientNetForImageClassification, batches: DataLoader, device: str = "cpu") -> NDArray:
    """[N, C]"""
    network.eval()
    probs = []
    with torch.inference_mode():
        for images, _ in batches:
            probs.append(network(pixel_values=images.to(device)).logits.softmax(1).cpu())
    return torch.cat(probs).numpy()


def features(network: EfficientNetForImageClassification, batches: DataLoader, device: str = "cpu") -> NDArray:
    """[N, 1280], in a pass of their own."""
    network.eval()
    pooled = []
    with torch.inference_mode():
        for images, _ in batches:
            pooled.append(network.efficientnet(pixel_values=images.to(device)).pooler_output.flatten(1).cpu())
    return torch.cat(pooled).numpy()


def evaluate(
    network: EfficientNetForImageClassification, batches: DataLoader, device: str = "cpu"
) -> tuple[float, float]:
    """Mean loss and accuracy."""
    network.eval()
    loss = right = count = 0
    with torch.inference_mode():
        for images, labels in batches:
            logits, labels = network(pixel_values=images.to(device)).logits, labels.to(device)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += (logits.argmax(1) == labels).sum().item()
            count += len(labels)
    return loss / count, right / count


def train_epoch(
    network: EfficientNetForImageClassification,
    optimiser: torch.optim.Optimizer,
    batches: DataLoader,
    device: str = "cpu",
) -> float:
    """Mean loss of one epoch."""
    network.train()
    loss_sum = count = 0
    for images, labels in batches:
        labels = labels.to(device)
        loss = F.cross_entropy(network(pixel_values=images.to(device)).logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss_sum += loss.item() * len(labels)
        count += len(labels)
    return loss_sum / count


def new_optimiser(network: EfficientNetForImageClassification) -> torch.optim.Optimizer:
    """The study's."""
    return torch.optim.Adam(network.parameters(), lr=0.001, weight_decay=0.001)


def select_uncertain(probs: NDArray, count: int) -> NDArray[np.int64]:
    """Rows of lowest highest probability."""
    return np.argsort(probs.max(axis=1))[:count]


def select_typiclust(probs: NDArray, pooled: NDArray, count: int) -> NDArray[np.int64]:
    """The study's hybrid: entropy and distance to the nearest centre, both scaled to [0, 1], averaged."""
    from sklearn.cluster import MiniBatchKMeans

    clusters = MiniBatchKMeans(min(100, isqrt(len(pooled))), n_init="auto", random_state=0).fit(pooled)
    distance = np.linalg.norm(pooled - clusters.cluster_centers_[clusters.labels_], axis=1)
    entropy = -(probs * np.log(np.clip(probs, 1e-12, None))).sum(axis=1)
    scaled = [(score - score.min()) / (score.max() - score.min()) for score in (entropy, distance)]
    return np.argsort(-(scaled[0] + scaled[1]) / 2)[:count]


def best_workers(dataset: Images, work: Callable[[DataLoader], Any], *, shuffle: bool = False) -> int:
    """The number of DataLoader workers, none up to one a core, that `work` is fastest with.

    As in what is timed afterwards, a loader's workers are there already: their start, which a short trial would feel
    and a long run would not, is in the warm-up.
    """
    loaders = {workers: loader(dataset, workers, shuffle=shuffle) for workers in range(min(cpus(), 8) + 1)}
    seconds = in_turn({str(workers): partial(work, batches) for workers, batches in loaders.items()}, TRIALS)
    return min(loaders, key=lambda workers: seconds[str(workers)].median)
