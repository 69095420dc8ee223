"""Scoring: the folded network in large batches says what the plain one says of each image."""

import copy

import numpy as np
import pytest
import tiny_networks
import torch
from torch.nn import functional as F

from al.errors import UserError
from al.fast.convolutions import for_training
from al.fast.folding import Pair, conv_bn_pairs, fold
from al.learning.networks import build_model
from al.learning.scorer import Scorer, to_input
from al.runtime import Runtime

CPU = torch.device("cpu")
NETWORKS = ("small_cnn", "efficientnet_b0", "resnet50", "mobilenet_v3_small", "hf:resnet", "hf:vit", "hf:efficientnet")
rng = np.random.default_rng(0)


class SmallBatches(Runtime):
    """A runtime that scores so few images at once that a test has several batches and a part of one."""

    def scoring_batch(self, size):
        return 4


def runtime(dtype=torch.float32):
    return SmallBatches(CPU, dtype)


def images_of(count, side=32):
    return torch.from_numpy(rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def trained(model, side=32):
    """Gives batch normalisation the statistics and scales that training would, so that folding has work to do."""
    generator = torch.Generator().manual_seed(0)
    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(torch.rand(16, 3, side, side, generator=generator) * 2 - 1)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.mul_(torch.rand(module.weight.shape, generator=generator) + 0.5)
                module.bias.add_(torch.randn(module.bias.shape, generator=generator) * 0.1)
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=generator) / model.head.in_features**0.5)
    return model.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, tmp_path_factory):
    name = request.param
    if name.startswith("hf:"):
        name = str(tiny_networks.save(name[3:], tmp_path_factory.mktemp("hub") / "net"))
    weights = "imagenet" if request.param.startswith("hf:") else "none"
    return trained(for_training(build_model(name, 6, weights=weights, dropout=0.3, image_size=32, seed=1)))


@pytest.fixture(scope="module")
def small():
    return trained(build_model("small_cnn", 6, weights="none", dropout=0.3, image_size=32, seed=1))


def plain(model, images):
    """Logits and features one image at a time by the model as it is, in float32."""
    model = copy.deepcopy(model).eval()
    inputs = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        parts = [model(image[None]) for image in inputs]
    return torch.cat([logits for logits, _ in parts]), torch.cat([features for _, features in parts])


class TestSameAsThePlainModel:
    def test_probabilities_features_and_losses(self, model):
        images, labels = images_of(11), rng.integers(0, 6, 11)
        found = Scorer(model, runtime(), 32).predict(images, labels=labels, features=True)
        logits, features = plain(model, images)
        scale = float(features.abs().max())
        assert found.probs == pytest.approx(F.softmax(logits, 1).numpy(), abs=1e-4)
        assert found.features == pytest.approx(features.numpy(), abs=1e-4 * scale, rel=1e-3)
        assert found.losses == pytest.approx(
            F.cross_entropy(logits, torch.from_numpy(labels), reduction="none").numpy(), abs=1e-3, rel=1e-3
        )
        assert found.probs.dtype == found.features.dtype == found.losses.dtype == np.float32

    def test_model_itself_is_left_as_it_was(self, model):
        before = copy.deepcopy(model.state_dict())
        kinds = [type(module) for module in model.modules()]
        Scorer(model, runtime(torch.bfloat16), 32).predict(images_of(3))
        assert [type(module) for module in model.modules()] == kinds
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name
            assert tensor.dtype == before[name].dtype

    def test_bfloat16_agrees_within_its_rounding(self, model):
        images = images_of(11)
        exact = Scorer(model, runtime(), 32).predict(images, features=True)
        coarse = Scorer(model, runtime(torch.bfloat16), 32).predict(images, features=True)
        assert coarse.features.dtype == np.float32
        scale = np.linalg.norm(exact.features, axis=1)
        error = np.linalg.norm(coarse.features - exact.features, axis=1)
        assert (error < 0.06 * scale).all(), (error / scale).max()
        assert np.abs(coarse.probs - exact.probs).max() < 0.1
        assert coarse.probs.sum(1) == pytest.approx(1, abs=1e-5)

    def test_folds_what_can_be_folded(self, model):
        scorer = Scorer(model, runtime(), 32)
        scorer.predict(images_of(2))
        left = sum(isinstance(module, torch.nn.BatchNorm2d) for module in scorer._network().modules())
        there = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
        assert left == 0 or there == 0, f"{left} of {there} are left"


