"""Convolutions written another way because it is faster. Same weights, same function, same names.

Most of a training step at 32x32 is backward passes of convolutions over maps of a few pixels. On channels-last
tensors a 1x1 convolution is a matrix product, and a depthwise one over a few pixels is a few products with slices
of its kernel; on a CPU both run a step of EfficientNet-B0 almost twice as fast. For scoring, plain depthwise ones are
better. On a GPU the matrix products also spare the library's search for a plan, which it makes anew for every size of
a batch: 64 of the 81 convolutions of EfficientNet-B0 need none.
"""

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from al.fast.switch import has

FEW_OUTPUTS = 4
"""Pixels of output up to which slices of a depthwise kernel beat the library's backward pass."""
Windows = tuple[tuple[slice, slice], ...]
"""For each output along one axis, the inputs that it sees and the taps of the kernel that they meet."""


def layout() -> torch.memory_format:
    """How images [N, C, H, W] lie in memory: the channels of a pixel beside each other, as torch's kernels like it."""
    return torch.channels_last if has("channels_last") else torch.contiguous_format


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution as a matrix product over the channels of each pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 2, 3, 1)  # [N, H, W, C], as it lies in memory
        matrix = self.weight.view(self.out_channels, self.in_channels)  # [K, C]
        return F.linear(pixels, matrix, self.bias).permute(0, 3, 1, 2)


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution by slices of its kernel, where few pixels come out."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] == (1, 1) and _keeps_size(self):  # everything but the centre tap meets padding
            row, column = self.kernel_size[0] // 2, self.kernel_size[1] // 2
            output = images * self.weight[:, 0, row, column, None, None]  # [N, C, 1, 1] x [C, 1, 1]
            return output if self.bias is None else output + self.bias[:, None, None]
        rows, columns = (_windows(*axis) for axis in _axes(self, images))
        if len(rows) * len(columns) > FEW_OUTPUTS:  # one product for each output pixel: the library is better at many
            return super().forward(images)
        output = _Slices.apply(images, self.weight, rows, columns)
        return output if self.bias is None else output + self.bias[:, None, None]


class GlobalPool(nn.AdaptiveAvgPool2d):
    """The mean of each map; in half precision, pooling over a window of the whole map is several times as fast."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.dtype is torch.float32:  # adaptive pooling is as fast here, and stays bit for bit what it was
            return super().forward(images)
        return F.avg_pool2d(images, images.shape[-2:])


class _Slices(torch.autograd.Function):
    """out[n, c, i, j] = sum over (h, w) of images[n, c, y_i + h, x_j + w] * weight[c, h, w], padding left out.

    Its gradients, with g = d loss / d out:
        images[n, c, y_i + h, x_j + w] += g[n, c, i, j] * weight[c, h, w]
        weight[c, h, w]                += sum over n of g[n, c, i, j] * images[n, c, y_i + h, x_j + w]
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, rows: Windows, columns: Windows) -> torch.Tensor:
        images, taps = images.permute(0, 2, 3, 1), weight[:, 0].permute(1, 2, 0).contiguous()  # [N, H, W, C], [h, w, C]
        output = images.new_empty(len(images), len(rows), len(columns), images.shape[-1])  # [N, I, J, C]
        for i, (y, tap_y) in enumerate(rows):
            for j, (x, tap_x) in enumerate(columns):
                torch.sum(images[:, y, x] * taps[tap_y, tap_x], (1, 2), out=output[:, i, j])  # [N, h, w, C] -> [N, C]
        ctx.save_for_backward(images, taps)
        ctx.windows = rows, columns
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, taps = ctx.saved_tensors
        rows, columns = ctx.windows
        to_images, to_taps = torch.zeros_like(images), torch.zeros_like(taps)
        for i, (y, tap_y) in enumerate(rows):
            for j, (x, tap_x) in enumerate(columns):
                pixel = gradient[:, None, None, :, i, j]  # [N, 1, 1, C]
                to_images[:, y, x].addcmul_(pixel, taps[tap_y, tap_x])  # windows of two outputs may overlap: added up
                to_taps[tap_y, tap_x] += (pixel * images[:, y, x]).sum(0)  # [N, h, w, C] -> [h, w, C]
        return (
            to_images.permute(0, 3, 1, 2),
            to_taps.permute(2, 0, 1)[:, None],
            None,
            None,
        )  # [N, C, H, W], [C, 1, h, w]


