"""Augmentation, schedule, class weights and the epoch itself, against torch, torchvision and scikit-learn."""

import copy

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from al import seeds
from al.config import RunConfig
from al.errors import UserError
from al.learning.early_stopping import EarlyStopping
from al.learning.networks import build_model
from al.learning.scorer import to_input
from al.learning.trainer import Trainer, augmentation, class_weights, warp
from al.runtime import resolve_runtime

BLACK = -1.0
SENSE = 1


class Chosen:
    """A generator that draws what the test wants: angle in degrees, flip, and shift right and down in pixels."""

    def __init__(self, angle=0.0, flip=False, right=0, down=0):
        self.angle, self.flip, self.shift = angle, flip, (right, down)

    def uniform(self, low, high, count):
        assert low <= self.angle <= high
        return np.full(count, self.angle)

    def choice(self, values, count):
        return np.full(count, -1.0 if self.flip else 1.0)

    def integers(self, low, high, shape):
        assert all(low <= shift < high for shift in self.shift)
        return -np.array(self.shift)[:, None].repeat(shape[1], axis=1)


def picture(side=32, margin=9):
    """A picture with nothing near its border, so that no warp loses any of it."""
    image = torch.full((1, 3, side, side), BLACK)
    inner = torch.rand(1, 3, side - 2 * margin, side - 2 * margin, generator=torch.Generator().manual_seed(0))
    image[..., margin:-margin, margin:-margin] = inner * 2 - 1
    return image


def warped(image, **chosen):
    return warp(image.clone(), torch.from_numpy(augmentation(len(image), Chosen(**chosen))))


def rotated(image, angle):
    """torchvision turns the other way round, which a symmetric range of angles does not tell."""
    return tv.rotate(image + 1, SENSE * angle, InterpolationMode.BILINEAR) - 1


class TestAugmentation:
    def test_nothing_drawn_changes_nothing(self):
        torch.testing.assert_close(warped(picture()), picture(), atol=1e-5, rtol=0)

    def test_flip_is_horizontal(self):
        torch.testing.assert_close(warped(picture(), flip=True), tv.hflip(picture()), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("shift", [(4, 0), (-4, 0), (0, 3), (2, -1)])
    def test_shift_is_by_whole_pixels(self, shift):
        right, down = shift
        expected = torch.roll(picture(), (down, right), (2, 3))
        torch.testing.assert_close(warped(picture(), right=right, down=down), expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("angle", [15.0, -7.3])
    def test_rotation_is_torchvisions(self, angle):
        torch.testing.assert_close(warped(picture(), angle=angle), rotated(picture(), angle), atol=1e-4, rtol=0)

    def test_flip_then_crop_then_rotation(self):
        chosen = {"angle": 11.0, "flip": True, "right": 3, "down": -2}
        moved = torch.roll(tv.hflip(picture()), (-2, 3), (2, 3))
        torch.testing.assert_close(warped(picture(), **chosen), rotated(moved, 11.0), atol=1e-4, rtol=0)

    def test_what_comes_in_from_outside_is_black(self):
        white = torch.ones(1, 3, 32, 32)
        found = warped(white, right=4, down=4)
        assert torch.allclose(found[..., :4, :], torch.tensor(BLACK), atol=1e-5)
        assert torch.allclose(found[..., :, :4], torch.tensor(BLACK), atol=1e-5)
        assert torch.allclose(found[..., 4:, 4:], torch.tensor(1.0), atol=1e-5)

    def test_shift_grows_with_the_image(self):
        expected = torch.roll(picture(64, 18), (0, 8), (2, 3))
        torch.testing.assert_close(warped(picture(64, 18), right=4), expected, atol=1e-4, rtol=0)

    def test_each_image_is_drawn_for_itself_within_the_bounds(self):
        maps = augmentation(4000, np.random.default_rng(0))
        assert maps.shape == (4000, 2, 3)
        assert maps.dtype == np.float32
        angle = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 1, 1]))
        assert -15 <= angle.min() < -14.9
        assert 14.9 < angle.max() <= 15
        flipped = np.linalg.det(maps[:, :, :2].astype(np.float64))
        assert np.allclose(np.abs(flipped), 1, atol=1e-5)
        assert 0.45 < (flipped < 0).mean() < 0.55
        pixels = maps[:, 1, 2] * 16
        assert np.allclose(np.unique(pixels.round(3)), np.arange(-4, 5))


