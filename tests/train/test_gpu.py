"""On an accelerator: the same science, repeatable. Run with `make test-gpu`."""

import copy
import subprocess
import sys
from pathlib import Path

import launch
import numpy as np
import pytest
import runs
import tiny_networks
import torch
import yaml

from al.learning.networks import build_model
from al.learning.scorer import Scorer
from al.runtime import resolve_runtime
from benchmarks import synthetic
from benchmarks.trained import trained
from data_prep.image_encoder import load_vision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here"),
]

IMAGES, _ = synthetic.images(600)


@pytest.fixture(scope="module")
def network():
    """With statistics as of training: of a fresh one all probabilities are alike, and every comparison passes."""
    return trained(build_model("efficientnet_b0", 10, weights="none", dropout=0.3, image_size=32, seed=1))


def scored(network, device, precision):
    runtime = resolve_runtime(device, precision)
    model = copy.deepcopy(network).to(runtime.device)
    return Scorer(model, runtime, 32).predict(runtime.place(IMAGES), features=True)


def finished(results: Path, env=None, **parameters) -> Path:
    """The folder of a small run on the device, carried out now."""
    outcome = launch.command(*launch.small(results, device="auto", **parameters), env=env)
    assert outcome.code == 0, outcome.stderr
    return runs.only_run(results)


def picks(folder: Path) -> list[int]:
    return runs.read_json(folder / "al_tracking.json")["selected_indices"]


@pytest.fixture(scope="module")
def margin_run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("margin"), strategy="margin")


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
    assert np.quantile(np.abs(rough.probs - exact.probs), 0.9) < 0.1
    assert (rough.probs.argmax(1) == exact.probs.argmax(1)).mean() > 0.8


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_embeddings_agree_with_the_cpu(tmp_path, kind):
    from transformers import ViTImageProcessor

    folder = str(tiny_networks.save(kind, tmp_path))
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    encoders = [load_vision(folder, resolve_runtime(device, "float32"), 32) for device in ("cpu", "auto")]
    cpu, gpu = (np.concatenate(list(encoder.images(IMAGES[:100]))) for encoder in encoders)
    assert cpu.std(axis=0).max() > 1e-3, "the images are told apart"
    np.testing.assert_allclose(gpu, cpu, atol=1e-3 * np.abs(cpu).max())


@pytest.mark.parametrize(
    ("strategy", "model"), [("typiclust", "small_cnn"), ("badge", "small_cnn"), ("bald", "efficientnet_b0")]
)
def test_the_same_seed_gives_the_same_run(tmp_path, strategy, model):
    first, second = (finished(tmp_path / name, strategy=strategy, model=model) for name in ("one", "two"))
    runs.assert_same(second, first)


@pytest.mark.parametrize("changed", [{"images_on": "host"}, {"checkpoint_seconds": 60}])
def test_where_a_run_keeps_its_things_changes_nothing(tmp_path, margin_run, changed):
    runs.assert_same(finished(tmp_path, strategy="margin", **changed), margin_run)


def test_images_that_a_card_has_no_room_for_change_nothing(tmp_path, margin_run):
    runs.assert_same(finished(tmp_path, launch.environment(AL_DEVICE_MIB="1"), strategy="margin"), margin_run)


def test_recorded_steps_do_as_single_ones(tmp_path, margin_run):
    singly = finished(tmp_path, launch.environment(AL_FAST="-graphs"), strategy="margin")
    assert picks(singly) == picks(margin_run)


def test_a_killed_run_goes_on_to_the_same_end(tmp_path, margin_run):
    arguments = launch.small(tmp_path, device="auto", strategy="margin")
    process = subprocess.Popen([sys.executable, str(launch.ROOT / "train.py"), *arguments], env=launch.environment())
    epochs = tmp_path / margin_run.parent.name / margin_run.name / "epochs.jsonl"
    while process.poll() is None and not (epochs.exists() and len(runs.read_lines(epochs)) >= 3):
        pass
    process.kill()
    assert process.wait() == -9, "it was at it still"
    assert launch.command(*arguments).code == 0
    runs.assert_same(runs.only_run(tmp_path), margin_run)


def test_the_runner_forks_runs_that_use_the_device(tmp_path):
    """A process that has begun to use the device before it forks leaves its children without one."""
    parameters = launch.SMALL | {"device": "auto", "strategy": "margin"}
    grid = {name: {"value": value} for name, value in parameters.items()} | {"split_seed": {"values": [1, 2]}}
    sweep = {"program": "train.py", "method": "grid", "name": "two", "parameters": grid}
    sweep["command"] = ["${env}", "${interpreter}", "${program}", "${args}"]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(sweep))
    command = [sys.executable, "-m", "sweeps.local", str(tmp_path / "two.yaml"), "--jobs", "2"]
    command += ["--results-dir", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=launch.ROOT, env=launch.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "start anew" not in done.stdout + done.stderr
    assert len(list((tmp_path / "results").rglob("al_tracking.json"))) == 2


def test_torchrun_takes_the_card_of_its_process(tmp_path, margin_run):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    command += [str(launch.ROOT / "train.py"), *launch.small(tmp_path, device="auto", strategy="margin")]
    done = subprocess.run(command, cwd=launch.ROOT, env=launch.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert picks(runs.only_run(tmp_path)) == picks(margin_run)
