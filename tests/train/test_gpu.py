"""On an accelerator: the same science, repeatable. Run with `make test-gpu`."""

import launch
import numpy as np
import pytest
import runs
import torch

from al.learning.networks import build_model
from al.learning.scorer import Scorer
from al.runtime import Runtime, resolve_runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]


def test_scoring_agrees_with_the_cpu():
    images = np.random.default_rng(0).integers(0, 256, (600, 32, 32, 3), dtype=np.uint8)
    probs = []
    for runtime in (resolve_runtime("cpu", "float32"), resolve_runtime("auto", "float32")):
        model = build_model("efficientnet_b0", 10, weights="none", dropout=0.3, image_size=32, seed=1)
        scorer = Scorer(model.to(runtime.device), runtime, 32)
        probs.append(scorer.predict(runtime.place(images), features=True).probs)
    np.testing.assert_allclose(probs[1], probs[0], atol=1e-4)


def test_bfloat16_picks_the_same_images():
    runtime = resolve_runtime("auto", "float32")
    images = runtime.place(np.random.default_rng(0).integers(0, 256, (4000, 32, 32, 3), dtype=np.uint8))
    model = build_model("efficientnet_b0", 10, weights="none", dropout=0.3, image_size=32, seed=1).to(runtime.device)
    exact = Scorer(model, runtime, 32).predict(images).probs
    rough = Scorer(model, Runtime(runtime.device, torch.bfloat16), 32).predict(images).probs
    np.testing.assert_allclose(rough, exact, atol=0.03)


def test_the_same_seed_gives_the_same_picks(tmp_path):
    found = []
    for name in ("one", "two"):
        outcome = launch.command(*launch.small(tmp_path / name, strategy="typiclust", device="auto"))
        assert outcome.code == 0, outcome.stderr
        found.append(runs.read_json(runs.only_run(tmp_path / name) / "al_tracking.json")["selected_indices"])
    assert found[0] == found[1]
