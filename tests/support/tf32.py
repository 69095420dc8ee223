"""TF32 tensor cores on a CPU: operands of products rounded to 10 bits, sums in float32, where torch has them on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CONVOLUTIONS = {
    **dict.fromkeys((aten.convolution.default, aten.conv2d.default), (0, 1)),
    aten.convolution_backward.default: (0, 1, 2),
}
PRODUCTS = {
    **dict.fromkeys((aten.mm.default, aten.bmm.default, aten.linear.default), (0, 1)),
    aten.addmm.default: (1, 2),
}
"""Calls, and which of their arguments are multiplied."""


class TensorCores(TorchDispatchMode):
    """Inside, what is multiplied in float32 is rounded: by convolutions if `cudnn.allow_tf32` is on, by others if
    `cuda.matmul.allow_tf32` is."""

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        operands = CONVOLUTIONS.get(call, ()) if torch.backends.cudnn.allow_tf32 else ()
        operands += PRODUCTS.get(call, ()) if torch.backends.cuda.matmul.allow_tf32 else ()
        if operands and args[operands[0]].dtype is torch.float32:
            args = tuple(rounded(arg) if place in operands else arg for place, arg in enumerate(args))
        return call(*args, **(kwargs or {}))


@contextmanager
def allowed(on: bool) -> Iterator[None]:
    """Both switches of torch, and back."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = on
        yield
    finally:
        for switch, value in zip(switches, before):
            switch.allow_tf32 = value


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """To the nearest of 10 bits of mantissa: half of the last bit kept is added, and the 13 below it cut."""
    bits = tensor.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
