"""Networks by name: where they come from, what they give, and what is said where they cannot be had."""

import time
from pathlib import Path

import pytest
import tiny_networks
import torch

from al.errors import UserError
from al.learning.networks import build_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def build(name, weights="none", *, classes=10, image_size=32, seed=1, dropout=0.3):
    return build_model(name, classes, weights=weights, dropout=dropout, image_size=image_size, seed=seed)


def refused(*args, **options):
    """The error of a build that fails, one line, and its seconds."""
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        build(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace("'", ""), time.monotonic() - start


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "width"),
        [
            ("small_cnn", 64),
            ("resnet18", 512),
            ("efficientnet_b0", 1280),
            ("mobilenet_v3_small", 1024),
            ("googlenet", 1024),
        ],
    )
    def test_one_call_gives_logits_and_features(self, name, width):
        model = build(name, classes=7).eval()
        logits, features = model(torch.rand(3, 3, 32, 32))
        assert logits.shape == (3, 7)
        assert features.shape == (3, width)
        torch.testing.assert_close(logits, features @ model.head.weight.T + model.head.bias, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [("efficientnet_b9", "efficientnet_b"), ("resnet_18", "resnet18"), ("smallcnn", "small_cnn")],
    )
    def test_unknown_name_gets_the_nearest(self, wrong, right):
        message, seconds = refused(wrong)
        assert message.startswith(f"model={wrong}: ")
        assert f"did you mean {right}" in message
        assert seconds < 5

    def test_network_without_linear_classifier_is_refused(self):
        assert "choose a network" in refused("squeezenet1_0")[0]

    @pytest.mark.parametrize(("name", "size"), [("vit_b_16", 32), ("inception_v3", 32)])
    def test_image_size_that_a_network_does_not_take(self, name, size):
        message, seconds = refused(name, image_size=size)
        assert message.startswith(f"model={name}: does not take images of 32 pixels")
        assert "set image_size" in message
        assert seconds < 20

    def test_dropout_is_before_the_head_alone(self):
        for name in ("efficientnet_b0", "mobilenet_v3_small"):
            model = build(name, dropout=0.5).train()
            model.backbone.eval()  # without stochastic depth, but with the statistics of the batch
            for module in model.backbone.modules():
                if isinstance(module, torch.nn.Dropout | torch.nn.BatchNorm2d):
                    module.train()
            images = torch.rand(2, 3, 32, 32)
            first, second = model(images), model(images)
            assert torch.equal(first[1], second[1]), f"{name}: dropout in the features"
            assert not torch.equal(first[0], second[0])


class TestSeed:
    def test_same_seed_same_weights_whatever_ran_before(self):
        first = build("small_cnn")
        torch.rand(100)
        assert same_weights(first, build("small_cnn"))
        assert not same_weights(first, build("small_cnn", seed=2))


