"""Recorded training steps give what steps one by one give, whatever changes between them."""

import copy
import signal

import launch
import numpy as np
import pytest
import runs
import tiny_networks
import torch
from tape import TapeRecorder

import train
from al.config import RunConfig
from al.fast import adam
from al.fast.graphs import WARM_UP
from al.learning.networks import build_model
from al.learning.trainer import Trainer
from al.runtime import Runtime
from al.signals import STOPPING
from al.tracking import plots

BATCH, COUNT = 8, 60
"""Seven full batches and one of 4."""


class Recording(Runtime):
    """The CPU, with steps recorded on a tape."""

    recorder = None


def trainer_of(recorded, model="small_cnn", **changed):
    settings = RunConfig(model=model, weights="none", **{"seed": 3, "batch_size": BATCH} | changed)
    network = build_model(model, 10, weights="none", dropout=settings.dropout, image_size=32, seed=5)
    runtime = Recording(torch.device("cpu"), torch.float32)
    object.__setattr__(runtime, "recorder", TapeRecorder())
    trainer = Trainer(network, runtime, image_size=32, settings=settings, classes=10)
    if not recorded:  # with the learning rate read from memory all the same, as on a GPU
        trainer.step.recorder = None
    return trainer


def images_of(count=100):
    generator = np.random.default_rng(1)
    images = torch.from_numpy(generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    return images, generator.integers(0, 10, count)


def epochs(trainer, numbers=(1, 2), rows=None, labels=None, lr=0.001):
    images, known = images_of()
    rows = np.arange(COUNT) if rows is None else rows
    trainer.set_lr(lr)
    return [trainer.epoch(images, known if labels is None else labels, rows, number) for number in numbers]


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same(one, other):
    for (confusion, loss), (confusion_there, loss_there) in zip(one[0], other[0], strict=True):
        assert np.array_equal(confusion, confusion_there)
        assert loss == loss_there
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name


def both(work, **changed):
    """What `work(trainer)` returns, with the weights after it, of a recording trainer and of one that does not."""
    found = []
    for recorded in (True, False):
        trainer = trainer_of(recorded, **changed)
        result = work(trainer)
        assert trainer.step.is_recorded is recorded
        found.append((result, weights(trainer)))
    return found


class TestRecordedSteps:
    def test_are_the_steps_bit_for_bit(self):
        assert_same(*both(epochs, augment=True, dropout=0.5))

    @pytest.mark.parametrize("model", ["efficientnet_b0", "mobilenet_v3_small", "v2_b0"])
    def test_of_deep_networks_are_too_up_to_rounding(self, model, tmp_path, monkeypatch):
        """With stochastic depth, dropout, squeeze and excitation, and activations that were in place.

        In float64, and with an epsilon that keeps Adam from making whole steps of a gradient that is rounding alone, as
        that of a bias before batch normalisation.
        """
        monkeypatch.setattr(adam, "EPSILON", 1e-3)
        name = str(tiny_networks.save("efficientnet", tmp_path)) if model == "v2_b0" else model

        def work(trainer):
            trainer.model.double().register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
            return epochs(trainer, (1,), np.arange(44))

        recorded, plain = both(work, model=name)
        for (confusion, loss), (confusion_there, loss_there) in zip(recorded[0], plain[0], strict=True):
            assert np.array_equal(confusion, confusion_there)
            assert loss == pytest.approx(loss_there, rel=1e-6), "summed in float32"
        for name, tensor in recorded[1].items():
            torch.testing.assert_close(tensor, plain[1][name], atol=1e-9, rtol=1e-9, msg=name)

    def test_are_launched_and_not_carried_out_one_by_one(self):
        trainer = trainer_of(True)
        epochs(trainer, (1, 2, 3))
        tape = trainer.runtime.recorder
        assert tape.recorded == 1, "once a run"
        assert tape.replayed == 3 * (COUNT // BATCH) - WARM_UP, "the last batch of an epoch is smaller"

    def test_see_another_learning_rate(self):
        assert_same(*both(lambda trainer: epochs(trainer, (1,), lr=0.01) + epochs(trainer, (2,), lr=0.0005)))

    def test_see_other_labels(self):
        other = np.random.default_rng(9).integers(0, 10, 100)
        assert_same(*both(lambda trainer: epochs(trainer, (1,)) + epochs(trainer, (2,), labels=other)))

    def test_see_a_larger_labelled_set_with_another_tail(self):
        assert_same(*both(lambda trainer: epochs(trainer, (1,)) + epochs(trainer, (2,), np.arange(20, 95))))

    def test_see_class_weights_of_other_labels(self):
        rows = np.flatnonzero(images_of()[1] != 4)
        assert_same(*both(lambda trainer: epochs(trainer, (1,)) + epochs(trainer, (2,), rows), class_weights=True))

    def test_begin_again_with_a_fresh_optimiser(self):
        def again(trainer):
            first = epochs(trainer, (1,))
            trainer.restart()
            return first + epochs(trainer, (2,))

        found = both(again)
        assert_same(*found)
        fresh = trainer_of(False)
        epochs(fresh, (1,))
        state = copy.deepcopy(fresh.model.state_dict())
        fresh = trainer_of(False)
        fresh.model.load_state_dict(state)
        epochs(fresh, (2,))
        assert all(torch.equal(tensor, found[0][1][name]) for name, tensor in weights(fresh).items())

    def test_go_on_from_a_checkpoint(self):
        """Recorded anew in the process that goes on, after steps of its own that warm up."""
        straight = trainer_of(True, dropout=0.5)
        epochs(straight, (1, 2, 3))
        first = trainer_of(True, dropout=0.5)
        epochs(first, (1, 2))
        state = copy.deepcopy(first.state_dict())
        second = trainer_of(True, dropout=0.5)
        second.load_state_dict(state)
        epochs(second, (3,))
        assert second.step.is_recorded
        assert_same(([], weights(second)), ([], weights(straight)))

    def test_see_weights_and_optimiser_put_back(self):
        def back(trainer):
            first = epochs(trainer, (1,))
            state = copy.deepcopy(trainer.state_dict())
            epochs(trainer, (2,))
            trainer.load_state_dict(state)
            return first + epochs(trainer, (3,))

        assert_same(*both(back))

    def test_fewer_images_than_a_batch_are_never_recorded(self):
        trainer = trainer_of(True)
        epochs(trainer, range(1, 6), np.arange(BATCH - 1))
        assert not trainer.step.is_recorded


class TestRefusal:
    """What a device cannot record is carried out as ever, with one note."""

    def planted(self, monkeypatch, spoil):
        trainer = trainer_of(True, dropout=0.5)
        forward = trainer.model.forward

        def waiting(images):
            logits, features = forward(images)
            spoil(logits)
            return logits, features

        monkeypatch.setattr(trainer.model, "forward", waiting)
        return trainer

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda logits: logits.sum().item(),
            lambda logits: logits[logits > 0],
            lambda logits: logits.argmax(1).bincount(),
            lambda logits: logits + torch.tensor(1.0),
        ],
        ids=["item", "mask", "bincount", "from the host"],
    )
    def test_gives_the_same_results(self, monkeypatch, capsys, spoil):
        trainer = self.planted(monkeypatch, spoil)
        found = epochs(trainer), weights(trainer)
        assert not trainer.step.is_recorded
        assert "not permitted when stream is capturing" in trainer.step.refusal
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith("note: training steps cannot be recorded (operation not permitted")
        plain = trainer_of(False, dropout=0.5)
        assert_same(found, (epochs(plain), weights(plain)))

    def test_is_tried_once(self, monkeypatch):
        trainer = self.planted(monkeypatch, lambda logits: logits.sum().item())
        tried = []
        record = trainer.runtime.recorder.record
        monkeypatch.setattr(trainer.runtime.recorder, "record", lambda work: tried.append(1) or record(work))
        epochs(trainer, (1, 2, 3))
        assert len(tried) == 1

    def test_any_other_error_goes_through(self, monkeypatch):
        def broken(logits):
            raise KeyError("a bug")

        with pytest.raises(KeyError):
            epochs(self.planted(monkeypatch, broken))


