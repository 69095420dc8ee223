"""What is folded of real networks, and what keeps folding from them."""

from functools import partial

import pytest
import tiny_networks
import torch
from torch import nn

from al.fast import folding
from al.fast.convolutions import for_training
from al.fast.folding import conv_bn_pairs, fold
from al.learning.networks import build_model
from al.learning.scorer import to_input
from benchmarks import synthetic
from benchmarks.trained import trained

NETWORKS = {"small_cnn": 3, "efficientnet_b0": 49, "resnet18": 20, "mobilenet_v3_small": 34}
"""Of the README and the usual ones: how many batch normalisations each has, all behind a convolution."""


def network(name):
    return trained(build_model(name, 6, weights="none", dropout=0.3, image_size=32, seed=1))


def example(side=32):
    return torch.linspace(-1, 1, 2 * 3 * side**2).view(2, 3, side, side)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ready", [for_training, partial(for_training, on_cpu=False)], ids=["cpu", "gpu"])
def test_every_batch_normalisation_is_folded(name, ready):
    model = ready(network(name))
    pairs = conv_bn_pairs(model, example())
    assert len(pairs) == NETWORKS[name]
    images = to_input(torch.from_numpy(synthetic.images(8, seed=5)[0]), 32)
    with torch.no_grad():
        expected, found = model(images)[1], fold(model, pairs)(images)[1]
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    assert not [module for module in fold(model, pairs).modules() if isinstance(module, nn.BatchNorm2d)]


def test_of_a_network_of_the_hub(tmp_path):
    name = str(tiny_networks.save("efficientnet", tmp_path / "net"))
    model = for_training(build_model(name, 6, weights="imagenet", dropout=0.3, image_size=32, seed=1)).eval()
    there = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert len(conv_bn_pairs(model, example())) == there > 5


class Failing(nn.Module):
    """A folded network whose forward pass ends in an error of torch."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, images):
        raise self.error


class Insisting(nn.Module):
    """Computes in float32 whatever it is given, as some networks of the Hub do."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, images):
        return None, self.bn(self.conv(images)).mean((2, 3)) @ torch.eye(4)  # of float32: not with float64


def test_a_network_that_insists_on_float32_is_folded():
    assert len(conv_bn_pairs(Insisting().eval(), example())) == 1


MIXED = (
    "Expected all tensors to be on the same device, but got weight is on cpu, different from other tensors on cuda:0",
    "Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same",
)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), *map(RuntimeError, MIXED)],
)
def test_other_faults_are_not_taken_for_what_cannot_be_folded(monkeypatch, error):
    monkeypatch.setattr(folding, "fold", lambda *_: Failing(error))
    with pytest.raises(type(error), match=str(error)[:10]):
        conv_bn_pairs(network("small_cnn"), example())


@pytest.mark.parametrize(
    "said",
    [
        "The size of tensor a (6) must match the size of tensor b (5) at non-singleton dimension 3",
        "mat1 and mat2 shapes cannot be multiplied (2x256 and 64x10)",
        "Given groups=1, weight of size [8, 3, 3, 3], expected input[2, 4, 9, 9] to have 3 channels",
    ],
)
def test_what_does_not_fit_is_left_as_it_is(monkeypatch, said):
    monkeypatch.setattr(folding, "fold", lambda *_: Failing(RuntimeError(said)))
    assert conv_bn_pairs(network("small_cnn"), example()) == []


class Behind(nn.Module):
    """A batch normalisation right behind a convolution, called as `call` says."""

    def __init__(self, norm, call=lambda module, x: module(x)):
        super().__init__()
        self.conv, self.norm, self.call = nn.Conv2d(3, 4, 3), norm, call

    def forward(self, images):
        return None, self.call(self.norm, self.call(self.conv, images)).mean((2, 3))


@pytest.mark.parametrize("lacks", [{"affine": False}, {"track_running_stats": False}])
def test_batch_normalisation_without_weights_or_statistics_is_left_as_it_is(lacks):
    assert conv_bn_pairs(Behind(nn.BatchNorm2d(4, **lacks)).eval(), example()) == []


def test_what_is_called_by_name_is_left_as_it_is():
    assert conv_bn_pairs(Behind(nn.BatchNorm2d(4), lambda module, x: module(input=x)).eval(), example()) == []
