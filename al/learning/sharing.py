"""One fit in several processes: each takes its part of every training batch, and all take the step that one would.

What couples the images of a batch is computed over the whole batch, not over a process's part: the statistics of batch
normalisation, the weights of the loss, and the masks of dropout and stochastic depth, which every process draws for all
images to use those of its own. The gradients are summed. So the batch size and the learning rate mean what they mean in
one process, and the curve is the same up to the order of sums; on GPUs, where torch draws masks by other kernels for
other sizes, up to the masks of stochastic depth too.

The semantics are those of `torch.nn.parallel.DistributedDataParallel` with `torch.nn.SyncBatchNorm`; the latter runs on
NVIDIA cards only, and does not know the subclasses of batch normalisation that networks bring.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout)
DRAWS = (torch.Tensor.bernoulli_, torch.Tensor.uniform_)


class Processes(Protocol):
    """The processes that fit together."""

    rank: int
    ranks: int

    def add_up(self, tensor: torch.Tensor) -> None:
        """Makes the tensor, of one shape in all processes, the sum over them."""


class WholeBatch(TorchFunctionMode):
    """Inside, a network that sees a part of a batch computes what it would compute with all of it.

    Args:
        processes: those that hold the other parts.
        count: images in all parts.
        own: those of them that the network sees.
    """

    def __init__(self, processes: Processes, count: int, own: slice):
        super().__init__()
        self.processes, self.count, self.own = processes, count, own
        self.size = own.stop - own.start

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if function in DROPOUTS:
            return self._dropout(function, *args, **kwargs)
        if function in DRAWS and args[0].dim() and len(args[0]) == self.size:
            whole = function(args[0].new_empty(self.count, *args[0].shape[1:]), *args[1:], **kwargs)
            return args[0].copy_(whole[self.own])
        if function is torch.rand:
            return self._rand(*args, **kwargs)
        return function(*args, **kwargs)

    def _batch_norm(
        self,
        images: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return F.batch_norm(images, running_mean, running_var, weight, bias, False, momentum, eps)
        found, mean, var, count = _BatchNorm.apply(images, weight, bias, eps, self.processes)
        if running_mean is not None:
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * (count / (count - 1)), momentum)
        return found

    def _dropout(
        self,
        function: Callable[..., torch.Tensor],
        images: torch.Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> torch.Tensor:
        """Draw the mask for the whole batch, by applying the function to ones, and use this process's part of it."""
        if not training or p == 0 or not images.dim() or len(images) != self.size:
            return function(images, p, training, inplace)
        mask = function(images.new_ones(self.count, *images.shape[1:]), p, True)
        return images.mul_(mask[self.own]) if inplace else images * mask[self.own]

    def _rand(self, *shape: Any, **options: Any) -> torch.Tensor:
        """Networks of the Hub draw their stochastic depth so: one number for each image."""
        size = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if not size or size[0] != self.size:
            return torch.rand(*shape, **options)
        return torch.rand(self.count, *size[1:], **options)[self.own]


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation [b, C, ...] (Ioffe & Szegedy 2015) by the statistics of the parts of all processes."""

    @staticmethod
    def forward(ctx, images, weight, bias, eps, processes):
        dims = [dim for dim in range(images.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(images.dim())]
        per_channel = len(images) * math.prod(images.shape[2:])
        sums = torch.cat([images.sum(dims), images.new_tensor([per_channel])])
        processes.add_up(sums)
        count = sums[-1]
        mean = sums[:-1] / count  # [C]
        centred = images - mean.view(shape)
        var = centred.square().sum(dims)  # in a second pass: a mean of squares would lose digits
        processes.add_up(var)
        var = var / count
        scale = (var + eps).rsqrt()
        normed = centred.mul_(scale.view(shape))
        ctx.save_for_backward(normed, scale, weight, count)
        ctx.processes, ctx.dims, ctx.shape, ctx.biased = processes, dims, shape, bias is not None
        ctx.mark_non_differentiable(mean, var, count)
        found = normed if weight is None else normed * weight.view(shape)
        return (
            found.clone() if found is normed else found.add_(0 if bias is None else bias.view(shape)),
            mean,
            var,
            count,
        )

    @staticmethod
    def backward(ctx, grad, *_):
        normed, scale, weight, count = ctx.saved_tensors
        sums = torch.stack([grad.sum(ctx.dims), (grad * normed).sum(ctx.dims)])  # [2, C] of this process's images
        grad_bias, grad_weight = sums.clone()  # summed with all other gradients
        ctx.processes.add_up(sums)
        by_bias, by_weight = (sums / count).view(2, *ctx.shape)
        factor = scale if weight is None else scale * weight
        grad_images = (grad - by_bias - normed * by_weight).mul_(factor.view(ctx.shape))
        return grad_images, None if weight is None else grad_weight, grad_bias if ctx.biased else None, None, None


class Parts:
    """The batches of an epoch over `count` images, and this process's part of each; all of it where it is alone.

    Iterating gives, batch after batch, the slices of the epoch's order that hold the batch and the part.
    """

    def __init__(self, count: int, size: int, processes: Processes | None):
        self.count, self.size, self.processes = count, size, processes

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        for start in range(0, self.count, self.size):
            batch = slice(start, min(start + self.size, self.count))
            yield batch, self._own(batch)

    def __len__(self) -> int:
        return -(-self.count // self.size)

    @property
    def step(self) -> int:
        """Images of this process in a full batch."""
        own = self._own(slice(0, self.size))
        return own.stop - own.start

    @property
    def rows(self) -> NDArray[np.int64]:
        """Positions in the epoch's order of all images that this process takes."""
        return np.concatenate([np.arange(own.start, own.stop) for _, own in self])

    def _own(self, batch: slice) -> slice:
        """This process's part of a batch; no part is empty if the batch has an image for every process."""
        if self.processes is None:
            return batch
        rank, ranks, size = self.processes.rank, self.processes.ranks, batch.stop - batch.start
        first, last = (batch.start + size * (rank + end) // ranks for end in (0, 1))
        return slice(first, last)

    def whole(self, batch: slice, own: slice) -> AbstractContextManager[object]:
        if self.processes is None:
            return nullcontext()
        seen = slice(own.start - batch.start, own.stop - batch.start)
        return WholeBatch(self.processes, batch.stop - batch.start, seen)

    def loss(
        self, logits: torch.Tensor, own: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """This process's share of the mean cross-entropy over a batch: all shares add up to it.

        Args:
            logits: [b, C] of the images that this process takes.
            own: [b] their classes.
            targets: [n] classes of the whole batch.
            weight: [C] of the classes.
        """
        whole = len(targets) if weight is None else weight[targets].sum()
        return F.cross_entropy(logits, own, weight=weight, reduction="sum") / whole

    def add_up_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sums the gradients over all processes, in one message."""
        if self.processes is None:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.processes.add_up(flat)
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view(gradient.shape))

    def add_up(self, *tensors: torch.Tensor) -> None:
        """Sum tensors over all processes; each holds the values of its own images, and zeros for the others."""
        for tensor in tensors if self.processes is not None else ():
            self.processes.add_up(tensor)