class TestSwitch:
    @pytest.mark.parametrize("off", ["none", "-graphs", "-adam"])
    def test_takes_recording_away(self, monkeypatch, off):
        monkeypatch.setenv("AL_FAST", off)
        trainer = trainer_of(True)
        epochs(trainer)
        assert not trainer.step.is_recorded


def test_a_number_that_is_no_tensor_would_be_frozen():
    """Or the tests above would show nothing: a learning rate as a number stays what it was while recording."""
    trainer, plain = trainer_of(True), trainer_of(False)
    for either in (trainer, plain):
        either.optimiser._read_lr = None
        epochs(either, (1,), lr=0.01)
        epochs(either, (2,), lr=0.0005)
    assert trainer.step.is_recorded
    assert not torch.equal(trainer.model.head.weight, plain.model.head.weight)


def test_the_first_steps_after_a_recording_draw_their_own_numbers():
    """Recording draws nothing from the generator that steps draw from."""
    trainer = trainer_of(True)
    epochs(trainer, (1,))
    torch.manual_seed(7)
    state = torch.get_rng_state()
    trainer.runtime.recorder.record(lambda: torch.rand(100))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def handlers():
    """A run in this process leaves the signals to it afterwards."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"strategy": "margin", "augment": "true", "class_weights": "true"}, marks=pytest.mark.slow),
        {"strategy": "bald", "schedule": "converge", "warm_start": "false", "max_epochs": 3},
    ],
    ids=["an epoch a round", "fresh weights a round"],
)
def test_a_whole_run_ends_the_same(tmp_path, monkeypatch, handlers, changed):
    """Weights, picks and records, over rounds of growing labelled sets and optimisers that begin again."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(plots, "pick_sheet", lambda *_: None)
    monkeypatch.setattr(plots, "plot_run", lambda *_: [])
    monkeypatch.setattr(Runtime, "fused_optimiser", True)
    tape = TapeRecorder()
    monkeypatch.setattr(Runtime, "recorder", tape)
    for fast in ("-graphs", "all"):
        monkeypatch.setenv("AL_FAST", fast)
        assert train.main(launch.small(tmp_path / fast, batch_size=8, **changed)) == 0
    assert tape.recorded == 1
    assert tape.replayed > 20
    runs.assert_same(runs.only_run(tmp_path / "all"), runs.only_run(tmp_path / "-graphs"))