SETTINGS = {"min_delta": 0.005, "lr_factor": 0.5, "lr_patience": 2}


class TestEarlyStopping:
    @pytest.mark.parametrize("case", range(5))
    def test_learning_rate_is_torchs(self, case):
        generator = np.random.default_rng(case)
        losses = 2 * np.exp(-np.arange(60) / 9) + generator.normal(0, [0.001, 0.02, 0.2, 0, 1][case], 60)
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=0.5, patience=2, threshold=0.005, threshold_mode="abs", eps=0
        )
        plateau = EarlyStopping(lr=0.01)
        for loss in losses:
            plateau.step(float(loss), **SETTINGS)
            scheduler.step(float(loss))
            assert plateau.lr == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)
        assert plateau.lr < 0.01

    @pytest.mark.parametrize("case", range(5))
    def test_stale_epochs_are_those_without_a_lower_loss(self, case):
        losses = np.random.default_rng(case).normal(1, 0.05, 80)
        plateau = EarlyStopping(lr=0.01)
        best, last_best = np.inf, 0
        for epoch, loss in enumerate(losses.tolist(), 1):
            better = loss < best - 0.005
            if better:
                best, last_best = loss, epoch
            assert plateau.step(loss, **SETTINGS) is better
            assert plateau.stale == epoch - last_best
            assert plateau.best_loss == best

    def test_fall_of_exactly_min_delta_does_not_count(self):
        plateau = EarlyStopping(lr=0.01)
        assert plateau.step(1.0, min_delta=0.25, lr_factor=0.5, lr_patience=2)
        assert not plateau.step(0.75, min_delta=0.25, lr_factor=0.5, lr_patience=2)
        assert plateau.step(0.74, min_delta=0.25, lr_factor=0.5, lr_patience=2)


class TestClassWeights:
    @pytest.mark.parametrize("counts", [[10, 10, 10], [50, 5, 1], [7, 0, 3], [0, 0, 4]])
    def test_are_scikit_learns_and_zero_where_absent(self, counts):
        labels = np.repeat(np.arange(3), counts)
        found = class_weights(labels, 3)
        present = np.flatnonzero(counts)
        assert found[present] == pytest.approx(compute_class_weight("balanced", classes=present, y=labels))
        assert not found[np.flatnonzero(np.array(counts) == 0)].any()
        assert found.dtype == np.float32

    def test_enter_the_loss_of_training(self):
        images, labels = batch_of(60)
        labels[:50] = 0
        losses = {}
        for weighted in (False, True):
            trainer = new_trainer(class_weights=weighted, batch_size=60, dropout=0.0)
            model = copy.deepcopy(trainer.model).train()
            logits, _ = model(to_input(images, 32))
            weight = torch.from_numpy(class_weights(labels, 10)) if weighted else None
            losses[weighted] = F.cross_entropy(logits, torch.from_numpy(labels), weight=weight).item()
            _, found = trainer.epoch(images, labels, np.arange(60), 1)
            assert found == pytest.approx(losses[weighted], rel=1e-5)
        assert losses[True] != pytest.approx(losses[False], rel=1e-3)


