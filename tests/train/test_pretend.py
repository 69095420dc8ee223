"""Whole runs on a device that is not the CPU, as far as a machine without one can have them.

A tensor left on the CPU, or a generator of the wrong device, ends a run there as on a GPU; and what a GPU would wait
for is counted, so that it does not grow unseen.
"""

import json
import os
import subprocess
import sys

import launch
import numpy as np
import pretend
import pytest
import runs
import tiny_networks
from tiny_clip import save_clip
from transformers import ConvNextImageProcessor

from al.config import STARTS
from al.strategies import REGISTRY

pytestmark = pytest.mark.timeout(900)  # all runs in one process

FEW = {
    **{"device": "pretend", "budget": 42, "batch_fraction": 0.3, "max_epochs": 2, "patience": 1},
    "pictures": "false",
}
"""One acquisition of 12 labels."""
FILE, MODEL, CLIP = "file:vectors", "a vision model", "a CLIP model"
"""What embeddings and zero-shot labels come from; the models compute them on the device."""
RUNS = {
    "margin": {"augment": "true", "class_weights": "true"},
    "typiclust": {},
    "bald": {"schedule": "converge", "warm_start": "false"},
    "dropquery": {"schedule": "converge"},
    "badge": {"precision": "bfloat16"},
    "alfa_mix": {"schedule": "converge", "warm_start": "true", "max_epochs": 1},
    "stratified": {},
    "frozen": {"model": "frozen", "strategy": "margin", "features": FILE},
    "probcover": {"init": "typiclust_typical", "features": FILE},
    "uncertainty": {"init": "clip", "clip_model": CLIP},
    "entropy": {"init": "coreset", "features": MODEL},
    "random": {"init": "random"},
    "typiclust_typical": {"init": "probcover", "features": FILE},
    "coreset": {"init": "maxherding", "features": FILE},
    "maxherding": {},
    "uherding": {},
    "bait": {},
    "cluster_margin": {"schedule": "converge", "features": MODEL},
}
"""Every strategy, start, schedule and learner."""


def ask(requests, **environment):
    done = subprocess.run(
        [sys.executable, pretend.__file__, json.dumps(requests)],
        cwd=launch.ROOT,
        env=launch.environment(
            PYTHONPATH=os.pathsep.join((str(launch.ROOT), str(launch.ROOT / "tests/support"))), **environment
        ),
        capture_output=True,
        text=True,
        timeout=800,
    )
    if done.returncode == pretend.MISSING:
        pytest.skip(f"this torch has no backends in Python: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def arguments(folder, name, **changed):
    generator = np.random.default_rng(0)
    inputs = {FILE: f"file:{folder / 'features.npz'}", MODEL: str(folder / "resnet"), CLIP: str(folder / "clip")}
    if not (folder / "features.npz").exists():
        arrays = {"train": (1258, 24), "test": (539, 24)}
        np.savez(folder / "features.npz", **{k: generator.random(s, dtype=np.float32) for k, s in arrays.items()})
        save_clip(folder / "clip")
        tiny_networks.save("resnet", folder / "resnet")
        ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder / "resnet")
    parameters = {"strategy": name, **FEW, **RUNS[name], **changed}
    return launch.small(folder / name, **{key: inputs.get(value, value) for key, value in parameters.items()})


def test_every_strategy_and_start_is_run():
    """There is no computing by torch in a strategy, but each asks a learner for other arrays."""
    strategies = {parameters.get("strategy", name) for name, parameters in RUNS.items()}
    assert strategies == set(REGISTRY)
    assert {"stratified"} | {parameters["init"] for parameters in RUNS.values() if "init" in parameters} == set(STARTS)


@pytest.fixture(scope="module")
def folder(once):
    """Results of all runs, in one process on the device."""

    def make(folder):
        answers = ask([arguments(folder, name) for name in RUNS])
        (folder / "answers.json").write_text(json.dumps(dict(zip(RUNS, answers))))

    return once("pretend", make)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_to_its_end_there(folder, name):
    answer = json.loads((folder / "answers.json").read_text())[name]
    assert answer["code"] == 0
    device = runs.read_json(runs.only_run(folder / name) / "performance_metrics.json")["environment"]["device"]
    if name == "frozen":  # a linear probe, which would wait there hundreds of times a fit
        assert device.startswith("cpu")
        assert answer["launches"] < 5, "the device was tried out"
    else:
        assert device.startswith("pretend")
        assert answer["launches"] > 100, "it did compute there"


