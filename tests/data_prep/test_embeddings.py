"""Frozen embeddings: equal to a plain forward pass, cached, read from files; and the starts that they make possible."""

import sys

import launch
import numpy as np
import pytest
import runs
import tiny_networks
import torch
from tiny_clip import SIDE, save_clip

from al.config import RunConfig
from al.data import DataSet, ImageSet, content_fingerprint
from al.errors import UserError
from al.runtime import resolve_runtime
from al.strategies import REGISTRY, Pool
from data_prep import embeddings as module
from data_prep.datasets import load_dataset
from data_prep.embeddings import embed, from_file
from data_prep.first_labels import first_labels, variant_and_pool


def silent(counts, total, description):
    return counts


def data_set(train=11, test=5, side=SIDE) -> DataSet:
    rng = np.random.default_rng(0)
    splits = [
        ImageSet(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8), np.arange(n) % 3, ("cat", "dog", "ship"))
        for n in (train, test)
    ]
    return DataSet("tiny", *splits, content_fingerprint(splits))


@pytest.fixture(scope="module")
def runtime():
    return resolve_runtime("cpu", "float32")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny models in the Hub's format, each with its image processor."""
    from transformers import ConvNextImageProcessor, ViTImageProcessor

    root = tmp_path_factory.mktemp("models")
    folders = {"clip": save_clip(root / "clip")}
    for kind in ("resnet", "vit"):
        folders[kind] = tiny_networks.save(kind, root / kind)
        make = ViTImageProcessor if kind == "vit" else ConvNextImageProcessor
        size = {"height": 32, "width": 32} if kind == "vit" else {"shortest_edge": 32}
        make(size=size, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.3]).save_pretrained(folders[kind])
    return folders


def plain(folder, images) -> np.ndarray:
    """The textbook way: picture by picture through the model's own processor, no folding, no batches."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    processor, model = AutoImageProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    for image in images:
        inputs = processor(images=Image.fromarray(image), return_tensors="pt")
        with torch.no_grad():
            if hasattr(model, "get_image_features"):
                output = model.get_image_features(**inputs)
                vector = getattr(output, "pooler_output", output)
            else:
                output = model(**inputs)
                # the tiny ViT was saved as a classifier: it has no pooler, and its classifier reads the first token
                tokens = model.config.model_type == "vit"
                vector = output.last_hidden_state[:, 0] if tokens else output.pooler_output.flatten(1)
        vectors.append(vector[0] / vector[0].norm())
    return torch.stack(vectors).numpy()


@pytest.mark.parametrize("kind", ["clip", "resnet", "vit"])
def test_vectors_equal_a_plain_forward_pass(models, runtime, tmp_path, kind):
    data = data_set()
    found = embed(data, "train", str(models[kind]), None, runtime, tmp_path, silent)
    expected = plain(models[kind], data.train.images)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(expected - expected[::-1]).max() > 0.02, "the comparison could not fail"


def test_a_size_of_ones_own_resizes_and_normalises(models, runtime, tmp_path):
    """At the images' own size nothing is resampled: the values that go in are known exactly."""
    import torch
    from transformers import AutoModel

    data = data_set(side=40)
    found = embed(data, "test", str(models["resnet"]), 40, runtime, tmp_path, silent)
    mean, std = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
    inputs = torch.from_numpy((data.test.images.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(models["resnet"]).eval()(inputs).pooler_output.flatten(1)
    np.testing.assert_allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-5)
    other = embed(data, "test", str(models["resnet"]), 64, runtime, tmp_path, silent)
    assert np.abs(other - found).max() > 1e-3, "another size is another entry of the cache"


@pytest.mark.parametrize("kind", ["clip", "resnet", "vit"])
def test_images_are_resized_on_the_cpu_whatever_the_device(models, kind, monkeypatch):
    """So that one cache serves machines with and without an accelerator."""
    import torch
    from transformers import AutoImageProcessor

    from data_prep import image_encoder

    processor, images = AutoImageProcessor.from_pretrained(models[kind]), data_set(side=40).train.images
    elsewhere, seen = torch.device("meta"), []
    resize = image_encoder.F.interpolate
    monkeypatch.setattr(
        image_encoder.F, "interpolate", lambda batch, *rest, **how: seen.append(batch) or resize(batch, *rest, **how)
    )
    preprocess = type(processor).preprocess
    monkeypatch.setattr(
        type(processor),
        "preprocess",
        lambda self, images, **how: seen.append(images) or preprocess(self, images, **how),
    )
    assert image_encoder.pixels(processor, images, elsewhere)["pixel_values"].device == elsewhere
    assert image_encoder.resized(processor, images, elsewhere, 32).device == elsewhere
    assert len(seen) == 2
    assert all(str(batch.device) == "cpu" for batch in seen)


def test_second_call_computes_nothing(models, runtime, tmp_path, monkeypatch):
    data, model = data_set(), str(models["resnet"])
    first = embed(data, "train", model, 32, runtime, tmp_path, silent)
    monkeypatch.setitem(sys.modules, "data_prep.image_encoder", None)  # importing it raises
    again = embed(data, "train", model, 32, runtime, tmp_path, silent)
    np.testing.assert_array_equal(first, again)
    assert isinstance(again, np.memmap)
    with pytest.raises(ImportError):
        embed(data, "test", model, 32, runtime, tmp_path, silent)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ("./nowhere", None, "no such folder"),
        ("not a model", None, "not a Hub id"),
        ("vit", 24, "features_size"),
    ],
)
def test_models_that_do_not_serve(models, runtime, tmp_path, model, size, message):
    with pytest.raises(UserError, match=message) as caught:
        embed(data_set(), "train", str(models.get(model, model)), size, runtime, tmp_path, silent)
    assert "features=" in str(caught.value)
    assert "\n" not in str(caught.value)