def batch_of(count, side=32):
    generator = np.random.default_rng(1)
    images = torch.from_numpy(generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    return images, generator.integers(0, 10, count)


def new_trainer(**changed):
    config = RunConfig(model="small_cnn", weights="none", **{"augment": False, "seed": 3} | changed)
    model = build_model("small_cnn", 10, weights="none", dropout=config.dropout, image_size=32, seed=5)
    return Trainer(model, resolve_runtime("cpu", "float32"), image_size=32, settings=config, classes=10)


def weights_after(trainer, epochs, count=70, before=lambda: None):
    images, labels = batch_of(count)
    for number in epochs:
        before()
        trainer.epoch(images, labels, np.arange(count), number)
    return torch.cat([tensor.flatten().double() for tensor in trainer.model.state_dict().values()])


class TestEpoch:
    def test_is_plain_adam(self):
        """Two epochs beside the few lines that anyone would write.

        In float64 on both sides: in float32 an activation near 0 passes a ReLU under one processor's rounding and not
        under another's, and Adam, which scales every gradient to steps of about `lr`, turns that into 1e-3.
        """
        images, labels = batch_of(70)
        trainer = new_trainer(dropout=0.0)
        trainer.model.double().register_forward_pre_hook(lambda model, inputs: inputs[0].double())
        model = copy.deepcopy(trainer.model)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.001, weight_decay=0.001)
        for number in (1, 2):
            found, loss = trainer.epoch(images, labels, np.arange(70), number)
            order = seeds.rng(3, number, "order").permutation(70)
            total, confusion = 0.0, np.zeros((10, 10), int)
            model.train()
            for rows in np.split(order, [32, 64]):
                logits, _ = model(to_input(images[rows], 32))
                step = F.cross_entropy(logits, torch.from_numpy(labels[rows]))
                optimiser.zero_grad()
                step.backward()
                optimiser.step()
                total += step.item() * len(rows)
                np.add.at(confusion, (labels[rows], logits.argmax(1).numpy()), 1)
            assert loss == pytest.approx(total / 70, rel=1e-6)
            assert np.array_equal(found, confusion)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(trainer.model.state_dict()[name], tensor, atol=1e-10, rtol=1e-8, msg=name)

    def test_whatever_ran_before_does_not_matter(self):
        def disturb():
            torch.rand(17)
            np.random.default_rng().random(3)
            torch.manual_seed(np.random.default_rng().integers(1000))

        changed = {"augment": True, "dropout": 0.5}
        calm = weights_after(new_trainer(**changed), (1, 2))
        disturbed = weights_after(new_trainer(**changed), (1, 2), before=disturb)
        assert torch.equal(calm, disturbed)

    def test_epochs_differ_from_each_other(self):
        changed = {"augment": True, "dropout": 0.5}
        assert not torch.equal(
            weights_after(new_trainer(**changed), (1, 2)), weights_after(new_trainer(**changed), (1, 3))
        )

    def test_goes_on_from_its_saved_state(self, tmp_path):
        straight = weights_after(new_trainer(), (1, 2, 3))
        first = new_trainer()
        weights_after(first, (1, 2))
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second = new_trainer(seed=3)
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(weights_after(second, (3,)), straight)

    @pytest.mark.parametrize("count", [33, 65, 3])
    def test_a_last_batch_of_one_is_left_out(self, count):
        """Batch normalisation cannot learn from one image; with running averages it would make NaN of them."""
        images, labels = batch_of(count)
        trainer = new_trainer(batch_size=2 if count == 3 else 32)
        confusion, loss = trainer.epoch(images, labels, np.arange(count), 1)
        assert confusion.sum() == count - 1
        assert np.isfinite(loss)
        assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())

    def test_the_one_left_out_is_another_in_each_epoch(self):
        left_out = {int(seeds.rng(3, number, "order").permutation(33)[-1]) for number in range(1, 9)}
        assert len(left_out) > 4

    def test_trains_on_its_rows_alone(self):
        images, labels = batch_of(70)
        rows = np.arange(0, 70, 2)
        spoilt, spoilt_labels = images.clone(), labels.copy()
        spoilt[1::2], spoilt_labels[1::2] = 0, 7
        trainers = [new_trainer(), new_trainer()]
        trainers[0].epoch(images, labels, rows, 1)
        trainers[1].epoch(spoilt, spoilt_labels, rows, 1)
        for name, tensor in trainers[0].model.state_dict().items():
            assert torch.equal(tensor, trainers[1].model.state_dict()[name]), name

    def test_learns(self):
        images = torch.zeros(80, 32, 32, 3, dtype=torch.uint8)
        labels = np.arange(80) % 4
        for label in range(4):
            images[label::4, label * 8 : label * 8 + 8] = 255
        trainer = new_trainer(lr=0.01)
        losses = [trainer.epoch(images, labels, np.arange(80), number)[1] for number in range(1, 16)]
        assert losses[-1] < 0.3 * losses[0]

    def test_a_full_device_is_one_line(self, monkeypatch):
        def full(*arguments, **options):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

        images, labels = batch_of(70)
        trainer = new_trainer()
        monkeypatch.setattr(trainer.model, "forward", full)
        with pytest.raises(UserError, match=r"^device=cpu: no room for a training step; use less than batch_size=32"):
            trainer.epoch(images, labels, np.arange(70), 1)
