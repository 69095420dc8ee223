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

pytestmark = pytest.mark.timeout(900)  # seven runs in one process

FEW = {"device": "pretend", "budget": 42, "batch_fraction": 0.3, "max_epochs": 2, "patience": 1}
"""One acquisition of 12 labels."""
RUNS = {
    "margin": {"augment": "true", "class_weights": "true"},
    "typiclust": {},
    "bald": {"schedule": "converge", "warm_start": "false"},
    "dropquery": {"schedule": "converge"},
    "badge": {"precision": "bfloat16"},
    "frozen": {"model": "frozen", "strategy": "margin"},
    "probcover": {"init": "typiclust_typical"},
}


def ask(requests):
    done = subprocess.run(
        [sys.executable, pretend.__file__, json.dumps(requests)],
        cwd=launch.ROOT,
        env=launch.environment(PYTHONPATH=os.pathsep.join((str(launch.ROOT), str(launch.ROOT / "tests/support")))),
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
    if not (folder / "features.npz").exists():
        arrays = {"train": (1258, 24), "test": (539, 24)}
        np.savez(folder / "features.npz", **{k: generator.random(s, dtype=np.float32) for k, s in arrays.items()})
    parameters = {"strategy": name, **FEW, **RUNS[name], **changed}
    if name in ("frozen", "probcover"):
        parameters["features"] = f"file:{folder / 'features.npz'}"
    return launch.small(folder / name, **parameters)


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
    result = runs.read_json(runs.only_run(folder / name) / "performance_metrics.json")
    assert result["environment"]["device"].startswith("pretend")
    assert answer["launches"] > 100, "it did compute there"


@pytest.mark.parametrize("name", ["margin", "typiclust"])
def test_the_first_picks_are_those_of_the_cpu(folder, launcher, tmp_path, name):
    outcome = launcher.run(arguments(tmp_path, name, device="cpu"))
    assert outcome.code == 0, outcome.stderr
    here, there = (
        runs.read_json(runs.only_run(place / name) / "al_tracking.json")["selected_indices"]
        for place in (tmp_path, folder)
    )
    assert here[:12] == there[:12]


def test_mixing_devices_is_an_error_there():
    """Or all the runs above would show nothing."""
    (found,) = ask(["mix"])
    said = dict(line.split(": ") for line in found["said"])
    assert said.pop("a generator") == "Expected a 'pretend' device type for generator"
    assert set(said.values()) == {"Expected all tensors to be on the same device"}
    assert len(said) == 4


def test_a_step_waits_for_nothing():
    (found,) = ask(["steps"])
    assert found["step"].items() >= {"uploads": 0, "downloads": 0, "waits": 0}.items()
    assert found["step"]["launches"] <= 136, "of small_cnn, forward, backward and Adam"
    assert found["epoch"]["uploads"] <= 4, "rows, targets, maps, class weights"
    assert found["epoch"]["downloads"] + found["epoch"]["waits"] <= 3, "confusion and loss"
    assert found["batch"]["uploads"] == 0, "rows are sent once a pass"
    assert found["batch"]["downloads"] + found["batch"]["waits"] <= 1, "features"
    assert found["pass"]["uploads"] <= 1
    assert found["pass"]["downloads"] + found["pass"]["waits"] <= 1, "logits"