FULL = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has 79 GiB"),
    lambda: RuntimeError(
        "MPS backend out of memory (MPS allocated: 18.00 GB). Tried to allocate 2 GB on private pool."
    ),
]
"""What devices say where they have no room left."""


@pytest.mark.parametrize("error", FULL)
class TestDeviceThatIsFull:
    @pytest.fixture
    def room(self, monkeypatch, error):
        """room(n): only that many images find room at once; returns how many each batch tried had."""
        from data_prep.image_encoder import _Vectors

        forward, tried = _Vectors.forward, []

        def crowded(vectors, images, most):
            tried.append(len(images))
            if len(images) > most:
                raise error()
            return forward(vectors, images)

        def leave(most):
            monkeypatch.setattr(_Vectors, "forward", lambda vectors, images: crowded(vectors, images, most))
            return tried

        return leave

    @pytest.mark.parametrize("kind", ["resnet", "vit"])
    def test_batches_shrink_until_they_fit(self, models, runtime, tmp_path, room, kind):
        data = data_set(train=13)
        whole = embed(data, "train", str(models[kind]), None, runtime, tmp_path / "whole", silent)
        tried = room(3)
        found = embed(data, "train", str(models[kind]), None, runtime, tmp_path / "crowded", silent)
        np.testing.assert_allclose(found, whole, atol=1e-6)
        assert tried[-7:] == [13, 6, 3, 3, 3, 3, 1]

    def test_no_room_for_two_is_no_fault_of_the_model(self, models, runtime, tmp_path, room):
        room(1)
        self.refused(models, runtime, tmp_path, r"^device=cpu: no room for features='.*resnet'; use a smaller model")

    def test_no_room_for_the_weights_is_one_line(self, models, runtime, tmp_path, error, monkeypatch):
        def to(*arguments, **options):
            raise error()

        monkeypatch.setattr(torch.nn.Module, "to", to)
        self.refused(models, runtime, tmp_path, r"^device=cpu: no room for features='.*resnet'; use a smaller model")

    def test_no_room_for_one_is_one_line(self, models, runtime, tmp_path, error, monkeypatch):
        from data_prep.image_encoder import VisionEncoder

        def full(*arguments):
            raise error()

        monkeypatch.setattr(VisionEncoder, "_encode_images", full)
        self.refused(
            models, runtime, tmp_path, r"no room for the vector of one image; use a smaller model, or a smaller"
        )

    @staticmethod
    def refused(models, runtime, tmp_path, message):
        with pytest.raises(UserError, match=message) as caught:
            embed(data_set(), "train", str(models["resnet"]), None, runtime, tmp_path, silent)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("fewer runs at a time, or another device")


