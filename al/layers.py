"""Convolutions written so that training them on a CPU is fast. Same weights, same function, same names.

Backward passes of convolutions take most of a training step at 32x32. On channels-last tensors a 1x1 convolution is
a matrix product, and a depthwise one over a single pixel is a product with its centre tap; both run a step of
EfficientNet-B0 about one and a half times as fast. For scoring, plain convolutions are better.
"""

import torch
from torch import nn
from torch.nn import functional as F


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution as a matrix product over the channels of each pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weight = self.weight.view(self.out_channels, self.in_channels)
        return F.linear(images.permute(0, 2, 3, 1), weight, self.bias).permute(0, 3, 1, 2)


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution that keeps the size; over one pixel everything but its centre tap meets padding."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (1, 1):
            return super().forward(images)
        row, column = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        centre = self.weight[:, 0, row, column, None, None]
        return images * centre if self.bias is None else images * centre + self.bias[:, None, None]


def for_training(model: nn.Module) -> nn.Module:
    """Swaps the forward pass of every convolution that has a faster one for training, in place."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.stride == (1, 1):
            if module.kernel_size == (1, 1) and module.groups == 1 and module.padding == (0, 0):
                module.__class__ = PointwiseConv
            elif module.groups == module.in_channels == module.out_channels and _keeps_size(module):
                module.__class__ = DepthwiseConv
    return model


def for_scoring(model: nn.Module) -> nn.Module:
    """The inverse of `for_training`, in place."""
    for module in model.modules():
        if isinstance(module, PointwiseConv | DepthwiseConv):
            module.__class__ = nn.Conv2d
    return model


def _keeps_size(conv: nn.Conv2d) -> bool:
    same = all(
        2 * pad == spread * (size - 1) for pad, spread, size in zip(conv.padding, conv.dilation, conv.kernel_size)
    )
    return same and conv.padding_mode == "zeros"
