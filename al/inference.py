"""Scoring: one pass over unaugmented images gives probabilities and features."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from al.folding import Pairs, conv_bn_pairs, fold
from al.models import Classifier
from al.runtime import Runtime


@dataclass(frozen=True)
class Predictions:
    """What the model says of N images."""

    probs: NDArray[np.float32]
    """[N, C] softmax of the logits."""
    features: NDArray[np.float32]
    """[N, D] penultimate activations; [N, 0] where they were not asked for."""
    losses: NDArray[np.float32]
    """[N] -log p of the true class; computed from logits, so finite where p underflows. NaN without labels."""


def to_input(images: torch.Tensor, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """u8[N, H, W, 3] -> [N, 3, size, size] in [-1, 1] (mean and standard deviation 0.5), channels-last."""
    batch = images.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)
    if batch.shape[-1] != size or batch.shape[-2] != size:
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return batch.to(dtype, memory_format=torch.channels_last)


class Scorer:
    """Scores images with the current weights of one model: the same function as the model's, up to rounding."""

    def __init__(self, model: Classifier, runtime: Runtime, size: int):
        self.model, self.runtime, self.size = model, runtime, size
        self._pairs: Pairs | None = None
        self._folded: nn.Module | None = None

    def refresh(self) -> None:
        """To be called when the weights have changed."""
        self._folded = None

    def predict(
        self,
        images: torch.Tensor,
        rows: NDArray[np.int64] | None = None,
        labels: NDArray[np.int64] | None = None,
        *,
        features: bool = False,
    ) -> Predictions:
        """Predictions for `rows` (all without) of `images` u8[M, H, W, 3] on the device, in their order.

        Args:
            labels: i64[N] true classes of those rows, for their losses.
            features: also return features; without, they never leave the device.
        """
        rows = np.arange(len(images)) if rows is None else rows
        network = self._network()
        logits_out = torch.empty(len(rows), self.model.head.out_features, device=self.runtime.device)
        features_out = np.empty((len(rows), self.model.head.in_features if features else 0), np.float32)
        step = self.runtime.scoring_batch
        with torch.inference_mode():
            for start in range(0, len(rows), step):
                chosen = rows[start : start + step]
                logits, batch_features = self._score(network, _take(images, chosen, self.runtime))
                logits_out[start : start + step] = logits
                if features:
                    features_out[start : start + step] = batch_features.cpu().numpy()
            log_probs = F.log_softmax(logits_out, dim=1).cpu().numpy()
        losses = np.full(len(rows), np.nan, np.float32)
        if labels is not None:
            losses = -log_probs[np.arange(len(rows)), labels]
        return Predictions(np.exp(log_probs), features_out, losses)

    def dropout_probs(self, features: NDArray[np.float32], passes: int, rate: float, seed: int) -> NDArray[np.float32]:
        """[passes, N, C] probabilities of the head on features [N, D] with dropout (Gal et al. 2017).

        Dropout before the classifier is the only one switched on: batch normalisation and stochastic depth stay as
        they are when scoring.
        """
        head, device = self.model.head, self.runtime.device
        probs = np.empty((passes, len(features), head.out_features), np.float32)
        generator = torch.Generator(device).manual_seed(seed)
        step = self.runtime.scoring_batch
        with torch.inference_mode():
            for start in range(0, len(features), step):
                batch = torch.from_numpy(features[start : start + step]).to(device)
                for t in range(passes):
                    kept = torch.rand(batch.shape, generator=generator, device=device) >= rate
                    logits = head(batch * kept / (1 - rate))
                    probs[t, start : start + step] = logits.softmax(1).cpu().numpy()
        return probs

    def _score(self, network: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The backbone in the scoring precision, the head in float32."""
        features = network.backbone(to_input(images, self.size, self.runtime.scoring_dtype)).float()
        return self.model.head(features), features

    def _network(self) -> nn.Module:
        if self._pairs is None:
            example = torch.linspace(-1, 1, 2 * 3 * self.size**2, device=self.runtime.device)
            self._pairs = conv_bn_pairs(self.model, example.view(2, 3, self.size, self.size))
        if self._folded is None:
            folded = fold(self.model, self._pairs)
            self._folded = folded.to(self.runtime.scoring_dtype, memory_format=torch.channels_last)
        return self._folded


def _take(images: torch.Tensor, rows: NDArray[np.int64], runtime: Runtime) -> torch.Tensor:
    """`images[rows]`; consecutive rows are a view, so scoring a whole data set copies nothing."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return images[int(rows[0]) : int(rows[-1]) + 1]
    return images[runtime.indices(rows)]
