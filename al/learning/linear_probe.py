"""`model=frozen`: a linear head on frozen embeddings, fitted in one epoch: to its optimum where weight_decay > 0."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from al.data import DataSet, Embeddings
from al.learning.batches import Images, batches
from al.learning.learner import ProbeSettings, StateDict
from al.learning.metrics import confusion_matrix
from al.learning.network_learner import TorchLearner
from al.learning.networks import Classifier
from al.learning.scorer import Scorer
from al.learning.trainer import class_weights
from al.runtime import Runtime
from al.storage.blocks import release

ITERATIONS = 200
NO_OPTIMUM = (
    f"weight_decay=0: where the classes can be separated the linear head has no optimum, and its fit ends after "
    f"{ITERATIONS} iterations; use weight_decay=0.001 for one that has"
)
STATISTICS_ROWS = 8192


class LinearProbe(TorchLearner):
    """A linear head [C, D] on embeddings [N, D] and [M, D], in the place of images.

    Its activations are the standardised embeddings: what the head was fitted on is what dropout (bald, dropquery) and
    gradients (badge) look at. A constant added to all embeddings changes nothing.

    It is fitted and scored on the CPU whatever the device is: a fit is some hundred steps of L-BFGS, each of which asks
    for numbers several times, and a GPU would spend it waiting.
    """

    settings: ProbeSettings

    def __init__(
        self, settings: ProbeSettings, runtime: Runtime, data: DataSet, *, embeddings: Embeddings, **others: Any
    ):
        runtime = runtime.host
        super().__init__(settings, runtime, data, embeddings=embeddings, **others)
        width, dropout = embeddings.train.shape[1], others["output_options"]["dropout"]
        self.model = Classifier(Standardise.of(embeddings.train), width, self.classes, dropout).to(runtime.device)
        nn.init.zeros_(self.model.head.weight)
        nn.init.zeros_(self.model.head.bias)
        self.scorer = ProbeScorer(self.model, runtime, 1, self.scratch)
        self.show(embeddings.train, embeddings.test)
        self.trainer = ProbeTrainer(self.model, runtime, settings=settings)
        if settings.weight_decay == 0:
            self.notes = (NO_OPTIMUM,)

    def restart(self, *, warm: bool) -> None:
        """Nothing to do: every fit starts from zero, and what is known of the embeddings stays known."""


class Standardise(nn.Module):
    """Embeddings centred, and divided by their standard deviation times sqrt(D).

    Their squared length is then 1 on average, so that one `weight_decay` does for any model. A dimension that is
    constant counts for nothing.
    """

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", mean)  # [D]
        self.register_buffer("scale", scale)  # [D]

    @classmethod
    def of(cls, embeddings: NDArray) -> "Standardise":
        mean, std = _mean_and_std(embeddings)
        scale = 1 / np.maximum(std * np.sqrt(len(std)), np.finfo(np.float32).tiny) * (std > 0)
        return cls(*(torch.from_numpy(array.astype(np.float32)) for array in (mean, scale)))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings - self.mean).mul_(self.scale)


class ProbeScorer(Scorer):
    """Scores embeddings: there is no backbone, and the head is float32."""

    step = 500
    """Rows whose standardised copy stays in the processor's cache: 50,000 x 1,280 in 0.12 s, with 2,500 in 0.28 s."""

    def _score(self, network: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = network.backbone(images.float())
        return network.head(features), features

    def _network(self) -> nn.Module:
        return self.model


class ProbeTrainer:
    """Multinomial logistic regression by L-BFGS on standardised embeddings.

    Minimises mean cross-entropy + weight_decay / 2 |theta|^2 from theta = 0, so a fit depends on the labels alone and
    not on the fits before it. With weight_decay > 0 the problem is strictly convex: there is one optimum, with classes
    missing too. With 0 there is none where classes separate, and the fit ends after so many iterations.
    """

    def __init__(self, model: Classifier, runtime: Runtime, *, settings: ProbeSettings):
        self.model, self.runtime, self.settings = model, runtime, settings

    def set_lr(self, lr: float) -> None:
        """L-BFGS finds its step lengths itself."""

    def epoch(
        self, embeddings: Images, labels: NDArray[np.int64], rows: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.int64], float]:
        """Fits the head to `rows` of `embeddings` [N, D]; returns confusion i64[C, C] and mean loss on them."""
        (taken,) = batches(embeddings, rows, len(rows), self.runtime)
        with torch.no_grad():
            inputs = self.model.backbone(taken.float())  # [n, D] standardised
        targets = torch.from_numpy(labels[rows]).to(self.runtime.device)
        weight, bias = self._optimum(inputs, targets, self._loss_weight(labels[rows]))
        with torch.no_grad():
            self.model.head.weight.copy_(weight)
            self.model.head.bias.copy_(bias)
            logits = F.linear(inputs, weight, bias)
            loss = F.cross_entropy(logits, targets).item()
        predicted = logits.argmax(1).cpu().numpy()
        return confusion_matrix(labels[rows], predicted, len(bias)), loss

    def _optimum(
        self, inputs: torch.Tensor, targets: torch.Tensor, class_weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights [C, D] and biases [C] of least penalised loss on inputs [n, D]."""
        weight = torch.zeros_like(self.model.head.weight, requires_grad=True)
        bias = torch.zeros_like(self.model.head.bias, requires_grad=True)
        solver = torch.optim.LBFGS(
            [weight, bias],
            max_iter=ITERATIONS,
            tolerance_grad=1e-5,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def objective() -> torch.Tensor:
            solver.zero_grad()
            loss = F.cross_entropy(F.linear(inputs, weight, bias), targets, weight=class_weight)
            loss = loss + self.settings.weight_decay / 2 * (weight.square().sum() + bias.square().sum())
            loss.backward()
            return loss

        solver.step(objective)
        return weight.detach(), bias.detach()

    def _loss_weight(self, labels: NDArray[np.int64]) -> torch.Tensor | None:
        if not self.settings.class_weights:
            return None
        return torch.from_numpy(class_weights(labels, self.model.head.out_features)).to(self.runtime.device)

    def state_dict(self) -> StateDict:
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        self.model.load_state_dict(state["model"])


def _mean_and_std(embeddings: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each dimension over all rows [N, D], labelled or not, in blocks: they may be memory-mapped."""
    count, mean, spread = 0, np.zeros(embeddings.shape[1]), np.zeros(embeddings.shape[1])
    for start in range(0, len(embeddings), STATISTICS_ROWS):
        block = embeddings[start : start + STATISTICS_ROWS].astype(np.float64)
        total = count + len(block)
        shift = block.mean(axis=0) - mean
        spread += block.var(axis=0) * len(block) + shift**2 * count * len(block) / total
        mean += shift * len(block) / total
        count = total
        release(embeddings)
    return mean, np.sqrt(spread / count)
