"""`python -m data_prep embed` as a user gives it: alone, with several workers, under torchrun, with Ray Data."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import launch
import numpy as np
import pytest
from tiny_data import image_folder, silent

from data_prep.__main__ import main
from data_prep.datasets import load_dataset
from data_prep.embeddings import embed
from data_prep.sharded.order import Order
from data_prep.sharded.store import Store

SHARD = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("images") / "data", 80, size=(32, 32))


@pytest.fixture(scope="module")
def alone(data, tiny_models, tmp_path_factory):
    """What one process makes."""
    order = an_order(data, tiny_models, tmp_path_factory.mktemp("alone") / "out")
    list(order.worker().run())
    return np.load(order.store.vectors.path)


@pytest.fixture(autouse=True)
def _signals():
    """A command that runs in this process sets handlers."""
    before = {
        signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    }
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def an_order(data, models, out, **changed) -> Order:
    values = {"features": str(models["resnet"]), "features_size": 32, "shard_size": SHARD, "device": "cpu"}
    return Order(**values | {"data": str(data), "out": str(out)} | changed)


def command(order: Order, *more: str, before=(sys.executable,), home=None) -> subprocess.Popen:
    line = [*before, "-m", "data_prep", "embed", *order.arguments(), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=launch.ROOT, env=launch.environment(home), **pipes)


def kill_one(order: Order) -> None:
    """Kill the process that has the first shard, once there is one."""
    lock, deadline = order.store.folder / "shards" / "000000.lock", time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ValueError):
            os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
            return
        time.sleep(0.002)
    raise AssertionError("no shard was begun")


def test_vectors_are_those_that_a_run_computes(data, tiny_models, cpu, tmp_path):
    order = an_order(data, tiny_models, tmp_path / "out", dtype="float32")
    assert sum(order.worker().run()) == 160
    names = (tmp_path / "out" / "images.txt").read_text().splitlines()
    vectors, images = np.load(tmp_path / "out" / "embeddings.npy"), load_dataset("imagefolder", data, progress=silent)
    for split in ("train", "test"):
        rows = [names.index(path) for path in getattr(images, split).paths]
        computed = embed(images, split, order.features, 32, cpu, tmp_path / "cache", silent)
        np.testing.assert_allclose(vectors[rows], computed, atol=1e-6)
        assert np.abs(vectors[rows] - computed[::-1]).max() > 1e-3, "the comparison could not fail"


def test_native_images_that_are_not_square_are_cut_as_a_run_cuts_them(tiny_models, cpu, tmp_path):
    data = image_folder(tmp_path / "data", 9, size=(48, 32))
    order = an_order(data, tiny_models, tmp_path / "out", dtype="float32")
    list(order.worker().run())
    images = load_dataset("imagefolder", data, progress=silent)
    computed = embed(images, "test", order.features, 32, cpu, tmp_path / "cache", silent)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "embeddings.npy")[:9], computed, atol=1e-6)


def test_two_workers_of_which_one_is_killed(data, alone, tiny_models, tmp_path):
    order = an_order(data, tiny_models, tmp_path / "out")
    process = command(order, "--workers=2")
    kill_one(order)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "a worker was killed by SIGKILL; the others have made its shards" in stderr
    assert stdout.startswith("160 embeddings of 16 dimensions, float16, 10 shards; use them with --features=file:")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "embeddings.npy"), alone)


@pytest.mark.slow
def test_a_signal_stops_all_and_they_go_on_later(data, alone, tiny_models, tmp_path):
    order = an_order(data, tiny_models, tmp_path / "out", shard_size=2)
    process = command(order, "--workers=2")
    while not (tmp_path / "out" / "shards" / "000001.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75
    assert stderr.splitlines()[-1] == "stopped by SIGUSR1: give the same command again to go on"
    assert 0 < len(Store(tmp_path / "out").pending()) < 80
    assert main(["embed", *order.arguments()]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "out" / "embeddings.npy"), alone, atol=1e-3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": "file:x"}, "--features=file:x: names embeddings; name the model that is to make some"),
        ({"features": "no model"}, "not a Hub id"),
        ({"shard_size": 0}, "--shard-size=0: too few; use 1 or more"),
        ({"data": "nowhere"}, "--data=nowhere: no such folder"),
        ({"out": "/dev/null/out"}, "the embeddings cannot be written there (Not a directory)"),
        ({"features_size": -3}, "features_size=-3"),
    ],
)
def test_mistakes_are_one_line(data, tiny_models, tmp_path, capsys, changed, message):
    order = replace(an_order(data, tiny_models, tmp_path / "out"), **changed)
    assert main(["embed", *order.arguments()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.slow
def test_what_all_workers_say_is_said_once(data, tiny_models, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    process = command(an_order(data, tiny_models, tmp_path / "out", features=str(tmp_path / "model")), "--workers=2")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(stderr.splitlines()) == 1, stderr


def test_without_ray_the_extra_is_named(data, tiny_models, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["embed", *an_order(data, tiny_models, tmp_path / "out").arguments(), "--ray"]) == 2
    assert "pip install 'active-learning-swept[ray]'" in capsys.readouterr().err


@pytest.mark.slow
def test_under_torchrun(data, alone, tiny_models, tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = command(an_order(data, tiny_models, tmp_path / "out"), before=torchrun)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "embeddings.npy"), alone)


@pytest.mark.slow
def test_with_ray_data_an_actor_is_killed(data, alone, tiny_models, tmp_path):
    """A local cluster of two actors; Ray starts the one that dies again, and gives its shard out again."""
    pytest.importorskip("ray")
    order = an_order(data, tiny_models, tmp_path / "out", shard_size=8)
    process = command(order, "--ray", "--workers=2", home=tmp_path)
    kill_one(order)
    _, stderr = process.communicate(timeout=280)
    assert process.returncode == 0, stderr
    np.testing.assert_allclose(np.load(tmp_path / "out" / "embeddings.npy"), alone, atol=1e-3)
    assert len(list((tmp_path / "out" / "shards").glob("*.json"))) == 20