class Block(torch.nn.Module):
    """What the folding tests build on: named parts, and the output as features."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images):
        return None, self.features(images).flatten(1)


class Twice(Block):
    """The same activation after two convolutions: it belongs to neither."""

    def features(self, images):
        for conv, bn in ((self.conv0, self.bn0), (self.conv1, self.bn1)):
            images = self.act(bn(conv(images)))
        return images


class Residual(Block):
    """A sum in place between batch normalisation and activation, as in Hugging Face's ResNet."""

    def features(self, images):
        output = self.bn(self.conv(images))
        output += images
        return self.act(output)


def normalisation():
    """Batch normalisation that changes what it gets."""
    bn, generator = torch.nn.BatchNorm2d(3), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in bn.state_dict().values():
            if tensor.dtype is torch.float32:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return bn


def ready(network):
    """As scoring gets it on a CPU."""
    return for_training(network.to(memory_format=torch.channels_last)).eval()


def check_fold(network, side=8):
    """The pairs that were found; what was folded computes the same, on other images too."""
    pairs = conv_bn_pairs(network, torch.randn(2, 3, side, side))
    images = 3 * torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(fold(network, pairs)(images)[1], network(images)[1], atol=1e-4, rtol=1e-4)
    return pairs


class TestActivations:
    def test_work_in_place(self):
        network = ready(build_model("efficientnet_b0", 6, weights="none", dropout=0.3, image_size=32, seed=1))
        folded = fold(network, conv_bn_pairs(network, torch.randn(2, 3, 32, 32)))
        pairs = conv_bn_pairs(network, torch.randn(2, 3, 32, 32))
        assert sum(pair.activation is not None for pair in pairs) == 33, "all but the 16 projections"
        assert all(folded.get_submodule(pair.activation).inplace for pair in pairs if pair.activation)

    def test_work_in_place_where_they_are_used_twice(self):
        convs = {f"conv{i}": torch.nn.Conv2d(3, 3, 1) for i in range(2)}
        bns = {f"bn{i}": normalisation() for i in range(2)}
        network = ready(Twice(**convs, **bns, act=torch.nn.SiLU()))
        assert check_fold(network) == [Pair(f"conv{i}", f"bn{i}", "act") for i in range(2)]

    def test_stay_behind_a_sum_in_place(self):
        network = ready(Residual(conv=torch.nn.Conv2d(3, 3, 1), bn=normalisation(), act=torch.nn.ReLU()))
        assert check_fold(network) == [Pair("conv", "bn")]


class TestBatches:
    def test_take_the_same_memory_whatever_the_size_of_images(self):
        plain_runtime = Runtime(CPU, torch.float32)
        sizes = (8, 32, 64, 224, 5000)
        assert [plain_runtime.scoring_batch(size) for size in sizes] == [500, 500, 125, 10, 1]

    def test_do_not_decide_what_dropout_draws(self, small):
        features = rng.random((30, 64)).astype(np.float32)
        plain_runtime = Runtime(CPU, torch.float32)
        found = [Scorer(small, plain_runtime, side).dropout_probs(features, 2, 0.5, 3) for side in (32, 224)]
        assert np.array_equal(*found)


class TestRows:
    @pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
    def test_last_batch_may_be_a_part(self, small, count):
        images = images_of(count)
        found = Scorer(small, runtime(), 32).predict(images, features=True)
        logits, features = plain(small, images)
        assert found.probs == pytest.approx(F.softmax(logits, 1).numpy(), abs=1e-5)
        assert found.features == pytest.approx(features.numpy(), abs=1e-4)

    @pytest.mark.parametrize("rows", [[7, 2, 9], [0], [3, 4, 5, 6, 7, 8], [5, 4, 3], [2, 3, 4, 5, 7, 6], []])
    def test_come_back_in_their_order(self, small, rows):
        images, labels = images_of(10), np.arange(10) % 6
        scorer, rows = Scorer(small, runtime(), 32), np.array(rows, dtype=np.int64)
        everything = scorer.predict(images, labels=labels, features=True)
        found = scorer.predict(images, rows, labels[rows], features=True)
        assert found.probs == pytest.approx(everything.probs[rows], abs=1e-5)
        assert found.features == pytest.approx(everything.features[rows], abs=1e-5)
        assert found.losses == pytest.approx(everything.losses[rows], abs=1e-4)

    def test_features_are_made_only_where_asked_for(self, small):
        found = Scorer(small, runtime(), 32).predict(images_of(5))
        assert found.features.shape == (5, 0)
        assert np.isnan(found.losses).all()

    def test_images_in_a_read_only_file_are_read(self, small, tmp_path):
        images = images_of(6).numpy()
        np.save(tmp_path / "images.npy", images)
        mapped = runtime().place(np.load(tmp_path / "images.npy", mmap_mode="r"))
        scorer = Scorer(small, runtime(), 32)
        assert np.array_equal(scorer.predict(mapped).probs, scorer.predict(torch.from_numpy(images)).probs)


