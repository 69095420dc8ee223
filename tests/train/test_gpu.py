"""On an accelerator: the same science, repeatable. Run with `make test-gpu`."""

import copy

import launch
import numpy as np
import pytest
import runs
import torch
from trained import trained

from al.learning.networks import build_model
from al.learning.scorer import Scorer
from al.runtime import resolve_runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]


@pytest.fixture(scope="module")
def network():
    """With statistics as of training: of a fresh one all probabilities are alike, and every comparison passes."""
    return trained(build_model("efficientnet_b0", 10, weights="none", dropout=0.3, image_size=32, seed=1))


IMAGES = np.random.default_rng(0).integers(0, 256, (600, 32, 32, 3), dtype=np.uint8)


def scored(network, device, precision):
    runtime = resolve_runtime(device, precision)
    model = copy.deepcopy(network).to(runtime.device)
    return Scorer(model, runtime, 32).predict(runtime.place(IMAGES), features=True)


def test_scoring_agrees_with_the_cpu(network):
    cpu, gpu = (scored(network, device, "float32") for device in ("cpu", "auto"))
    assert cpu.probs.std(axis=0).max() > 0.01, "the images are told apart"
    np.testing.assert_allclose(gpu.probs, cpu.probs, atol=1e-3)
    np.testing.assert_allclose(gpu.features, cpu.features, atol=1e-3 * np.abs(cpu.features).max())


def test_everything_is_folded_there_too(network):
    runtime = resolve_runtime("auto", "float32")
    scorer = Scorer(copy.deepcopy(network).to(runtime.device), runtime, 32)
    assert not [module for module in scorer._network().modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_bfloat16_stays_near(network):
    exact, rough = (scored(network, "auto", precision) for precision in ("float32", "bfloat16"))
    np.testing.assert_allclose(rough.probs, exact.probs, atol=0.3)
    assert (rough.probs.argmax(1) == exact.probs.argmax(1)).mean() > 0.8


def test_the_same_seed_gives_the_same_picks(tmp_path):
    found = []
    for name in ("one", "two"):
        outcome = launch.command(*launch.small(tmp_path / name, strategy="typiclust", device="auto"))
        assert outcome.code == 0, outcome.stderr
        found.append(runs.read_json(runs.only_run(tmp_path / name) / "al_tracking.json")["selected_indices"])
    assert found[0] == found[1]
