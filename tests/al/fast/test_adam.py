"""The optimiser is torch's Adam to the last bit, without what that imports."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from al.fast.adam import Adam, TorchAdam

FUSED = pytest.mark.parametrize("fused", [True, False])


def network() -> nn.Module:
    torch.manual_seed(0)
    unused = nn.Linear(2, 2)
    return nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "unused": unused, "head": nn.Linear(4, 2)}).to(
        memory_format=torch.channels_last
    )


def gradients(model: nn.Module, step: int) -> None:
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(step))
    model["head"](model["conv"](images).mean((2, 3))).square().sum().backward()


def theirs(model: nn.Module, fused: bool) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.001, fused=fused)


def ours(model: nn.Module, fused: bool) -> Adam:
    return Adam(model.parameters(), lr=0.01, weight_decay=0.001, fused=fused)


def torchs(model: nn.Module, fused: bool) -> TorchAdam:
    """What AL_FAST=-adam takes; it has no fused form."""
    return TorchAdam(model.parameters(), lr=0.01, weight_decay=0.001)


def steps(model: nn.Module, optimiser, numbers) -> None:
    for number in numbers:
        optimiser.zero_grad()
        gradients(model, number)
        optimiser.step()


def assert_equal(left: nn.Module, right: nn.Module) -> None:
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name]), name


@FUSED
def test_same_parameters_as_torch(fused):
    model = network()
    reference = copy.deepcopy(model)
    steps(model, ours(model, fused), range(5))
    steps(reference, theirs(reference, fused), range(5))
    assert_equal(model, reference)
    assert torch.equal(model["unused"].weight, network()["unused"].weight)


@FUSED
@pytest.mark.parametrize("kind", [ours, theirs])
def test_goes_on_from_a_state(fused, kind):
    """Its own, and the one that runs of before have in their checkpoint."""
    whole, model = network(), network()
    steps(whole, ours(whole, fused), range(5))
    first = kind(model, fused)
    steps(model, first, range(3))
    second = ours(model, fused)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(model, second, range(3, 5))
    assert_equal(model, whole)


def test_torchs_own_goes_on_from_ours_and_ours_from_it():
    whole, model = network(), network()
    steps(whole, ours(whole, False), range(6))
    optimisers = [make(model, False) for make in (ours, torchs, ours)]
    for number, optimiser in enumerate(optimisers):
        if number:
            optimiser.load_state_dict(copy.deepcopy(optimisers[number - 1].state_dict()))
        steps(model, optimiser, range(2 * number, 2 * number + 2))
    assert_equal(model, whole)


def test_the_rate_of_torchs_own_may_change():
    model, reference = network(), network()
    optimiser, expected = torchs(model, False), theirs(reference, False)
    optimiser.lr = expected.param_groups[0]["lr"] = 0.5
    assert optimiser.lr == 0.5
    steps(model, optimiser, range(2))
    steps(reference, expected, range(2))
    assert_equal(model, reference)


def test_the_rate_may_change():
    model, reference = network(), network()
    optimiser, expected = ours(model, True), theirs(reference, True)
    optimiser.lr = expected.param_groups[0]["lr"] = 0.5
    steps(model, optimiser, range(2))
    steps(reference, expected, range(2))
    assert_equal(model, reference)


def test_leaves_the_compiler_alone():
    code = """
import sys, torch
from al.fast.adam import Adam, TorchAdam
weight = torch.nn.Parameter(torch.ones(3))
optimiser = Adam([weight], lr=0.1, weight_decay=0, fused=True)
weight.sum().backward()
optimiser.step()
assert (weight < 1).all()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