class OffCPU(SmallBatches):
    """Behaves as on a device beside the CPU."""

    on_cpu = False
    sent = 0

    def scoring_batch(self, size):
        return 256

    def indices(self, rows):
        type(self).sent += 1
        return super().indices(rows)


def sizes_seen(scorer, monkeypatch, room=10**9):
    """Images that each forward pass gets, on a device that has room for so many."""
    sizes, score = [], scorer._score

    def watched(network, images):
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        sizes.append(len(images))
        return score(network, images)

    monkeypatch.setattr(scorer, "_score", watched)
    return sizes


class TestOffTheCPU:
    @pytest.mark.parametrize(
        ("count", "sizes"),
        [(1, [32]), (32, [32]), (33, [64]), (200, [256]), (256, [256]), (300, [256, 64]), (600, [256, 256, 128])],
    )
    def test_batches_have_few_sizes_and_the_same_outputs(self, small, monkeypatch, count, sizes):
        images = images_of(700)
        rows = rng.permutation(700)[:count]
        expected = Scorer(small, Runtime(CPU, torch.float32), 32).predict(images, rows, rows % 6, features=True)
        scorer = Scorer(small, OffCPU(CPU, torch.float32), 32)
        seen = sizes_seen(scorer, monkeypatch)
        found = scorer.predict(images, rows, rows % 6, features=True)
        assert seen == sizes
        for ours, theirs in ((found.probs, expected.probs), (found.features, expected.features)):
            assert ours == pytest.approx(theirs, abs=1e-5)
        assert found.losses == pytest.approx(expected.losses, abs=1e-4)

    def test_the_cpu_pads_nothing(self, small, monkeypatch):
        scorer = Scorer(small, Runtime(CPU, torch.float32), 32)
        seen = sizes_seen(scorer, monkeypatch)
        scorer.predict(images_of(507))
        assert seen == [500, 7]

    def test_rows_are_sent_once_a_pass(self, small, monkeypatch):
        scorer = Scorer(small, OffCPU(CPU, torch.float32), 32)
        monkeypatch.setattr(OffCPU, "sent", 0)
        scorer.predict(images_of(700), rng.permutation(700))
        assert OffCPU.sent == 1
        scorer.predict(images_of(700))
        assert OffCPU.sent == 1, "consecutive rows are a view"


class TestMemory:
    @pytest.mark.parametrize("where", [Runtime, OffCPU])
    def test_full_device_scores_in_halves(self, small, monkeypatch, where):
        images = images_of(600)
        expected = Scorer(small, runtime(), 32).predict(images, features=True)
        scorer = Scorer(small, where(CPU, torch.float32), 32)
        seen = sizes_seen(scorer, monkeypatch, room=100)
        found = scorer.predict(images, features=True)
        assert found.probs == pytest.approx(expected.probs, abs=1e-5)
        assert found.features == pytest.approx(expected.features, abs=1e-4)
        assert max(seen) <= 100
        before = len(seen)
        scorer.predict(images)
        assert seen[before] == max(seen), "the second pass starts with what there was room for"

    def test_no_room_for_one_image_is_one_line(self, small, monkeypatch):
        scorer = Scorer(small, Runtime(CPU, torch.float32), 32)
        sizes_seen(scorer, monkeypatch, room=0)
        with pytest.raises(UserError, match=r"^device=cpu: no room for the outputs of one image; use a smaller image_"):
            scorer.predict(images_of(3))

    def test_one_image_that_is_filled_up_is_no_reason_to_give_up(self, small, monkeypatch):
        scorer = Scorer(small, OffCPU(CPU, torch.float32), 32)
        sizes_seen(scorer, monkeypatch, room=10)
        image = images_of(1)
        expected = Scorer(small, runtime(), 32).predict(image)
        assert scorer.predict(image).probs == pytest.approx(expected.probs, abs=1e-5)

    def test_other_errors_stay(self, small, monkeypatch):
        def broken(network, images):
            raise RuntimeError("CUDA error: device-side assert triggered")

        scorer = Scorer(small, Runtime(CPU, torch.float32), 32)
        monkeypatch.setattr(scorer, "_score", broken)
        with pytest.raises(RuntimeError, match="device-side assert"):
            scorer.predict(images_of(3))