# files


def save_npz(path, data, width=4, **changed):
    arrays = {
        "train": np.random.default_rng(1).standard_normal((len(data.train), width)).astype(np.float32),
        "test": np.random.default_rng(2).standard_normal((len(data.test), width)).astype(np.float32),
    } | changed
    np.savez(path, **arrays)
    return arrays


def test_files_are_read_as_they_are(tmp_path):
    data = data_set()
    arrays = save_npz(tmp_path / "both.npz", data)
    for split, array in arrays.items():
        np.save(tmp_path / f"{split}.npy", array.astype(np.float16))
    archive, folder = from_file(tmp_path / "both.npz", data), from_file(tmp_path, data)
    np.testing.assert_array_equal(archive.train, arrays["train"])
    np.testing.assert_array_equal(folder.test, arrays["test"].astype(np.float16))
    assert isinstance(folder.train, np.memmap)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": np.zeros((10, 4), np.float32)}, "11 images need as many rows"),
        ({"test": np.zeros((5, 3), np.float32)}, "one model"),
        ({"test": np.zeros((5, 4), np.int64)}, "float32 or float16"),
        ({"train": np.full((11, 4), np.nan, np.float32)}, "NaN"),
        ({"test": np.full((5, 4), 1e31, np.float32)}, r"up to 1e\+31, whose squares float32 cannot hold; scale them"),
        ({"test": np.full((5, 4), -3e38, np.float32)}, r"up to 3e\+38"),
        ({"train": np.zeros(11, np.float32)}, "rows"),
        ({"train": np.array([object()] * 11)}, "cannot be read"),
    ],
)
def test_files_that_do_not_fit(tmp_path, changed, message):
    data = data_set()
    save_npz(tmp_path / "e.npz", data, **changed)
    with pytest.raises(UserError, match=message) as caught:
        from_file(tmp_path / "e.npz", data)
    assert "\n" not in str(caught.value)


def test_vectors_that_are_all_the_same_are_said(tmp_path, capsys):
    data = data_set()
    save_npz(tmp_path / "e.npz", data, train=np.ones((11, 4), np.float32))
    from_file(tmp_path / "e.npz", data)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: features=file:")
    assert "train: all 11 vectors are the same" in line


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    for path in ("nowhere.npz", "torn.npz", ""):
        with pytest.raises(UserError, match=r"train\.npy and test\.npy"):
            from_file(tmp_path / path, data_set())


# configuration


def config(**parameters) -> RunConfig:
    return RunConfig.from_mapping({"dataset": "digits", **parameters})


@pytest.mark.parametrize("parameters", [{"model": "frozen"}, {"init": "probcover"}])
def test_embeddings_that_are_needed_must_be_named(parameters):
    with pytest.raises(UserError, match="features=MODEL"):
        config(**parameters)
    config(features="file:e.npz", **parameters)


def test_an_unknown_start_names_the_nearest():
    with pytest.raises(UserError, match="stratified"):
        config(init="stratifed")


