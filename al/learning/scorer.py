"""Scoring: one pass over unaugmented images gives probabilities and features."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from al.errors import out_of_memory
from al.fast.convolutions import layout
from al.fast.folding import Pairs, conv_bn_pairs, fold, refold
from al.fast.shapes import padded
from al.learning.batches import Images, batches
from al.learning.networks import Classifier
from al.runtime import Runtime
from al.storage.blocks import read, release
from al.storage.disk_array import DiskArray

Outputs = Iterator[tuple[torch.Tensor, torch.Tensor]]
"""Logits [b, C] and features [b, D] of one scoring batch after another."""


class Peers(Protocol):
    """Other processes that score a share of the batches."""

    def outputs(self, images: Images, rows: NDArray[np.int64], *, features: bool) -> Outputs:
        """The outputs of all batches in their order, whoever computed them."""


EVERY = 2**62
HEAD_ROWS = 2500
"""Features that the head sees at once."""
NOT_FINITE = "the model's outputs on the pool are not finite; lower lr"


@dataclass(frozen=True)
class Predictions:
    """What the model says of N images."""

    probs: NDArray[np.float32]
    """[N, C] softmax of the logits."""
    features: NDArray[np.float32]
    """[N, D] penultimate activations, memory-mapped where they are many; [N, 0] where they were not asked for."""
    losses: NDArray[np.float32]
    """[N] -log p of the true class; computed from logits, so finite where p underflows. NaN without labels."""


def to_input(images: torch.Tensor, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """u8[N, H, W, 3] -> [N, 3, size, size] in [-1, 1] (mean and standard deviation 0.5), as convolutions like it."""
    batch = images.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)
    if batch.shape[-1] != size or batch.shape[-2] != size:
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return batch.to(dtype, memory_format=layout())


class Scorer:
    """Scores images with the current weights of one model: the same function as the model's, up to rounding.

    Args:
        size: side in pixels that the model sees.
        scratch: folder for outputs that are too large for memory.
    """

    peers: Peers | None = None
    """Set where several processes score together."""
    mapped: Sequence[NDArray] = ()
    """Memory maps that images lie in; their pages are given back, or a pass would hold all images in memory."""

    def __init__(self, model: Classifier, runtime: Runtime, size: int, scratch: Path | None = None):
        self.model, self.runtime, self.size = model, runtime, size
        self.scratch = scratch or Path(tempfile.gettempdir())
        self._pairs: Pairs = []
        self._folded: nn.Module | None = None
        self._stale = False
        self._most = EVERY
        """Images that the device has had room for at once."""

    def refresh(self) -> None:
        """Call this when the weights have changed: the next pass scores with the new ones."""
        self._stale = True

    @property
    def step(self) -> int:
        """Images scored at once."""
        return self.runtime.scoring_batch(self.size)

    def predict(
        self,
        images: Images,
        rows: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        *,
        features: bool = False,
    ) -> Predictions:
        """Predictions for `rows` (all without) of `images` u8[M, H, W, 3], in their order.

        Args:
            labels: i64[N] true classes of those rows, for their losses.
            features: also return features; without, they never leave the device.

        Raises:
            FloatingPointError: the features are not finite.
            UserError: no room for them on the disk.
        """
        rows = np.arange(len(images)) if rows is None else rows
        logits_out = torch.empty(len(rows), self.model.head.out_features, device=self.runtime.device)
        features_out = DiskArray((len(rows), self.model.head.in_features if features else 0), self.scratch)

        def kept() -> Iterator[torch.Tensor]:
            """The features of each batch; its logits stay on the device until all are there."""
            start = 0
            for logits, batch in self._outputs(images, rows, features):
                logits_out[start : start + len(logits)] = logits
                start += len(logits)
                yield batch

        start = 0
        with torch.no_grad():
            for batch in self.runtime.fetched(kept()) if features else kept():
                if features:
                    features_out.write(start, _finite(batch))
                start += len(batch)
            log_probs = _log_softmax_in_place(logits_out).cpu().numpy()
        losses = np.full(len(rows), np.nan, np.float32)
        if labels is not None:
            losses = -log_probs[np.arange(len(rows)), labels]
        return Predictions(np.exp(log_probs, out=log_probs), features_out.read(), losses)

    def _outputs(self, images: Images, rows: NDArray[np.int64], features: bool) -> Outputs:
        if self.peers is not None and len(rows) > self.step:
            yield from self.peers.outputs(images, rows, features=features)
            return
        for batch in batches(images, rows, self.step, self.runtime):
            yield self.outputs_of(batch)

    def outputs_of(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [b, C] and features [b, D] of one batch of images; on the device, without gradients.

        Where the device has no room for all of them they are computed in halves, from then on.

        Raises:
            UserError: there is no room for one image.
        """
        parts, start = [], 0
        with self.runtime.room_for("a network to score with", "use a smaller model"):
            network = self._network()
        with torch.inference_mode():
            while start < len(images):
                part = images[start : start + self._most]
                try:
                    parts.append(self._outputs_of_batch(network, part))
                    start += len(part)
                except RuntimeError as error:
                    computed = len(part) if len(part) > 1 else min(self.step, self._most)  # one may be filled up
                    if not out_of_memory(error) or computed == 1:
                        with self.runtime.room_for("the outputs of one image", "use a smaller image_size or model"):
                            raise
                    self._most = computed // 2
        for array in self.mapped:
            release(array)
        return parts[0] if len(parts) == 1 else tuple(torch.cat(outputs) for outputs in zip(*parts))

    def _outputs_of_batch(self, network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score one batch; on other devices than a CPU it is filled up to one of few sizes, see `padded`."""
        if self.runtime.on_cpu:
            return self._score(network, images)
        logits, features = self._score(network, padded(images, min(self.step, self._most)))
        return logits[: len(images)], features[: len(images)]

    def dropout_probs(self, features: NDArray[np.float32], passes: int, rate: float, seed: int) -> NDArray[np.float32]:
        """[passes, N, C] probabilities of the head on features [N, D] with dropout (Gal et al. 2017).

        Dropout before the classifier is the only one switched on: batch normalisation and stochastic depth stay as
        they are when scoring. Memory-mapped where they are many.
        """
        probs = DiskArray((passes, len(features), self.model.head.out_features), self.scratch)
        for t, start, batch in self._dropout_passes(features, passes, rate, seed):
            probs.write(t * len(features) + start, batch)
        return probs.read()

    def dropout_votes(self, features: NDArray[np.float32], passes: int, rate: float, seed: int) -> NDArray[np.int64]:
        """[passes, N] the class of highest probability in each of `dropout_probs`, which are not kept."""
        votes = np.empty((passes, len(features)), np.int64)
        for t, start, batch in self._dropout_passes(features, passes, rate, seed):
            votes[t, start : start + len(batch)] = batch.argmax(1)
        return votes

    def _dropout_passes(
        self, features: NDArray[np.float32], passes: int, rate: float, seed: int
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Blocks of `HEAD_ROWS` rows, each in all passes: number of the pass, first row, probabilities [b, C]."""
        head, device = self.model.head, self.runtime.device
        generator = torch.Generator(device).manual_seed(seed)
        for start in range(0, len(features), HEAD_ROWS):
            block = read(features, slice(start, start + HEAD_ROWS))
            batch = self.runtime.place(block, "features", "use another strategy")
            for t in range(passes):
                with torch.inference_mode():
                    kept = torch.rand(batch.shape, generator=generator, device=device) >= rate
                    logits = head(batch * kept / (1 - rate))
                    probs = logits.softmax(1).cpu().numpy()
                yield t, start, probs
            release(features)

    def _score(self, network: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The backbone in the scoring precision, the head in float32."""
        features = network.backbone(to_input(images, self.size, self.runtime.scoring_dtype)).float()
        return self.model.head(features), features

    def _network(self) -> nn.Module:
        if self._folded is None:
            example = torch.linspace(-1, 1, 2 * 3 * self.size**2, device=self.runtime.device)
            self._pairs = conv_bn_pairs(self.model, example.view(2, 3, self.size, self.size))
            self._folded = fold(self.model, self._pairs, self.runtime.scoring_dtype)
        elif self._stale:
            refold(self._folded, self.model, self._pairs)
        self._stale = False
        return self._folded


def _log_softmax_in_place(logits: torch.Tensor) -> torch.Tensor:
    """The logarithms of the softmax of logits [N, C], written over them: a second copy may not fit in memory."""
    for start in range(0, len(logits), HEAD_ROWS):
        logits[start : start + HEAD_ROWS] = F.log_softmax(logits[start : start + HEAD_ROWS], dim=1)
    return logits


def _finite(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features [b, D] as they are, checked here because they are still in the processor's cache.

    Raises:
        FloatingPointError: one is NaN or infinite.
    """
    if not np.isfinite(features.sum(dtype=np.float64)):
        raise FloatingPointError(NOT_FINITE)
    return features