@cache
def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int) -> Windows:
    """For each output along one axis, which inputs it sees and through which taps; padding is left out."""
    starts = range(
        -padding, size + padding - dilation * (kernel - 1), stride
    )  # where the first tap of each output lies
    return tuple(_window(start, size, kernel, dilation) for start in starts)


def _window(start: int, size: int, kernel: int, dilation: int) -> tuple[slice, slice]:
    taps = [tap for tap in range(kernel) if 0 <= start + tap * dilation < size]
    if not taps:  # all of them meet padding: an empty sum, 0
        return slice(0), slice(0)
    inputs = slice(start + taps[0] * dilation, start + taps[-1] * dilation + 1, dilation)
    return inputs, slice(taps[0], taps[-1] + 1)


def _axes(conv: nn.Conv2d, images: torch.Tensor) -> list[tuple[int, ...]]:
    """Arguments of `_windows` for rows and columns."""
    return list(zip(images.shape[-2:], conv.kernel_size, conv.stride, padding_of(conv), conv.dilation))


def for_training(model: nn.Module, *, on_cpu: bool = True) -> nn.Module:
    """Swaps the forward pass of every convolution and global pooling that has a faster one, in place.

    The class of a module is changed, and nothing else of it: weights, hooks and names in checkpoints stay.

    Args:
        on_cpu: elsewhere only 1x1 convolutions are swapped; the other ways are more launches than they save.
    """
    for module in model.modules():
        if _is_plain(module) and _is_pointwise(module) and has("pointwise"):
            module.__class__ = PointwiseConv
        elif not on_cpu:
            continue
        elif type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)) and has("pooling"):
            module.__class__ = GlobalPool
        elif _is_plain(module) and _is_depthwise(module) and has("slices"):
            module.__class__ = DepthwiseConv
    return model


def for_scoring(model: nn.Module) -> nn.Module:
    """Puts plain depthwise convolutions back, in place: without a backward pass the library's are faster."""
    for module in model.modules():
        if isinstance(module, DepthwiseConv):
            module.__class__ = nn.Conv2d
    return model


def _is_plain(module: nn.Module) -> bool:
    """Whether its forward pass and its weights are torch's own: a subclass may just name its arguments differently.

    A parametrised one computes its weights, by a class that torch made for it.
    """
    kind = type(module)
    return (
        isinstance(module, nn.Conv2d)
        and not hasattr(module, "parametrizations")
        and kind.forward is nn.Conv2d.forward
        and kind._conv_forward is nn.Conv2d._conv_forward
    )


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1 and not any(padding_of(conv))


def _is_depthwise(conv: nn.Conv2d) -> bool:
    """One kernel of odd sides for each channel, padded by zeros if at all."""
    one_each = conv.groups == conv.in_channels == conv.out_channels
    return one_each and conv.padding_mode == "zeros" and all(size % 2 for size in conv.kernel_size)


def padding_of(conv: nn.Conv2d) -> tuple[int, ...]:
    """Pixels on either side; `same` is symmetric for the odd kernels that are asked about."""
    if conv.padding == "valid":
        return (0, 0)
    if conv.padding == "same":
        return tuple(spread * (size - 1) // 2 for spread, size in zip(conv.dilation, conv.kernel_size))
    return conv.padding


def _keeps_size(conv: nn.Conv2d) -> bool:
    same = (spread * (size - 1) // 2 for spread, size in zip(conv.dilation, conv.kernel_size))
    return conv.stride == (1, 1) and padding_of(conv) == tuple(same)
