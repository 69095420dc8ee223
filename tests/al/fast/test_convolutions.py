"""The convolutions for training compute what torch's do, forward and backward."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from transformers.models.efficientnet.modeling_efficientnet import EfficientNetDepthwiseConv2d

from al.fast.convolutions import (
    DepthwiseConv,
    GlobalPool,
    PointwiseConv,
    for_scoring,
    for_training,
)

FAST = {
    "pointwise": (nn.Conv2d(8, 16, 1), PointwiseConv, 6),
    "pointwise without bias": (nn.Conv2d(8, 16, 1, bias=False), PointwiseConv, 6),
    "depthwise over a pixel": (nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), DepthwiseConv, 1),
    "depthwise with bias": (nn.Conv2d(8, 8, 3, padding=1, groups=8), DepthwiseConv, 1),
    "depthwise, dilated": (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), DepthwiseConv, 1),
    "depthwise over an image": (nn.Conv2d(8, 8, 3, padding=1, groups=8), DepthwiseConv, 6),
    "depthwise over four pixels": (nn.Conv2d(8, 8, 5, padding=2, groups=8), DepthwiseConv, 2),
    "depthwise, strided": (nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False), DepthwiseConv, 3),
    "depthwise, strided, of padded images": (nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False), DepthwiseConv, 5),
    "depthwise, dilated, over four pixels": (nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), DepthwiseConv, 2),
    "depthwise, more padding than image": (nn.Conv2d(8, 8, 3, stride=3, padding=3, groups=8), DepthwiseConv, 1),
    "depthwise of two shapes": (nn.Conv2d(8, 8, (1, 3), stride=(2, 1), padding=(0, 1), groups=8), DepthwiseConv, 2),
    "pointwise, padded by name": (nn.Conv2d(8, 16, 1, padding="same"), PointwiseConv, 6),
    "depthwise, padded by name": (nn.Conv2d(8, 8, 5, padding="same", groups=8), DepthwiseConv, 1),
    "depthwise, not padded by name": (nn.Conv2d(8, 8, 3, stride=2, padding="valid", groups=8), DepthwiseConv, 5),
    "of a subclass": (EfficientNetDepthwiseConv2d(8, kernel_size=3, padding="same", bias=False), DepthwiseConv, 2),
}
SLOW = {
    "strided": nn.Conv2d(8, 16, 1, stride=2),
    "padded 1x1": nn.Conv2d(8, 16, 1, padding=1),
    "grouped 1x1": nn.Conv2d(8, 16, 1, groups=2),
    "reflecting": nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
    "of an even kernel": nn.Conv2d(8, 8, 2, padding=1, dilation=2, groups=8),
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


def test_weights_that_are_computed_stay():
    conv = weight_norm(nn.Conv2d(8, 16, 1))
    images = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = conv(images)
    assert torch.equal(for_training(conv)(images), expected)


def test_a_forward_pass_of_its_own_stays():
    class Padded(nn.Conv2d):
        def forward(self, images):
            return super().forward(nn.functional.pad(images, (0, 1, 0, 1)))

    assert type(for_training(Padded(8, 8, 3, groups=8))) is Padded


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("size", [1, (1, 1)])
def test_global_pooling_is_the_mean(dtype, error, size):
    pool = for_training(nn.AdaptiveAvgPool2d(size))
    assert type(pool) is GlobalPool
    images = torch.randn(4, 8, 6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = pool(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found.float(), images.float().mean((2, 3), keepdim=True), rtol=error, atol=error)


def test_other_pooling_stays():
    assert type(for_training(nn.AdaptiveAvgPool2d((1, None)))) is nn.AdaptiveAvgPool2d


def test_scoring_takes_plain_depthwise_convolutions_and_the_same_weights():
    network = nn.Sequential(*(deepcopy(conv) for conv, _, _ in FAST.values()))
    names = list(network.state_dict())
    for_scoring(for_training(network))
    assert {type(module) for module in network} == {nn.Conv2d, PointwiseConv}
    assert list(network.state_dict()) == names
