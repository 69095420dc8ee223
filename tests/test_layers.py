"""The convolutions for training compute what torch's do, forward and backward."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from al.layers import DepthwiseConv, PointwiseConv, for_scoring, for_training

FAST = {
    "pointwise": (nn.Conv2d(8, 16, 1), PointwiseConv, 6),
    "pointwise without bias": (nn.Conv2d(8, 16, 1, bias=False), PointwiseConv, 6),
    "depthwise over a pixel": (nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), DepthwiseConv, 1),
    "depthwise with bias": (nn.Conv2d(8, 8, 3, padding=1, groups=8), DepthwiseConv, 1),
    "depthwise, dilated": (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), DepthwiseConv, 1),
    "depthwise over an image": (nn.Conv2d(8, 8, 3, padding=1, groups=8), DepthwiseConv, 6),
}
SLOW = {
    "strided": nn.Conv2d(8, 16, 1, stride=2),
    "padded 1x1": nn.Conv2d(8, 16, 1, padding=1),
    "grouped 1x1": nn.Conv2d(8, 16, 1, groups=2),
    "reflecting": nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
    "shrinking": nn.Conv2d(8, 8, 3, groups=8),
    "dense": nn.Conv2d(8, 8, 3, padding=1),
}


def gradients(conv: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone(memory_format=torch.channels_last).requires_grad_()
    output = conv(images)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [output.detach(), images.grad, *(parameter.grad for parameter in conv.parameters())]


@pytest.mark.parametrize("name", FAST)
def test_same_output_and_gradients(name):
    plain, kind, side = FAST[name]
    fast = for_training(deepcopy(plain).to(memory_format=torch.channels_last))
    assert type(fast) is kind
    images = torch.randn(4, 8, side, side, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(gradients(fast, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SLOW)
def test_what_has_no_faster_form_stays(name):
    assert type(for_training(deepcopy(SLOW[name]))) is nn.Conv2d


def test_scoring_takes_plain_convolutions_and_the_same_weights():
    network = nn.Sequential(*(deepcopy(conv) for conv, _, _ in FAST.values()))
    names = list(network.state_dict())
    for_scoring(for_training(network))
    assert {type(module) for module in network} == {nn.Conv2d}
    assert list(network.state_dict()) == names