class TestWeights:
    def test_refresh_takes_up_new_weights(self, small):
        model, images = copy.deepcopy(small), images_of(5)
        scorer = Scorer(model, runtime(), 32)
        before = scorer.predict(images).probs
        with torch.no_grad():
            model.backbone[0].weight.mul_(2)
            model.head.bias.add_(torch.arange(6))
        scorer.refresh()
        after = scorer.predict(images).probs
        assert np.abs(after - before).max() > 0.01
        assert after == pytest.approx(F.softmax(plain(model, images)[0], 1).numpy(), abs=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_refresh_is_scoring_anew(self, model, dtype):
        """Weights, statistics and scales that training changed, bit for bit as in a scorer that starts with them."""
        model, images = copy.deepcopy(model), images_of(5)
        scorer = Scorer(model, runtime(dtype), 32)
        before = scorer.predict(images, features=True)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.dtype is torch.float32:
                    tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator))
        scorer.refresh()
        after = scorer.predict(images, features=True)
        anew = Scorer(model, runtime(dtype), 32).predict(images, features=True)
        assert np.array_equal(after.probs, anew.probs)
        assert np.array_equal(after.features, anew.features)
        assert not np.array_equal(after.features, before.features)

    def test_head_is_float32(self, small):
        """Two classes whose logits differ by less than bfloat16 can tell are still told apart."""
        model = copy.deepcopy(small)
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.copy_(torch.tensor([10.0, 10.001, 0, 0, 0, 0]))
        probs = Scorer(model, runtime(torch.bfloat16), 32).predict(images_of(3)).probs
        assert (probs[:, 1] > probs[:, 0]).all()
        assert np.log(probs[:, 1] / probs[:, 0]) == pytest.approx(0.001, rel=0.05)

    def test_loss_is_finite_where_the_probability_is_not(self, small):
        model = copy.deepcopy(small)
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.copy_(torch.tensor([300.0, 0, 0, 0, 0, 0]))
        found = Scorer(model, runtime(), 32).predict(images_of(2), labels=np.array([0, 1]))
        assert found.probs[1, 1] == 0
        assert found.losses == pytest.approx([0, 300])


class TestInput:
    def test_mean_and_deviation_of_a_half(self):
        found = to_input(torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 32, 32, 3), 32)
        assert found.shape == (1, 3, 32, 32)
        assert found[0, :, 3, 4] == pytest.approx([-1, -0.6, 1])
        assert found.is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize("size", [16, 48, 64])
    def test_image_size_resizes_as_torchvision(self, size):
        from torchvision.transforms import functional as tv

        images = images_of(2)
        expected = tv.resize(images.permute(0, 3, 1, 2).float(), [size, size], antialias=True) / 127.5 - 1
        torch.testing.assert_close(to_input(images, size), expected, atol=1e-4, rtol=0)

    def test_image_size_is_what_the_network_sees(self, small):
        images = images_of(5, side=48)
        found = Scorer(small, runtime(), 32).predict(images)
        with torch.no_grad():
            logits, _ = small(
                F.interpolate(images.permute(0, 3, 1, 2) / 127.5 - 1, (32, 32), mode="bilinear", antialias=True)
            )
        assert found.probs == pytest.approx(F.softmax(logits, 1).numpy(), abs=1e-5)

    def test_images_stay_as_they_are(self, small):
        images = images_of(5)
        before = images.clone()
        Scorer(small, runtime(), 32).predict(images)
        assert torch.equal(images, before)
