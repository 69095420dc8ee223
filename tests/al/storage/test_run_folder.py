"""What is kept on disk: whole or not at all, and by one process at a time."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from al import seeds
from al.config import RunConfig
from al.errors import UserError
from al.labels import Labelled
from al.learning.early_stopping import Plateau
from al.run_state import RunState
from al.storage.files import JsonLines, write_atomically, write_json
from al.storage.run_folder import CorruptCheckpoint, HeldElsewhere, RunFolder

IDENTITY = {"digest": "d" * 64, "fingerprint": "f" * 64}


def names(folder):
    return [path.name for path in folder.iterdir()]


class Learner:
    """As much of a model as a checkpoint sees."""

    def __init__(self, value=0.0):
        self.weights = torch.full((3,), value)

    def state_dict(self):
        return {"weights": self.weights, "step": 7}

    def load_state_dict(self, state):
        self.weights = state["weights"]


def a_state():
    labelled = Labelled(np.array([5, 2, 9]), np.array([1]), np.full(12, -1), np.array([2]))
    labelled.given[[5, 2, 9, 1]] = [0, 1, 0, 2]
    best = {"epoch": 4, "test_metrics": {"accuracy": 61.5, "confusion_matrix": [[1, 2], [3, 4]]}}
    plateau = Plateau(lr=0.0005, best_loss=1.25, stale=2, lr_stale=1)
    return RunState(labelled, 4, 2, 1, plateau, best, False, 12.5)


class TestWriting:
    def test_replaces_the_whole_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("something long that was there before")
        write_atomically(path, "new")
        assert path.read_text() == "new"
        assert names(tmp_path) == ["file"]

    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        path.write_text("old")

        def no_space(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, "new")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file"]

    def test_is_on_disk_before_it_takes_the_name(self, tmp_path, monkeypatch):
        done = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("fsync"))
        real = os.replace
        monkeypatch.setattr(os, "replace", lambda *args: (done.append("replace"), real(*args)))
        write_atomically(tmp_path / "file", b"x")
        assert done == ["fsync", "replace"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_json_is_json(self, tmp_path, value):
        with pytest.raises(ValueError):
            write_json(tmp_path / "file", {"loss": value})
        assert names(tmp_path) == []


class TestJsonLines:
    def test_come_back_as_they_were_written(self, tmp_path):
        lines = JsonLines(tmp_path / "rows.jsonl")
        assert lines.rows() == []
        rows = [{"epoch": 1, "loss": 0.1 + 0.2, "name": "ü\n"}, {"epoch": 2, "pick": None}]
        for row in rows:
            lines.append(row)
        assert lines.rows() == rows
        assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2

    def test_line_that_was_never_finished_is_passed_over_and_cut(self, tmp_path):
        lines = JsonLines(tmp_path / "rows.jsonl")
        lines.append({"epoch": 1})
        with lines.path.open("a") as file:
            file.write('{"epoch": 2, "lo')
        assert lines.rows() == [{"epoch": 1}]
        lines.keep(1)
        lines.append({"epoch": 2})
        assert lines.rows() == [{"epoch": 1}, {"epoch": 2}]

    def test_keep_cuts_what_comes_after(self, tmp_path):
        lines = JsonLines(tmp_path / "rows.jsonl")
        for epoch in range(5):
            lines.append({"epoch": epoch, "loss": epoch / 3})
        assert lines.keep(2) == lines.rows() == [{"epoch": 0, "loss": 0.0}, {"epoch": 1, "loss": 1 / 3}]
        assert lines.keep(9) == lines.rows()

    def test_each_line_is_on_disk_before_the_next(self, tmp_path, monkeypatch):
        synced = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
        lines = JsonLines(tmp_path / "rows.jsonl")
        lines.append({"a": 1})
        lines.append({"a": 2})
        assert synced == [9, 18]


class TestLabelled:
    def test_counts(self):
        labelled = a_state().labelled
        assert labelled.count == 4
        assert np.flatnonzero(labelled.mask).tolist() == [1, 2, 5, 9]
        assert labelled.counts_by_class(4).tolist() == [2, 1, 1, 0]
        assert Labelled.none(5).count == 0
        assert not Labelled.none(5).mask.any()


class TestCheckpoint:
    def test_comes_back_as_it_was_saved(self, tmp_path):
        folder, state = RunFolder(tmp_path), a_state()
        folder.save_checkpoint(state, Learner(0.1), IDENTITY)
        learner = Learner()
        found = folder.load_checkpoint(learner, IDENTITY)
        assert torch.equal(learner.weights, torch.full((3,), 0.1))
        for name in ("train", "val", "given", "free"):
            assert np.array_equal(getattr(found.labelled, name), getattr(state.labelled, name))
        for name in ("epoch", "round", "fit_epoch", "plateau", "best", "finished", "seconds"):
            assert getattr(found, name) == getattr(state, name), name
        assert names(tmp_path) == ["checkpoint.pt"]

    def test_state_that_came_back_can_be_changed(self, tmp_path):
        folder = RunFolder(tmp_path)
        folder.save_checkpoint(a_state(), Learner(), IDENTITY)
        found = folder.load_checkpoint(Learner(), IDENTITY)
        found.labelled.given[3] = 1
        assert found.labelled.mask[3]

    def test_none_there(self, tmp_path):
        assert RunFolder(tmp_path).load_checkpoint(Learner(), IDENTITY) is None

    @pytest.mark.parametrize("name", IDENTITY)
    def test_of_another_run_is_refused_and_kept(self, tmp_path, name):
        folder, learner = RunFolder(tmp_path), Learner(1.0)
        folder.save_checkpoint(a_state(), Learner(), IDENTITY)
        with pytest.raises(UserError, match=re.escape(str(tmp_path))):
            folder.load_checkpoint(learner, IDENTITY | {name: "0" * 64})
        assert folder.checkpoint_path.exists()
        assert learner.weights.sum() == 3

    @pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"\0" * 200, "a list", "half a state"])
    def test_corrupt_is_set_aside_whole(self, tmp_path, content):
        folder = RunFolder(tmp_path)
        if isinstance(content, str):
            torch.save([1] if content == "a list" else {"labelled": {}, "plateau": {}}, folder.checkpoint_path)
            content = folder.checkpoint_path.read_bytes()
        folder.checkpoint_path.write_bytes(content)
        with pytest.raises(CorruptCheckpoint) as caught:
            folder.load_checkpoint(Learner(), IDENTITY)
        aside = caught.value.args[0]
        assert aside.read_bytes() == content
        assert not folder.checkpoint_path.exists()

    def test_of_another_version_is_set_aside(self, tmp_path):
        folder = RunFolder(tmp_path)
        folder.save_checkpoint(a_state(), Learner(), IDENTITY)
        contents = torch.load(folder.checkpoint_path, weights_only=True)
        contents["progress"]["a field of a later version"] = 1
        torch.save(contents, folder.checkpoint_path)
        with pytest.raises(CorruptCheckpoint):
            folder.load_checkpoint(Learner(), IDENTITY)

    def test_nothing_in_it_is_executed(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        folder = RunFolder(tmp_path)
        folder.checkpoint_path.write_bytes(pickle.dumps(Harmful(), protocol=2))
        with pytest.raises(CorruptCheckpoint):
            folder.load_checkpoint(Learner(), IDENTITY)
        assert not (tmp_path / "executed").exists()


HOLD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from al.storage.run_folder import RunFolder
with RunFolder(Path({path!r})).held():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    code = HOLD.format(root=str(Path(__file__).parents[3]), path=str(tmp_path / "run"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


class TestHeld:
    def test_by_another_process_is_named(self, tmp_path, holder):
        folder = RunFolder(tmp_path / "run")
        with pytest.raises(HeldElsewhere, match=f"process {holder.pid} on "), folder.held():
            pass
        assert json.loads((folder.path / ".lock").read_text())["pid"] == holder.pid

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_is_free_when_the_process_is_gone(self, tmp_path, holder, how):
        holder.kill() if how == "kill" else holder.stdin.close()
        holder.wait(20)
        folder = RunFolder(tmp_path / "run")
        with folder.held():
            assert json.loads((folder.path / ".lock").read_text())["pid"] == os.getpid()

    def test_twice_in_a_row(self, tmp_path):
        folder = RunFolder(tmp_path / "run")
        for _ in range(2):
            with folder.held():
                pass

    @pytest.mark.parametrize("where", ["below a file", "on a file system that takes nothing"])
    def test_folder_that_cannot_be_made(self, tmp_path, where):
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "run" if where == "below a file" else "/proc/1/results/run"
        with pytest.raises(UserError, match="results_dir"), RunFolder(Path(path)).held():
            pass


class TestFolder:
    def test_is_named_after_cell_and_split_seed(self, tmp_path):
        config = RunConfig(results_dir=str(tmp_path), split_seed=34)
        assert RunFolder.of(config).path == tmp_path / config.cell / "split_seed_34"

    def test_is_complete_if_and_only_if_it_has_its_metrics(self, tmp_path):
        folder = RunFolder(tmp_path)
        assert not folder.complete
        write_json(tmp_path / "performance_metrics.json", {})
        assert folder.complete


class TestSeeds:
    def test_address_decides_and_nothing_else(self):
        first = seeds.rng(42, 3, "select").random(4)
        seeds.rng(42, 3, "augment").random(100)
        np.random.default_rng(0).random(10)
        assert np.array_equal(seeds.rng(42, 3, "select").random(4), first)

    def test_each_part_of_the_address_counts(self):
        addresses = [(s, t, n) for s in (0, 1, 42) for t in (0, 1, 42) for n in ("select", "order", "augment")]
        assert len({seeds.integer(*address) for address in addresses}) == len(addresses)

    def test_integer_fits_everywhere(self):
        assert all(0 <= seeds.integer(seed, 1, "x") < 2**31 for seed in range(200))
