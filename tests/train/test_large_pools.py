"""Large pools: a part of them scored each round, and outputs that do not fit into memory."""

import copy
import errno
import gc
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import launch
import numpy as np
import pytest
import runs
import tiny_data
import torch

from al.budget import budget_of
from al.candidates import candidates
from al.config import RunConfig
from al.errors import UserError
from al.learning.networks import build_model
from al.learning.scorer import Scorer
from al.runtime import resolve_runtime
from al.storage import disk_array as spill
from al.storage.disk_array import DiskArray
from al.strategies import REGISTRY, Pool

NOTHING_IN_MEMORY = 0


def bounded(monkeypatch, size):
    monkeypatch.setattr(spill, "BOUND_BYTES", size)


def in_use(folder):
    """Whether this process has a file below `folder` mapped or open, deleted ones too."""
    links = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(handle.readlink()))
    return str(folder) in Path("/proc/self/maps").read_text() or any(link.startswith(str(folder)) for link in links)


def resident_kib(folder):
    """Memory that files below `folder` take by being mapped into this process."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = str(folder) in line
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


class TestSpill:
    @pytest.mark.parametrize("shape", [(7, 5), (3, 7, 5), (0, 5), (7, 0)])
    @pytest.mark.parametrize("size", [NOTHING_IN_MEMORY, 139, 2**20])
    def test_gives_back_what_was_written(self, tmp_path, monkeypatch, shape, size):
        bounded(monkeypatch, size)
        expected = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        array = DiskArray(shape, tmp_path)
        flat = expected.reshape(-1, shape[-1]) if expected.size else expected
        for start in (4, 0, 8, 12, 16, 20):  # in any order
            array.write(start, flat[start : start + 4])
        found = array.read()
        assert np.array_equal(found, expected)
        assert isinstance(found, np.memmap) is (4 * expected.size > size)

    def test_leaves_nothing_behind(self, tmp_path, monkeypatch):
        bounded(monkeypatch, NOTHING_IN_MEMORY)
        array = DiskArray((8, 4), tmp_path)
        assert not list(tmp_path.iterdir()), "a process that is killed now would leave it"
        array.write(0, np.ones((8, 4), np.float32))
        found = array.read()
        del array
        assert found.sum() == 32
        assert in_use(tmp_path)
        del found
        gc.collect()
        assert not in_use(tmp_path)

    @pytest.mark.parametrize("when", ["before", "while"])
    def test_full_disk_is_told_in_one_line(self, tmp_path, monkeypatch, when):
        bounded(monkeypatch, NOTHING_IN_MEMORY)

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        if when == "before":
            monkeypatch.setattr(os, "posix_fallocate", full)
            with pytest.raises(UserError) as refused:
                DiskArray((2**20, 2**10), tmp_path)
        else:
            monkeypatch.setattr(os, "posix_fallocate", lambda *_: None)
            array = DiskArray((2**20, 2**10), tmp_path)
            array._file = type("Full", (), {"seek": full})()
            with pytest.raises(UserError) as refused:
                array.write(0, np.ones((1, 2**10), np.float32))
        message = str(refused.value)
        for part in (str(tmp_path), "4.0 GiB", "No space left", "pool_sample", "results_dir"):
            assert part in message
        assert "\n" not in message

    def test_folder_that_is_not_there_is_told(self, tmp_path, monkeypatch):
        bounded(monkeypatch, NOTHING_IN_MEMORY)
        with pytest.raises(UserError, match="No such file"):
            DiskArray((8, 4), tmp_path / "none")


@pytest.fixture(scope="module")
def model():
    return build_model("small_cnn", 6, weights="none", dropout=0.3, image_size=32, seed=1)


def predicted(model, folder, count=1203):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    scorer = Scorer(model, resolve_runtime("cpu", "float32"), 32, folder)
    found = scorer.predict(torch.from_numpy(images), features=True)
    return {
        "probs": found.probs,
        "features": found.features,
        "activations": found.features,
        "head": model.head.weight.detach().numpy(),
        "mc_probs": scorer.dropout_probs(found.features, 4, 0.3, 5),
        "drop_votes": scorer.dropout_votes(found.features, 3, 0.75, 5),
    }


class TestOutputsOnDisk:
    def test_are_those_in_memory(self, model, tmp_path, monkeypatch):
        in_memory = predicted(model, tmp_path)
        bounded(monkeypatch, NOTHING_IN_MEMORY)
        on_disk = predicted(model, tmp_path)
        for name in ("features", "mc_probs"):
            assert isinstance(on_disk[name], np.memmap)
            assert not isinstance(in_memory[name], np.memmap)
        for name, expected in in_memory.items():
            assert np.array_equal(on_disk[name], expected), name
        assert np.array_equal(on_disk["drop_votes"], predicted(model, tmp_path)["drop_votes"])

    @pytest.mark.parametrize("name", [name for name, method in REGISTRY.items() if not method.baseline])
    def test_give_the_same_picks(self, model, tmp_path, monkeypatch, name):
        labelled = np.arange(1203) % 20 == 0
        labels = np.where(labelled, np.arange(1203) % 6, -1)
        pools = [Pool(labelled, 6, labels, **predicted(model, tmp_path))]
        bounded(monkeypatch, NOTHING_IN_MEMORY)
        pools.append(Pool(labelled, 6, labels, **predicted(model, tmp_path)))
        one, two = (REGISTRY[name].select(pool, 30, np.random.default_rng(1)) for pool in pools)
        assert one.positions.tolist() == two.positions.tolist()
        np.testing.assert_array_equal(one.scores, two.scores)

    def test_pages_of_images_and_outputs_are_given_back(self, model, tmp_path, monkeypatch):
        bounded(monkeypatch, NOTHING_IN_MEMORY)
        np.save(tmp_path / "images.npy", np.zeros((6000, 32, 32, 3), np.uint8))
        runtime, images = resolve_runtime("cpu", "float32"), np.load(tmp_path / "images.npy", mmap_mode="r")
        scorer = Scorer(model, runtime, 32, tmp_path)
        scorer.mapped = (images,)
        features = scorer.predict(runtime.place(images), features=True).features
        assert resident_kib(tmp_path) < 3000, "of 18,000 of images and 1,500 of features"
        features.sum()
        assert resident_kib(tmp_path) > 1400
        scorer.dropout_votes(features, 2, 0.5, 0)
        assert resident_kib(tmp_path) < 1000

    def test_diverged_features_are_told(self, model, tmp_path, monkeypatch):
        broken = copy.deepcopy(model)
        with torch.no_grad():
            broken.backbone[0].weight.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match="lower lr"):
            predicted(broken, tmp_path)

    def test_run_is_the_same_and_its_folder_clean(self, launcher, tmp_path):
        arguments = {"strategy": "typiclust", "max_epochs": 4}
        assert launcher.run(launch.small(tmp_path / "memory", **arguments)).code == 0
        code = "import sys, launch, train; from al.storage import disk_array; launch._draw_nothing(); "
        code += "disk_array.BOUND_BYTES = 0; sys.exit(train.main(sys.argv[1:]))"
        command = [sys.executable, "-W", "error::ResourceWarning", "-c", code]
        command += launch.small(tmp_path / "disk", **arguments)
        env = launch.environment(PYTHONPATH=str(launch.ROOT / "tests" / "support"))
        done = subprocess.run(command, cwd=launch.ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs.assert_same(runs.only_run(tmp_path / "disk"), runs.only_run(tmp_path / "memory"))


class TestImagesLargerThanTheDevice:
    """The training set has 3.7 MiB of pixels, the test set 1.6."""

    def test_the_run_is_the_same(self, launcher, tmp_path):
        for name, mib in (("bound", "1"), ("test", "4"), ("free", "")):
            env = launch.environment(AL_DEVICE_MIB=mib)
            assert launcher.run(launch.small(tmp_path / name, strategy="typiclust", max_epochs=4), env).code == 0
        for name in ("bound", "test"):
            runs.assert_same(runs.only_run(tmp_path / name), runs.only_run(tmp_path / "free"))

    def test_where_they_lie_is_no_part_of_what_a_run_is(self, launcher, tmp_path):
        small = {"max_epochs": 3, "budget": 42}
        for where in ("host", "device"):
            outcome = launcher.run(launch.small(tmp_path / where, images_on=where, **small))
            assert outcome.code == 0, outcome.stderr
        host, device = (runs.only_run(tmp_path / where) for where in ("host", "device"))
        assert host.parent.name == device.parent.name
        lines = [runs.read_lines(folder / "rounds.jsonl") for folder in (host, device)]
        assert runs.without(lines[0], runs.TIMES) == runs.without(lines[1], runs.TIMES)
        assert (host / "best_model.safetensors").read_bytes() == (device / "best_model.safetensors").read_bytes()
        again = launcher.run(launch.small(tmp_path / "host", images_on="device", **small))
        assert "complete already" in again.stdout

    def test_what_has_no_file_is_told(self, launcher, tmp_path):
        outcome = launcher.run(launch.small(tmp_path, images_on="disk"))
        assert outcome.code == 2
        assert outcome.complaint.startswith("error: images_on=disk: the images of digits are in no file")


class TestImagesDecodedWhenTheyAreRead:
    @pytest.mark.parametrize("strategy", ["margin", "typiclust"])
    def test_the_run_is_that_of_the_cache_bit_for_bit(self, launcher, tmp_path, strategy, monkeypatch):
        monkeypatch.setattr(runs, "PLACES", runs.PLACES | {"images_on", "cache"})
        pictures = tiny_data.image_folder(tmp_path / "pictures", count=150, size=(40, 32))
        small = {"dataset": "imagefolder", "data_dir": pictures, "strategy": strategy, "max_epochs": 4}
        for name, more in (("off", {}), ("host", {"images_on": "host"}), ("on", {})):
            cache = "on" if name == "on" else "off"
            outcome = launcher.run(launch.small(tmp_path / name, cache=cache, **small, **more, augment="true"))
            assert outcome.code == 0, outcome.stderr
            assert any(pictures.glob(".cache-al/*/test.npy"))
            assert (sum(file.stat().st_size for file in pictures.glob(".cache-al/*/*.npy")) > 10**6) is (name == "on")
        for name in ("off", "host"):
            runs.assert_same(runs.only_run(tmp_path / name), runs.only_run(tmp_path / "on"))
        again = launcher.run(launch.small(tmp_path / "on", cache="off", **small, augment="true"))
        assert "complete already" in again.stdout


def config(**changed):
    return RunConfig(**launch.SMALL | {"strategy": "coreset", "pool_sample": 200} | changed)


class TestPoolSample:
    scope = np.arange(10, 1000)
    labelled = np.isin(np.arange(1258), np.arange(0, 1258, 40))

    def unlabelled(self, rows):
        return rows[~self.labelled[rows]]

    def test_is_so_many_unlabelled_rows_of_the_scope(self):
        rows = candidates(config(), self.scope, self.labelled, 1)
        assert len(self.unlabelled(rows)) == 200
        assert (np.diff(rows) > 0).all()
        assert np.isin(rows, self.scope).all()

    @pytest.mark.parametrize(("size", "unlabelled"), [(200, 200), (None, 966)])
    def test_labelled_rows_are_there_for_strategies_that_compare_with_them(self, size, unlabelled):
        known = self.scope[self.labelled[self.scope]]
        for strategy in ("coreset", "probcover", "typiclust_typical"):
            rows = candidates(config(strategy=strategy, pool_sample=size), self.scope, self.labelled, 1)
            assert np.isin(known, rows).all()
            assert len(rows) == unlabelled + len(known)
        for strategy in ("uncertainty", "typiclust", "bald", "badge"):
            rows = candidates(config(strategy=strategy, pool_sample=size), self.scope, self.labelled, 1)
            assert len(rows) == unlabelled
            assert not self.labelled[rows].any()

    def test_embeddings_are_read_where_they_lie(self, tmp_path):
        everything, unlabelled = np.arange(1258), int((~self.labelled).sum())
        np.save(tmp_path / "vectors.npy", np.zeros((3, 2), np.float32))
        for strategy, scope, expected in [
            ("typiclust", everything, 1258),
            ("typiclust", self.scope, 966),
            ("uncertainty", everything, unlabelled),
        ]:
            changed = config(strategy=strategy, pool_sample=None, features=f"file:{tmp_path}/vectors.npy")
            assert len(candidates(changed, scope, self.labelled, 1)) == expected

    def test_follows_from_seeds_and_round_alone(self):
        cases = [({}, 1), ({}, 2), ({"seed": 7}, 1), ({"split_seed": 7}, 1)]
        drawn = [candidates(config(**changed), self.scope, self.labelled, round_) for changed, round_ in cases]
        drawn = [rows.tolist() for rows in drawn]
        assert drawn[0] == candidates(config(), self.scope, self.labelled, 1).tolist()
        assert all(other != drawn[0] for other in drawn[1:])

    @pytest.mark.parametrize("size", [None, 966, 5000])
    def test_is_everything_where_no_more_is_left(self, size):
        assert len(self.unlabelled(self.scope)) == 966
        rows = candidates(config(pool_sample=size), self.scope, self.labelled, 1)
        assert np.array_equal(rows, self.scope)

    def test_smaller_than_a_round_is_refused(self):
        with pytest.raises(UserError) as refused:
            budget_of(config(pool_sample=11), 250, 1258, 10)
        message = str(refused.value)
        assert message.startswith("pool_sample=11: a round acquires up to 12 images")
        assert "raise pool_sample" in message
        assert budget_of(config(pool_sample=12), 250, 1258, 10).total == 60

    def test_a_growing_round_counts(self):
        with pytest.raises(UserError, match="pool_sample=12: a round acquires up to 18"):
            budget_of(config(pool_sample=12, batch_growth=2), 250, 1258, 10)

    def test_identifies_a_run_but_no_baseline(self):
        assert config().digest() != config(pool_sample=None).digest() != config(pool_sample=300).digest()
        assert config().baseline_of().digest() == config(pool_sample=None).baseline_of().digest()

    def test_run_is_repeatable_and_resumes(self, launcher, tmp_path):
        for name in ("one", "two"):
            strike = ("replace checkpoint.pt", 2, 9) if name == "two" else None
            outcome = launcher.run(launch.small(tmp_path / name, pool_sample=100, strategy="coreset"), strike=strike)
            assert outcome.code == (0 if name == "one" else -9), outcome.stderr
        outcome = launcher.run(launch.small(tmp_path / "two", pool_sample=100, strategy="coreset"))
        assert outcome.code == 0, outcome.stderr
        runs.assert_same(runs.only_run(tmp_path / "two"), runs.only_run(tmp_path / "one"))
        rounds = runs.read_lines(runs.only_run(tmp_path / "one") / "rounds.jsonl")
        assert [len(row["rows"]) for row in rounds] == [30, 12, 12, 6]
        labelled = np.zeros(1258, bool)
        for row in rounds[:-1]:
            labelled[row["rows"]] = True
            seen = candidates(config(pool_sample=100), np.arange(1258), labelled, row["round"] + 1)
            assert np.isin(rounds[row["round"] + 1]["rows"], seen).all()