@pytest.mark.parametrize("name", ["margin", "typiclust", "uncertainty", "entropy"])
def test_the_first_picks_are_those_of_the_cpu(folder, launcher, tmp_path, name):
    """The initial pool too, which zero-shot labels or embeddings may have chosen."""
    outcome = launcher.run(arguments(tmp_path, name, device="cpu"))
    assert outcome.code == 0, outcome.stderr
    here, there = (
        runs.read_json(runs.only_run(place / name) / "al_tracking.json")["rounds"] for place in (tmp_path, folder)
    )
    assert [query["rows"] for query in here] == [query["rows"] for query in there]
    assert [len(query["rows"]) for query in here] == [30, 12]


def test_mixing_devices_is_an_error_there():
    """Or all the runs above would show nothing."""
    (found,) = ask(["mix"])
    said = dict(line.split(": ") for line in found["said"])
    assert said.pop("a generator") == "Expected a 'pretend' device type for generator"
    assert set(said.values()) == {"Expected all tensors to be on the same device"}
    assert len(said) == 4


@pytest.fixture(scope="module")
def counted(once):
    """Of a step, an epoch, a scored batch, a pass and a checkpoint, for two networks."""

    def make(folder):
        (folder / "counts.json").write_text(
            json.dumps(dict(zip(LAUNCHES, ask([f"steps {name}" for name in LAUNCHES]))))
        )

    return runs.read_json(once("pretend_counts", make) / "counts.json")


LAUNCHES = {"small_cnn": 47, "efficientnet_b0": 990}
"""Of a training step with augmentation and class weights: forward, backward and Adam.

On a GPU the gradient of each of the 49 activations is one of them, and here it is six; and the gradients of a
convolution, which are one here, are several there.
"""


@pytest.mark.parametrize("model", LAUNCHES)
class TestCounts:
    def test_a_step_waits_for_nothing(self, counted, model):
        step = counted[model]["step"]
        assert (step["uploads"], step["downloads"], step["waits"]) == (0, 0, 0)
        assert step["launches"] <= LAUNCHES[model]

    def test_an_epoch_sends_its_images_addresses_once(self, counted, model):
        epoch = counted[model]["epoch"]
        assert epoch["uploads"] <= 4, "rows, targets, maps, class weights"
        assert epoch["downloads"] + epoch["waits"] <= 3, "confusion and loss"
        assert epoch["launches"] <= 20

    def test_a_scored_batch_brings_its_features(self, counted, model):
        batch = counted[model]["batch"]
        assert batch["uploads"] == 0, "rows are sent once a pass"
        assert batch["downloads"] + batch["waits"] <= 1

    def test_a_pass_brings_its_logits_once(self, counted, model):
        whole = counted[model]["pass"]
        assert whole["uploads"] <= 1, "rows"
        assert whole["downloads"] + whole["waits"] <= 1

    def test_an_evaluation_waits_once(self, counted, model):
        """Of three batches, without features."""
        evaluation = counted[model]["evaluation"]
        assert evaluation["uploads"] <= 1
        assert evaluation["downloads"] + evaluation["waits"] <= 1

    def test_a_checkpoint_is_one_copy(self, counted, model):
        checkpoint = counted[model]["checkpoint"]
        assert (checkpoint["downloads"], checkpoint["uploads"], checkpoint["waits"]) == (1, 0, 0)


def test_plain_torch_launches_more():
    """Or the counts above would show nothing: copies for activations in place, and counters, are there to be saved."""
    (plain,) = ask(["steps efficientnet_b0"], AL_FAST="-launches")
    assert plain["step"]["launches"] >= LAUNCHES["efficientnet_b0"] + 49 + 49