def test_features_count_only_where_they_are_used():
    """So that runs that cannot differ are one run."""
    assert config(strategy="margin", features="a/b").digest() == config(strategy="margin").digest()
    assert config(strategy="badge", features="a/b").digest() == config(strategy="badge").digest()
    assert config(strategy="coreset", features="a/b").digest() != config(strategy="coreset").digest()
    assert config(strategy="stratified", features="a/b").digest() == config(strategy="stratified").digest()
    frozen = config(model="frozen", features="a/b")
    assert frozen.digest() == config(model="frozen", features="a/b", lr=0.1, max_epochs=3, val_fraction=0.3).digest()
    assert frozen.digest() != config(model="frozen", features="a/b", weight_decay=0.1).digest()
    assert frozen.digest() != config(model="frozen", features="a/b", features_size=64).digest()
    start = {"init": "probcover", "features": "a/b"}
    assert config(**start).digest() != config(probcover_delta=0.3, **start).digest()


# starts and runs


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory):
    """Embeddings of digits that are good for something: the pictures at 8 x 8, centred."""
    data = load_dataset("digits", "")
    small = {
        split: getattr(data, split).images[:, 2::4, 2::4, 0].reshape(-1, 64).astype(np.float32) / 16
        for split in ("train", "test")
    }
    path = tmp_path_factory.mktemp("embeddings") / "digits.npz"
    np.savez(path, **small)
    return path


@pytest.mark.parametrize("init", ["typiclust_typical", "probcover", "coreset", "maxherding"])
def test_first_labels_are_what_the_strategy_picks_from_nothing(digits_file, init):
    data = load_dataset("digits", "")
    chosen = config(init=init, features=f"file:{digits_file}", variant="balanced_10")
    _, scope = variant_and_pool(chosen, data.train)
    vectors = module.load_embeddings(chosen, data)
    first = first_labels(chosen, data, scope, 20, vectors=vectors)
    again = first_labels(chosen, data, scope, 20, vectors=vectors)
    other = first_labels(chosen.model_copy(update={"split_seed": 34}), data, scope, 20, vectors=vectors)
    assert len(set(first.rows)) == 20
    assert len(first.machine_labelled) == 0
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.labels, data.train.labels[first.rows])
    chance = init != "maxherding"  # which draws nothing where it looks at all of the pool
    assert (set(first.rows) != set(other.rows)) is chance, "split seeds draw"


def test_a_cold_start_covers_more_classes_than_chance(digits_file):
    data = load_dataset("digits", "")
    seen = {"random": [], "typiclust_typical": []}
    for init, counts in seen.items():
        for split_seed in range(8):
            chosen = config(init=init, features=f"file:{digits_file}", variant="balanced_10", split_seed=split_seed)
            vectors = module.load_embeddings(chosen, data)
            first = first_labels(chosen, data, np.arange(len(data.train)), 10, vectors=vectors)
            counts.append(len(set(first.labels)))
    assert np.mean(seen["typiclust_typical"]) > np.mean(seen["random"]) + 1


def curve(digits_file, results, **changed) -> dict:
    return {
        "dataset": "digits",
        "model": "frozen",
        "features": f"file:{digits_file}",
        "budget": 90,
        "initial_min": 10,
        "initial_fraction": 0.01,
        "batch_fraction": 0.12,
        "batch_growth": 2,
        "results_dir": results,
        "device": "cpu",
        **changed,
    }


def start(launcher, parameters, **options):
    return launcher.run([f"--{name}={value}" for name, value in parameters.items()], **options)


def test_a_frozen_model_fits_once_a_round_and_leaves_the_same_files(launcher, digits_file, tmp_path):
    outcome = start(launcher, curve(digits_file, tmp_path, strategy="margin"))
    assert outcome.code == 0, outcome.stderr
    run = runs.only_run(tmp_path)
    epochs, rounds = runs.read_lines(run / "epochs.jsonl"), runs.read_lines(run / "rounds.jsonl")
    assert [row["labels"] for row in epochs] == [row["labels"] for row in rounds] == [10, 21, 43, 87, 90]
    assert all(row["val_size"] == 0 and "val" not in row and row["train_size"] == row["labels"] for row in epochs)
    accuracy = [row["test"]["accuracy"] for row in epochs]
    assert accuracy[-1] > 85 > accuracy[0] > 20
    metrics = runs.read_json(run / "performance_metrics.json")
    assert metrics["validation_metrics_for_best_epoch"] == {}
    assert metrics["test_metrics"]["accuracy"] == accuracy[-1]
    whole = runs.read_json(run.parent / "aggregated" / "performance_metrics.json")
    assert whole["averaged_validation_metrics_for_best_epochs"] == {}
    assert whole["averaged_test_metrics"]["accuracy_mean"] == accuracy[-1]
    assert (run / "plots" / "confusion_matrix_test.png").is_file()
    assert not (run / "plots" / "confusion_matrix_validation.png").exists()


