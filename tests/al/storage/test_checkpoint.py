"""A checkpoint: comes back as it was, or is set aside and said to be damaged."""

import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from al.errors import UserError
from al.identity import Identity
from al.labels import LabelledSet
from al.learning.early_stopping import EarlyStopping
from al.records import BestEpoch, SplitResult
from al.run_state import RunState
from al.storage.checkpoint import Checkpoint, CorruptCheckpoint, packed, unpacked

IDENTITY = Identity("d" * 64, "f" * 64)


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
    labelled = LabelledSet(np.array([5, 2, 9]), np.array([1]), np.full(12, -1), np.array([2]))
    labelled.assigned_labels[[5, 2, 9, 1]] = [0, 1, 0, 2]
    best = BestEpoch(
        epoch=4, splits={"test": SplitResult(scores={"accuracy": 61.5}, confusion_matrix=[[1, 2], [3, 4]])}
    )
    stopping = EarlyStopping(lr=0.0005, best_loss=1.25, stale=2, lr_stale=1)
    point = {"accuracy": 61.5}
    return RunState(labelled, stopping, 4, 2, 1, best, point, False, 12.5, ["put_"])


class TestCheckpoint:
    def test_comes_back_as_it_was_saved(self, tmp_path):
        checkpoint, state = Checkpoint(tmp_path), a_state()
        checkpoint.save(state, Learner(0.1), IDENTITY)
        learner = Learner()
        found = checkpoint.load(learner, IDENTITY)
        assert torch.equal(learner.weights, torch.full((3,), 0.1))
        for name in ("train", "val", "assigned_labels", "machine_labelled"):
            assert np.array_equal(getattr(found.labelled, name), getattr(state.labelled, name))
        progress = ("epoch", "round", "fit_epoch", "curve_point", "finished", "seconds", "not_repeatable")
        for name in ("early_stopping", "best", *progress):
            assert getattr(found, name) == getattr(state, name), name
        assert names(tmp_path) == ["checkpoint.pt"]

    def test_of_an_earlier_version_is_gone_on_from(self, tmp_path):
        """Which saved each tensor of the learner for itself, and noted no operations."""
        checkpoint, learner = Checkpoint(tmp_path), Learner()
        checkpoint.save(a_state(), Learner(0.1), IDENTITY)
        contents = torch.load(checkpoint.path, weights_only=True)
        del contents["progress"]["not_repeatable"]
        torch.save(contents | {"learner": Learner(0.25).state_dict()}, checkpoint.path)
        found = checkpoint.load(learner, IDENTITY)
        assert (found.epoch, found.not_repeatable) == (4, [])
        assert torch.equal(learner.weights, torch.full((3,), 0.25))

    def test_state_that_came_back_can_be_changed(self, tmp_path):
        checkpoint = Checkpoint(tmp_path)
        checkpoint.save(a_state(), Learner(), IDENTITY)
        found = checkpoint.load(Learner(), IDENTITY)
        found.labelled.assigned_labels[3] = 1
        assert found.labelled.mask[3]

    def test_none_there(self, tmp_path):
        assert Checkpoint(tmp_path).load(Learner(), IDENTITY) is None

    @pytest.mark.parametrize("name", ["digest", "fingerprint"])
    def test_of_another_run_is_refused_and_kept(self, tmp_path, name):
        checkpoint, learner = Checkpoint(tmp_path), Learner(1.0)
        checkpoint.save(a_state(), Learner(), IDENTITY)
        with pytest.raises(UserError, match=re.escape(str(tmp_path))):
            checkpoint.load(learner, replace(IDENTITY, **{name: "0" * 64}))
        assert checkpoint.path.exists()
        assert learner.weights.sum() == 3

    @pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"\0" * 200, "a list", "half a state"])
    def test_corrupt_is_set_aside_whole(self, tmp_path, content):
        checkpoint = Checkpoint(tmp_path)
        if isinstance(content, str):
            torch.save([1] if content == "a list" else {"labelled": {}, "plateau": {}}, checkpoint.path)
            content = checkpoint.path.read_bytes()
        checkpoint.path.write_bytes(content)
        aside = tmp_path / "checkpoint.corrupt"
        with pytest.raises(CorruptCheckpoint, match=re.escape(str(aside))):
            checkpoint.load(Learner(), IDENTITY)
        assert aside.read_bytes() == content
        assert not checkpoint.path.exists()

    def test_of_another_version_is_set_aside(self, tmp_path):
        checkpoint = Checkpoint(tmp_path)
        checkpoint.save(a_state(), Learner(), IDENTITY)
        contents = torch.load(checkpoint.path, weights_only=True)
        contents["progress"]["a field of a later version"] = 1
        torch.save(contents, checkpoint.path)
        with pytest.raises(CorruptCheckpoint):
            checkpoint.load(Learner(), IDENTITY)

    def test_nothing_in_it_is_executed(self, tmp_path):
        class Harmful:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        checkpoint = Checkpoint(tmp_path)
        checkpoint.path.write_bytes(pickle.dumps(Harmful(), protocol=2))
        with pytest.raises(CorruptCheckpoint):
            checkpoint.load(Learner(), IDENTITY)
        assert not (tmp_path / "executed").exists()


STATE = {
    "model": {
        "weight": torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last),
        "bias": torch.tensor([0.1, -0.2, float("nan")]),
        "batches": torch.tensor(7),
        "half": torch.tensor([1.5, 2.5, 3.5], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False, True]),
        "none": torch.empty(0, 4),
    },
    "optimiser": {"state": {0: {"step": torch.tensor(3.0)}, 11: {"step": torch.tensor(4.0, dtype=torch.float64)}}},
    "best_weights": None,
    "number": 5,
}


class TestPacked:
    def leaves(self, state, path=()):
        for name, value in state.items():
            if isinstance(value, dict):
                yield from self.leaves(value, (*path, name))
            else:
                yield (*path, name), value

    def test_comes_back_bit_for_bit(self, tmp_path):
        torch.save(packed(STATE), tmp_path / "state.pt")
        found = dict(self.leaves(unpacked(torch.load(tmp_path / "state.pt", weights_only=True))))
        expected = dict(self.leaves(STATE))
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert (found[path].dtype, found[path].shape) == (value.dtype, value.shape), path
                assert found[path].reshape(-1).view(torch.uint8).equal(value.reshape(-1).view(torch.uint8)), path
            else:
                assert found[path] == value

    def test_is_one_array(self):
        tensors = [value for _, value in self.leaves(packed(STATE)) if isinstance(value, torch.Tensor)]
        assert len(tensors) == 1
        size = sum(value.nbytes for _, value in self.leaves(STATE) if isinstance(value, torch.Tensor))
        assert size <= tensors[0].nbytes < size + 8

    def test_a_tensor_in_two_places_is_stored_once(self):
        shared = torch.ones(100)
        saved = packed({"one": shared, "two": {"again": shared}})
        assert saved["bytes"].nbytes == 400
        assert torch.equal(unpacked(saved)["two"]["again"], shared)

    def test_of_nothing(self):
        assert unpacked(packed({"best_weights": None})) == {"best_weights": None}
