"""AL_FAST: what is taken away is not used, and the results are the same without it."""

from copy import deepcopy

import launch
import numpy as np
import pytest
import runs
import torch
from torch import nn

from al.config import RunConfig
from al.errors import UserError
from al.fast import convolutions
from al.fast.adam import TorchAdam, new_adam
from al.fast.convolutions import for_training, layout
from al.fast.folding import conv_bn_pairs
from al.fast.switch import PARTS, has
from al.learning.networks import build_model
from al.learning.scorer import Scorer
from al.learning.trainer import Trainer
from al.runtime import resolve_runtime
from al.strategies import clustering

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(70) % 10


@pytest.mark.parametrize(
    ("said", "without"),
    [
        (None, set()),
        ("", set()),
        ("all", set()),
        ("1", set()),
        ("none", set(PARTS)),
        ("0", set(PARTS)),
        ("-folding", {"folding"}),
        ("-folding, -slices", {"folding", "slices"}),
    ],
)
def test_names_what_is_not_used(monkeypatch, said, without):
    if said is None:
        monkeypatch.delenv("AL_FAST", raising=False)
    else:
        monkeypatch.setenv("AL_FAST", said)
    assert {part for part in PARTS if not has(part)} == without


@pytest.mark.parametrize("said", ["-speed", "folding", "none,-folding", "-folding,"])
def test_an_unknown_part_is_an_error_that_names_the_parts(monkeypatch, said):
    monkeypatch.setenv("AL_FAST", said)
    with pytest.raises(
        UserError, match=r"^AL_FAST=.*not a part that can be taken away; use all, none, .*-adam,.*-slices"
    ):
        has("folding")


def test_a_run_says_so_on_one_line(launcher, tmp_path):
    outcome = launcher.run(launch.small(tmp_path), env=launch.environment(AL_FAST="-speed"))
    assert outcome.code == 2
    assert "AL_FAST=-speed" in outcome.complaint


def scored_and_trained() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities and features before, and probabilities after an epoch of training."""
    runtime = resolve_runtime("cpu")
    config = RunConfig(model="efficientnet_b0", weights="none", dropout=0.0, lr=1e-4)
    torch.manual_seed(0)
    model = for_training(build_model("efficientnet_b0", 10, weights="none", dropout=0.0, image_size=32, seed=1))
    model.train()
    with torch.no_grad():  # statistics of batch normalisation as of a network in use
        for _ in range(10):
            model(torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    scorer = Scorer(model, runtime, 32)
    before = scorer.predict(runtime.place(IMAGES), features=True)
    trainer = Trainer(model, runtime, image_size=32, settings=config, classes=10)
    trainer.epoch(runtime.place(IMAGES), LABELS, np.arange(70), 1)
    scorer.refresh()
    return before.probs, before.features, scorer.predict(runtime.place(IMAGES)).probs


@pytest.fixture(scope="module")
def with_all():
    return scored_and_trained()


@pytest.mark.parametrize("said", ["none", *(f"-{part}" for part in PARTS if part not in ("allocator", "sketch"))])
def test_scoring_and_training_are_the_same_without(monkeypatch, with_all, said):
    monkeypatch.setenv("AL_FAST", said)
    probs, features, trained = scored_and_trained()
    np.testing.assert_allclose(probs, with_all[0], atol=1e-4)
    np.testing.assert_allclose(features, with_all[1], atol=1e-4 * np.abs(with_all[1]).max())
    np.testing.assert_allclose(trained, with_all[2], atol=2e-2)  # Adam's first steps turn rounding into whole steps


def test_none_is_plain_torch(monkeypatch):
    """No class of this suite but the `Classifier`, no layout of its own, batch normalisation where it was."""
    monkeypatch.setenv("AL_FAST", "none")
    model = build_model("efficientnet_b0", 10, weights="none", dropout=0.3, image_size=32, seed=1)
    kinds = {type(module) for module in for_training(model).modules()}
    assert not [kind for kind in kinds if kind.__module__ == convolutions.__name__]
    assert layout() is torch.contiguous_format
    assert conv_bn_pairs(deepcopy(model), torch.zeros(2, 3, 32, 32)) == []
    assert isinstance(new_adam(model.parameters(), lr=0.1, weight_decay=0, fused=True), TorchAdam)
    scoring = Scorer(model, resolve_runtime("cpu"), 32)._network()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in scoring.modules()) == 49


def test_k_means_without_its_sketch_takes_all_directions(monkeypatch):
    features = np.random.default_rng(0).standard_normal((300, 100), dtype=np.float32)
    generator = np.random.default_rng(0)
    assert clustering._Sketch.of(features, generator).project(features).shape == (300, 32)
    monkeypatch.setenv("AL_FAST", "-sketch")
    assert clustering._Sketch.of(features, generator).project(features).shape == (300, 100)


def test_a_run_without_picks_the_same_at_first(launcher, tmp_path):
    """Later rounds may differ: an epoch of Adam after another makes rounding grow."""
    picks = []
    for name, fast in (("with", "all"), ("without", "none")):
        arguments = launch.small(tmp_path / name, strategy="margin")
        outcome = launcher.run(arguments, env=launch.environment(AL_FAST=fast))
        assert outcome.code == 0, outcome.stderr
        picks.append(runs.read_json(runs.only_run(tmp_path / name) / "al_tracking.json")["selected_indices"])
    assert picks[0][:24] == picks[1][:24], "the rounds of 12"
    assert len(picks[0]) == len(picks[1]) == 30
