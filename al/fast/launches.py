"""What a training step computes and nobody reads: each is a kernel that a GPU is made to launch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from al.fast.switch import has

NEED_THEIR_INPUT = (nn.SiLU, nn.Hardswish, nn.Mish)
"""Activations whose gradient is a function of what goes in: in place, autograd copies that before it is lost."""


def without_copies(model: nn.Module) -> nn.Module:
    """The model itself, for training: activations that would be copied for their gradient write to new memory instead.

    EfficientNet-B0 has 49 of them.
    """
    for module in model.modules():
        if isinstance(module, NEED_THEIR_INPUT) and has("launches"):
            module.inplace = False
    return model


@contextmanager
def counted_at_once(model: nn.Module, steps: int) -> Iterator[None]:
    """Count the `steps` batches of batch normalisation at the end, in one launch instead of one per layer and step.

    Layers without momentum, the only ones that read the counter, go on counting at each step.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.num_batches_tracked is not None
        and module.momentum is not None
    ]
    if not layers or not has("launches"):
        yield
        return
    counters = [layer.num_batches_tracked for layer in layers]
    for layer in layers:
        layer.num_batches_tracked = None
    try:
        yield
        torch._foreach_add_(counters, steps)
    finally:
        for layer, counter in zip(layers, counters):
            layer.num_batches_tracked = counter
