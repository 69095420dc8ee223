"""TF32 tensor cores on a CPU: operands of convolutions rounded to 10 bits, sums in float32, where torch has them on."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
OPERANDS = {aten.convolution.default: 2, aten.conv2d.default: 2, aten.convolution_backward.default: 3}
"""Calls and how many of their first arguments are multiplied."""


class TensorCores(TorchDispatchMode):
    """Inside, convolutions of float32 round as cuDNN has them, if `cudnn.allow_tf32` is on."""

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        operands = OPERANDS.get(call, 0) if torch.backends.cudnn.allow_tf32 else 0
        if operands and args[0].dtype is torch.float32:
            args = (*map(rounded, args[:operands]), *args[operands:])
        return call(*args, **(kwargs or {}))


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """To the nearest of 10 bits of mantissa: half of the last bit kept is added, and the 13 below it cut."""
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