def test_every_run_is_counted_what_its_embeddings_took_whoever_computed_them(launcher, models, tmp_path):
    shared = {"features": models["resnet"], "features_size": 32, "strategy": "margin", "budget": 20}
    found = []
    for split_seed in (1, 2):
        outcome = start(launcher, curve(None, tmp_path, split_seed=split_seed, **shared))
        assert outcome.code == 0, outcome.stderr
        assert ("embeddings: from the cache; computing them took" in outcome.stdout) is (split_seed == 2)
        (run,) = tmp_path.glob(f"*/split_seed_{split_seed}")
        found.append((runs.read_lines(run / "epochs.jsonl"), runs.read_json(run / "performance_metrics.json")))
    first, second = ([row["seconds"]["embed"] for row in epochs] for epochs, _ in found)
    assert first[0] > 0
    assert first == second == [first[0], *[0] * (len(first) - 1)]
    for epochs, metrics in found:
        assert metrics["seconds"]["embed"] == first[0]
        own = sum(row["seconds"]["round"] for row in epochs)
        assert own <= metrics["training_time_seconds"] == metrics["seconds"]["round"]


def test_a_frozen_run_that_was_killed_ends_the_same(launcher, digits_file, tmp_path):
    whole, cut = (curve(digits_file, tmp_path / name, strategy="badge") for name in ("whole", "cut"))
    cut |= {"checkpoint_seconds": 0}
    assert start(launcher, whole).code == 0
    assert start(launcher, cut, strike=("replace checkpoint.pt", 3, launch.signal.SIGKILL)).code == -9
    assert start(launcher, cut).code == 0
    runs.assert_same(runs.only_run(tmp_path / "cut"), runs.only_run(tmp_path / "whole"))


@pytest.mark.parametrize("strategy", sorted(name for name, method in REGISTRY.items() if not method.baseline))
def test_every_strategy_runs_on_a_frozen_model(launcher, digits_file, tmp_path, strategy):
    outcome = start(launcher, curve(digits_file, tmp_path, strategy=strategy, budget=40))
    assert outcome.code == 0, outcome.stderr
    assert runs.read_lines(runs.only_run(tmp_path) / "rounds.jsonl")[-1]["labels"] == 40


def test_strategies_cluster_in_the_embeddings_that_are_named(launcher, digits_file, tmp_path):
    """coreset needs nothing else: its picks are known, whatever network learns, and no pass over the pool is made."""
    parameters = curve(digits_file, tmp_path, strategy="coreset", model="small_cnn", weights="none", budget=60)
    parameters |= {"initial_min": 30, "batch_fraction": 0.25, "batch_growth": 1, "max_epochs": 4}
    outcome = start(launcher, parameters)
    assert outcome.code == 0, outcome.stderr
    first, second, *_ = runs.read_lines(runs.only_run(tmp_path) / "rounds.jsonl")
    features = np.load(digits_file)["train"]
    labelled = np.isin(np.arange(len(features)), first["rows"])
    pool = Pool(labelled=labelled, classes=10, features=features)
    expected = REGISTRY["coreset"].select(pool, 15, np.random.default_rng(0))
    assert second["rows"] == expected.positions.tolist()
    assert second["predicted"] == [None] * 15
    epoch, *_ = runs.read_lines(runs.only_run(tmp_path) / "epochs.jsonl")
    assert second["seconds"]["score"] < epoch["seconds"]["evaluate"] / 5  # a pass would be over twice as many images