class TestWeightsFile:
    @pytest.mark.parametrize("kind", ["safetensors", "pth", "bare network", "wrapped"])
    def test_of_the_same_network(self, tmp_path, kind):
        from safetensors.torch import save_file

        source = build("small_cnn", seed=5)
        path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
        state = source.state_dict()
        if kind == "safetensors":
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        elif kind == "bare network":
            torch.save(source.backbone.state_dict(), path)
        else:
            torch.save({"state_dict": state} if kind == "wrapped" else state, path)
        model = build("small_cnn", str(path))
        assert same_weights(model.backbone, source.backbone)
        assert torch.equal(model.head.weight, source.head.weight) is (kind != "bare network")

    def test_whose_classifier_has_the_name_of_ours(self, tmp_path):
        """Swin calls it `head`, as we do; the file is its own for all that."""
        from torchvision.models import swin_t

        network = swin_t(num_classes=10)
        torch.save(network.state_dict(), tmp_path / "swin_t.pth")
        model = build("swin_t", str(tmp_path / "swin_t.pth"))
        assert torch.equal(model.backbone.features[0][0].weight, network.features[0][0].weight)
        assert torch.equal(model.backbone.norm.weight, network.norm.weight)

    def test_of_a_hugging_face_network(self, tmp_path):
        folder = tiny_networks.save("resnet", tmp_path / "resnet")
        model = build(str(folder), str(folder / "model.safetensors"), seed=3)
        assert same_weights(model.backbone, build(str(folder), "imagenet", seed=4).backbone)

    def test_torchvisions_own_file(self, tmp_path):
        from torchvision.models import resnet18

        network = resnet18(num_classes=1000)
        torch.save(network.state_dict(), tmp_path / "resnet18.pth")
        model = build("resnet18", str(tmp_path / "resnet18.pth"))
        assert torch.equal(model.state_dict()["backbone.conv1.weight"], network.conv1.weight)
        assert model.head.out_features == 10

    def test_head_of_other_classes_is_replaced(self, tmp_path):
        source = build("small_cnn", classes=4)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        model = build("small_cnn", str(tmp_path / "w.pth"), classes=6)
        assert same_weights(model.backbone, source.backbone)
        assert model.head.weight.shape == (6, 64)

    def test_of_another_network(self, tmp_path):
        torch.save(build("mobilenet_v3_small").state_dict(), tmp_path / "w.pth")
        message, _ = refused("small_cnn", str(tmp_path / "w.pth"))
        assert f"weights={tmp_path / 'w.pth'}: not the weights of small_cnn" in message

    def test_not_there(self, tmp_path):
        message, _ = refused("small_cnn", str(tmp_path / "none.pth"))
        assert "no such file" in message

    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    @pytest.mark.parametrize("kind", ["empty", "garbage", "half", "a list", "a tensor", "no tensors", "a folder"])
    def test_that_is_none(self, tmp_path, name, kind):
        path = tmp_path / name
        if kind == "a folder":
            path.mkdir()
        elif kind in ("empty", "garbage"):
            path.write_bytes(b"" if kind == "empty" else b"these are no weights\n" * 50)
        else:
            content = {"a list": [1, 2], "a tensor": torch.zeros(3), "no tensors": {"epoch": 3, "head.weight": "x"}}
            torch.save(content.get(kind, build("small_cnn").state_dict()), path)
            if kind == "half":
                path.write_bytes(path.read_bytes()[:999])
        message, _ = refused("small_cnn", str(path))
        assert message.startswith(f"weights={path}")

    def test_nothing_in_it_is_executed(self, tmp_path):
        import pickle

        class Harmful:
            def __reduce__(self):
                return Path.touch, (tmp_path / "executed",)

        (tmp_path / "w.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
        refused("small_cnn", str(tmp_path / "w.pth"))
        assert not (tmp_path / "executed").exists()


class TestImagenetWeights:
    def test_small_cnn_has_none(self):
        assert "weights=none" in refused("small_cnn", "imagenet")[0]

    def test_without_network_say_where_the_file_goes(self, tmp_path, no_network):
        message, seconds = refused("mobilenet_v3_small", "imagenet")
        expected = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth"
        assert f"at {expected}" in message
        assert "https://download.pytorch.org/models/mobilenet_v3_small-047dcff4.pth" in message
        assert seconds < 10

    @pytest.mark.parametrize("content", ["half a file", "another network"])
    def test_wrong_file_at_that_place_is_named(self, tmp_path, no_network, content):
        path = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth"
        path.parent.mkdir(parents=True)
        torch.save(build("small_cnn").backbone.state_dict(), path)
        if content == "half a file":
            path.write_bytes(path.read_bytes()[:5000])
        message, _ = refused("mobilenet_v3_small", "imagenet")
        assert str(path) in message

    def test_right_file_at_that_place_is_taken(self, tmp_path, no_network):
        from torchvision.models import mobilenet_v3_small

        path = tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth"
        path.parent.mkdir(parents=True)
        network = mobilenet_v3_small()
        torch.save(network.state_dict(), path)
        model = build("mobilenet_v3_small", "imagenet")
        assert torch.equal(model.state_dict()["backbone.features.0.0.weight"], network.features[0][0].weight)


class TestHuggingFace:
    @pytest.mark.parametrize(("kind", "width"), tiny_networks.WIDTHS.items())
    def test_local_folder(self, tmp_path, kind, width):
        folder = tiny_networks.save(kind, tmp_path / "net")
        model = build(str(folder), "imagenet", classes=5).eval()
        images = torch.rand(2, 3, 32, 32)
        logits, features = model(images)
        assert logits.shape == (2, 5)
        assert features.shape == (2, width)
        torch.testing.assert_close(features, tiny_networks.features(folder, images), atol=1e-5, rtol=1e-4)

    def test_weights_none_takes_the_shape_alone(self, tmp_path):
        folder = tiny_networks.save("resnet", tmp_path / "net")
        first, again, trained = build(str(folder)), build(str(folder)), build(str(folder), "imagenet")
        assert same_weights(first, again)
        assert not same_weights(first, trained)

    def test_own_weights_file_fits(self, tmp_path):
        folder = tiny_networks.save("resnet", tmp_path / "net")
        torch.save(build(str(folder), "imagenet").state_dict(), tmp_path / "w.pth")
        assert same_weights(build(str(folder), str(tmp_path / "w.pth")), build(str(folder), "imagenet"))

    @pytest.mark.parametrize("weights", ["imagenet", "none"])
    def test_a_checkpoint_of_half_precision_is_trained_in_float32(self, tmp_path, weights):
        from transformers import AutoModelForImageClassification

        folder = tiny_networks.save("vit", tmp_path / "net")
        AutoModelForImageClassification.from_pretrained(folder).half().save_pretrained(tmp_path / "half")
        model = build(str(tmp_path / "half"), weights)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    def test_says_nothing(self, tmp_path, capfd):
        build(str(tiny_networks.save("resnet", tmp_path / "net")), "imagenet")
        captured = capfd.readouterr()
        assert captured.out + captured.err == ""

    def test_image_size_that_a_network_does_not_take(self, tmp_path):
        folder = tiny_networks.save("vit", tmp_path / "net")
        message, _ = refused(str(folder), "imagenet", image_size=48)
        assert "does not take images of 48 pixels" in message

    def test_folder_without_a_model(self, tmp_path):
        assert "config.json" in refused(str(tmp_path))[0]

    def test_folder_without_weights(self, tmp_path):
        folder = tiny_networks.save("resnet", tmp_path / "net")
        (folder / "model.safetensors").unlink()
        message, _ = refused(str(folder), "imagenet")
        assert str(folder) in message

    def test_folder_with_half_the_weights(self, tmp_path):
        folder = tiny_networks.save("resnet", tmp_path / "net")
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        message, _ = refused(str(folder), "imagenet")
        assert str(folder) in message

    @pytest.mark.parametrize("path", ["./nowhere/net", "/nowhere/net", "a/b/c"])
    def test_folder_that_is_not_there(self, path):
        message, seconds = refused(path)
        assert message.startswith(f"model={path}")
        assert seconds < 5

    @pytest.mark.parametrize("weights", ["imagenet", "none"])
    def test_hub_id_without_network_fails_within_seconds(self, no_network, weights, capfd):
        message, seconds = refused("google/efficientnet-b0", weights)
        assert message.startswith("model=google/efficientnet-b0")
        assert "model=FOLDER" in message
        assert seconds < 10
        assert capfd.readouterr().err == ""
