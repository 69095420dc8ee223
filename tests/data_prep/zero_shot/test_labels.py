"""Zero-shot labels: equal to a plain forward pass, cached, resumed, imported; and the pool that they start."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_clip import SIDE, plain_probs, save_clip, save_siglip

from al.data import DataSet, ImageSet, content_fingerprint
from al.errors import UserError
from al.learning import hub
from data_prep import array_cache
from data_prep.zero_shot.labels import cached, clip_initial_pool, import_logits, zero_shot

CLASSES = ("cat", "sea_lion", "ship")
SHARED = Path(__file__).parents[3].parent / "shared"
REAL_LOGITS = SHARED / "data" / "clip_vit_b32_cifar10_test_logits.csv"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def data_set(images: np.ndarray, labels=None, classes=CLASSES) -> DataSet:
    labels = np.arange(len(images)) % len(classes) if labels is None else np.asarray(labels)
    split = ImageSet(images.copy(), labels.astype(np.int64), tuple(classes))
    return DataSet("tiny", split, split, content_fingerprint([split, split]))


def pictures(count: int, height: int = 32, width: int = 40, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, in which resizing leaves something to see."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, height // 4, width // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"clip": save_clip(folder / "clip"), "siglip": save_siglip(folder / "siglip")}


@pytest.fixture(scope="module")
def runtime():
    from al.runtime import resolve_runtime

    return resolve_runtime("cpu", "float32")


def silent(counts, total, description):
    return counts


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_probabilities_equal_a_plain_forward_pass(models, runtime, tmp_path, name):
    data = data_set(pictures(23))
    result = zero_shot(data, str(models[name]), "a photo of a {}.", runtime, tmp_path, silent)
    texts = [f"a photo of a {label}." for label in ("cat", "sea lion", "ship")]
    expected = plain_probs(models[name], data.train.images, texts)
    assert expected.std(axis=0).min() > 0.01, "the model must tell these images apart"
    np.testing.assert_allclose(result.probs, expected, atol=2e-6)
    np.testing.assert_array_equal(result.labels, expected.argmax(1))
    np.testing.assert_allclose(np.linalg.norm(result.features, axis=1), 1, atol=1e-5)


def test_several_prompts_are_averaged_as_vectors(models, runtime, tmp_path):
    from data_prep.zero_shot.encoder import load

    data = data_set(pictures(9))
    result = zero_shot(data, str(models["clip"]), "{} | a sketch of a {}", runtime, tmp_path, silent)
    encoder = load(str(models["clip"]), runtime)
    names = ["cat", "sea lion", "ship"]
    one, other = encoder.texts([names]), encoder.texts([[f"a sketch of a {name}" for name in names]])
    mean = (one + other) / 2
    logits = encoder.scale * result.features @ (mean / np.linalg.norm(mean, axis=1, keepdims=True)).T
    np.testing.assert_allclose(np.log(result.probs[:, 0] / result.probs[:, 1]), logits[:, 0] - logits[:, 1], atol=1e-4)
    single = zero_shot(data, str(models["clip"]), "{}", runtime, tmp_path, silent)
    assert np.abs(single.probs - result.probs).max() > 1e-3


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (33, 50), (224, 96)])
def test_batched_pixels_equal_the_processor_on_single_pictures(models, height, width):
    """The processor's PIL form is what CLIP was published with; both round to 8 bits after resizing."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from data_prep.zero_shot.encoder import pixels

    images = np.random.default_rng(1).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    ours = pixels(AutoImageProcessor.from_pretrained(models["clip"]), images, torch.device("cpu"))["pixel_values"]
    single = CLIPImageProcessorPil.from_pretrained(models["clip"])
    theirs = single(images=[Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    step = 1 / 255 / 0.26
    assert ours.shape == theirs.shape == (5, 3, SIDE, SIDE)
    assert (ours - theirs).abs().max() < 1.5 * step
    assert (ours - theirs).abs().mean() < 0.2 * step


def test_layout_of_the_published_checkpoints(models, runtime, tmp_path):
    """The Hub's oldest CLIP folders have a preprocessor_config.json of 2021 and no processor_config.json."""
    folder = tmp_path / "old"
    shutil.copytree(models["clip"], folder)
    new = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": SIDE, "crop_size": SIDE, "resample": 3}
    old |= {key: new[key] for key in ("image_mean", "image_std", "do_resize", "do_center_crop", "do_normalize")}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    (folder / "processor_config.json").unlink()
    data = data_set(pictures(5))
    ours = zero_shot(data, str(folder), "{}", runtime, tmp_path / "cache", silent)
    np.testing.assert_allclose(
        ours.probs, plain_probs(models["clip"], data.train.images, ["cat", "sea lion", "ship"]), atol=2e-6
    )


# --- the cache


def test_second_call_loads_no_model(models, runtime, tmp_path, monkeypatch):
    from data_prep.zero_shot import encoder as clip_encoder

    data = data_set(pictures(7))
    first = zero_shot(data, str(models["clip"]), "{}", runtime, tmp_path, silent)
    monkeypatch.setattr(clip_encoder, "load", lambda *_: pytest.fail("computed again"))
    start = time.perf_counter()
    second = zero_shot(data, str(models["clip"]), "{}", runtime, tmp_path, silent)
    assert time.perf_counter() - start < 0.1
    np.testing.assert_array_equal(first.probs, second.probs)
    np.testing.assert_array_equal(first.features, second.features)
    assert (first.key, first.source) == (second.key, second.source)
    assert not list(tmp_path.glob("*.part")), "nothing unfinished stays behind"
    assert not list(tmp_path.rglob("rows_*"))


def test_module_imports_no_torch():
    code = "import sys, data_prep.zero_shot.labels\n"
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_other_images_prompts_classes_models_and_splits_have_other_entries(models, runtime, tmp_path):
    images, model = pictures(6), str(models["clip"])
    zero_shot(data_set(images), model, "{}", runtime, tmp_path, silent)
    assert cached(data_set(images), model, "{}", tmp_path) is not None
    one_pixel = images.copy()
    one_pixel[3, 0, 0, 0] ^= 1
    assert cached(data_set(one_pixel), model, "{}", tmp_path) is None
    assert cached(data_set(images), model, "a {}", tmp_path) is None
    assert cached(data_set(images, classes=("cat", "ship", "sea_lion")), model, "{}", tmp_path) is None
    assert cached(data_set(images), str(models["siglip"]), "{}", tmp_path) is None
    assert cached(data_set(images), "openai/clip-vit-base-patch32", "{}", tmp_path) is None
    assert cached(data_set(images), model, "{}", tmp_path, split="test") is None


def test_a_folder_is_known_by_its_content(runtime, tmp_path):
    model = save_clip(tmp_path / "model")
    data = data_set(pictures(6))
    before = zero_shot(data, str(model), "{}", runtime, tmp_path / "cache", silent)
    moved = model.rename(tmp_path / "moved")
    assert cached(data, str(moved), "{}", tmp_path / "cache").key == before.key
    save_clip(moved, seed=1)
    assert cached(data, str(moved), "{}", tmp_path / "cache") is None
    after = zero_shot(data, str(moved), "{}", runtime, tmp_path / "cache", silent)
    assert np.abs(after.probs - before.probs).max() > 1e-3


def test_an_interrupted_call_goes_on(models, runtime, tmp_path, monkeypatch):
    from data_prep.zero_shot.encoder import Encoder

    data, model = data_set(pictures(11)), str(models["clip"])
    whole = zero_shot(data, model, "{}", runtime, tmp_path / "whole", silent)
    monkeypatch.setattr(array_cache, "SHARD", 4)
    encode, seen = Encoder._encode_images, []

    def counted(self, images, allowed):
        if len(seen) == allowed:
            raise KeyboardInterrupt
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Encoder, "_encode_images", lambda self, images: counted(self, images, 2))
    with pytest.raises(KeyboardInterrupt):
        zero_shot(data, model, "{}", runtime, tmp_path / "cut", silent)
    assert cached(data, model, "{}", tmp_path / "cut") is None
    monkeypatch.setattr(Encoder, "_encode_images", lambda self, images: counted(self, images, 99))
    reported = []
    watch = lambda counts, total, _: (reported.append(count) or count for count in counts)  # noqa: E731
    resumed = zero_shot(data, model, "{}", runtime, tmp_path / "cut", watch)
    assert seen == [4, 4, 3], "only what was missing is computed"
    assert sum(reported) == 11
    np.testing.assert_allclose(resumed.probs, whole.probs, atol=1e-6)


def test_batches_shrink_until_they_fit(models, runtime, monkeypatch):
    import torch

    from data_prep.zero_shot.encoder import Encoder, load

    encoder, images = load(str(models["clip"]), runtime), pictures(13)
    expected = np.concatenate(list(encoder.images(images)))
    encode = Encoder._encode_images

    def small_device(self, batch):
        if len(batch) > 3:
            raise torch.OutOfMemoryError
        return encode(self, batch)

    monkeypatch.setattr(Encoder, "_encode_images", small_device)
    encoder.batch = 8
    np.testing.assert_allclose(np.concatenate(list(encoder.images(images))), expected, atol=1e-6)


@pytest.mark.parametrize("place", ["_encode_images", "_encode_texts"])
def test_no_room_for_one_is_one_line(models, runtime, tmp_path, monkeypatch, place):
    import torch

    from data_prep.zero_shot.encoder import Encoder

    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has 79 GiB")

    monkeypatch.setattr(Encoder, place, full)
    message = r"^device=cpu: no room for the .*; use a smaller clip_model, fewer runs at a time, or another device$"
    fails(message, data_set(pictures(3)), models["clip"], runtime, tmp_path)


# --- bad input: one clear line each


def refused(message: str, call, *arguments, **options) -> str:
    with pytest.raises(UserError, match=message) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fails(message: str, data: DataSet, model, runtime, tmp_path, prompt="{}") -> str:
    return refused(message, zero_shot, data, str(model), prompt, runtime, tmp_path, silent)


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_no_network_and_no_folder_fails_within_seconds(runtime, tmp_path, monkeypatch, answers):
    """A closed port and one that accepts and never says anything, where loaders would retry for half a minute."""
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not answers:
            server.close()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(hub, "TIMEOUT", 1)
        start = time.perf_counter()
        line = fails("no such folder", data_set(pictures(3)), "someone/clip-of-no-hub", runtime, tmp_path)
        assert time.perf_counter() - start < 8
    assert "clip_model=FOLDER" in line
    assert not list(tmp_path.glob("*.part"))


def test_a_path_that_is_not_there(runtime, tmp_path):
    fails("not a Hub id", data_set(pictures(3)), tmp_path / "nothing" / "here", runtime, tmp_path)


def test_a_model_that_is_not_clip_like(runtime, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 32}))
    assert "vit" in fails("CLIP or SigLIP", data_set(pictures(3)), tmp_path, runtime, tmp_path / "cache")


def test_folders_that_lack_something(models, runtime, tmp_path):
    from safetensors.torch import load_file, save_file

    data, folder = data_set(pictures(3)), tmp_path / "model"
    folder.mkdir()
    fails("config.json cannot be read", data, folder, runtime, tmp_path / "cache")
    shutil.copytree(models["clip"], folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    fails("lack 1 tensors, visual_projection.weight", data, folder, runtime, tmp_path / "cache")
    (folder / "model.safetensors").unlink()
    fails("the weights cannot be read", data, folder, runtime, tmp_path / "cache")
    (folder / "processor_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    fails("processor|tokenizer", data, folder, runtime, tmp_path / "cache")


def test_prompts_and_class_names(models, runtime, tmp_path, caplog):
    images, model = pictures(4), models["clip"]
    fails(r"has no \{\}", data_set(images), model, runtime, tmp_path, prompt="{}|a photo")
    fails("without names", data_set(images, classes=("cat", " ")), model, runtime, tmp_path)
    zero_shot(data_set(images, classes=("0", "1")), str(model), "{}", runtime, tmp_path, silent)
    assert "a number says little" in caplog.text


# --- outputs from a file


def write_csv(path: Path, columns: dict[str, list]) -> Path:
    lines = [",".join(columns), *(",".join(str(cell) for cell in line) for line in zip(*columns.values()))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def outputs():
    """A data set of six images and logits for them; columns of the file in another order than the classes."""
    logits = np.random.default_rng(3).normal(size=(6, 3)).round(3)
    data = data_set(pictures(6), labels=[0, 0, 1, 1, 2, 2])
    columns = {"ship": logits[:, 2], "cat": logits[:, 0], "sea_lion": logits[:, 1]}
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return data, {name: list(column) for name, column in columns.items()}, probs


def test_a_run_finds_imported_outputs(outputs, tmp_path):
    data, columns, probs = outputs
    file = write_csv(tmp_path / "a.csv", columns | {"target-0": [0.0, 0, 1, 1, 2, 2]})
    import_logits(data, file, "my-labeller", "{}", tmp_path / "cache")
    found = zero_shot(data, "my-labeller", "{}", None, tmp_path / "cache")
    np.testing.assert_allclose(found.probs, probs, atol=1e-6)
    assert found.features is None
    assert "a.csv" in found.source


def test_a_file_serves_as_the_model_and_its_content_as_the_key(outputs, tmp_path):
    data, columns, probs = outputs
    file = write_csv(tmp_path / "a.csv", columns)
    first = zero_shot(data, f"file:{file}", "{}", None, tmp_path / "cache")
    np.testing.assert_allclose(first.probs, probs, atol=1e-6)
    columns["cat"][0] += 1
    write_csv(file, columns)
    assert zero_shot(data, f"file:{file}", "{}", None, tmp_path / "cache").key != first.key


def test_probabilities_stay_as_they_are(outputs, tmp_path):
    data, _, probs = outputs
    file = write_csv(tmp_path / "p.csv", {name: probs[:, i].round(6) for i, name in enumerate(CLASSES)})
    np.testing.assert_allclose(zero_shot(data, f"file:{file}", "{}", None, tmp_path).probs, probs, atol=1e-5)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_probabilities_that_were_rounded_are_no_logits(outputs, tmp_path, digits):
    """A softmax of probabilities is nearly even: every label would count as unsure."""
    data, *_ = outputs
    probs = np.tile([[1 / 3, 1 / 3, 1 / 3], [0.915, 0.0425, 0.0425], [0.04455, 0.06655, 0.8889]], (2, 1))
    rounded = probs.round(digits)
    file = write_csv(tmp_path / "p.csv", {name: rounded[:, i] for i, name in enumerate(CLASSES)})
    found = zero_shot(data, f"file:{file}", "{}", None, tmp_path).probs
    np.testing.assert_allclose(found, probs, atol=1.2 * 10.0**-digits)
    np.testing.assert_allclose(found.sum(1), 1, atol=1.1e-3)


@pytest.mark.parametrize("values", [[0.21, 0.25, 0.3], [0.9, 0.8, 0.95], [0.0, 0.0, 0.0]])
def test_values_that_are_neither_probabilities_nor_logits(outputs, tmp_path, values):
    """Cosines, or independent scores from 0 to 1: a softmax of them would make every image look unsure."""
    data, *_ = outputs
    file = write_csv(tmp_path / "s.csv", {name: [values[i]] * 6 for i, name in enumerate(CLASSES)})
    refused("neither probabilities nor logits", zero_shot, data, f"file:{file}", "{}", None, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('cat,sea_lion,ship\n1,2,"3\n4,5,6\n', "not CSV: unexpected end of data"),
        ("cat,sea_lion,ship\n1,2," + "3" * 200_000, "not CSV: field larger than field limit"),
        ("cat,sea_lion,ship,cat\n1,2,3,4\n", "column 'cat' is there twice; remove or rename one"),
        ("cat,sea_lion,ship\n1,2,３\n", "'３'; every value must be a finite number"),
        ("cat,sea_lion,ship\n1,2,1_0\n", "'1_0'; every value"),
        ("cat,sea_lion,ship\n1,2," + "x" * 5000, "x'; every value"),
        ("\ufeff", "not a CSV file with a header"),
        ("cat,sea_lion,ship\n1,2,\0\n", "line contains NUL|finite number"),
    ],
)
def test_odd_files(outputs, tmp_path, text, message):
    data, *_ = outputs
    (tmp_path / "odd.csv").write_text(text)
    line = refused(message, zero_shot, data, f"file:{tmp_path / 'odd.csv'}", "{}", None, tmp_path)
    assert len(line) < 500


def test_a_file_that_is_not_utf8(outputs, tmp_path):
    data, *_ = outputs
    (tmp_path / "latin.csv").write_bytes("cat,sea_lion,ship\n1,2,3\xe9\n".encode("latin1"))
    refused("not UTF-8", zero_shot, data, f"file:{tmp_path / 'latin.csv'}", "{}", None, tmp_path)


def test_row_index_and_names_of_true_labels(outputs, tmp_path):
    data, columns, probs = outputs
    columns |= {"label": ["cat", "cat", "sea_lion", "sea_lion", "ship", "ship"], "instance_id": list(range(6))}
    backwards = {name: column[::-1] for name, column in columns.items()}
    file = write_csv(tmp_path / "b.csv", backwards)
    np.testing.assert_allclose(zero_shot(data, f"file:{file}", "{}", None, tmp_path).probs, probs, atol=1e-6)


def test_lines_meet_images_in_folders_by_class(outputs, tmp_path):
    data, columns, probs = outputs
    mixed = np.array([4, 0, 2, 5, 1, 3])  # within each class still in order
    file = write_csv(
        tmp_path / "c.csv",
        {name: list(np.array(column)[mixed]) for name, column in columns.items()}
        | {"target-0": list(data.train.labels[mixed])},
    )
    refused("true labels differ.*--order=by-class", import_logits, data, file, "m", "{}", tmp_path / "cache")
    result = import_logits(data, file, "m", "{}", tmp_path / "cache", order="by-class")
    np.testing.assert_allclose(result.probs, probs, atol=1e-6)


def test_imported_outputs_never_replace_others(outputs, tmp_path):
    data, columns, _ = outputs
    first = write_csv(tmp_path / "a.csv", columns)
    import_logits(data, first, "m", "{}", tmp_path / "cache")
    import_logits(data, first, "m", "{}", tmp_path / "cache")
    other = write_csv(tmp_path / "other.csv", columns | {"cat": [0.5] * 6})
    refused("holds other outputs", import_logits, data, other, "m", "{}", tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cat": ["nan", 0, 0, 0, 0, 0]}, "'cat', line 2 is 'nan'"),
        ({"ship": [0, 0, "?", 0, 0, 0]}, "'ship', line 4"),
        ({"cat": [0, "inf", 0, 0, 0, 0]}, "finite"),
        ({"dog": [0] * 6}, "'dog' is not a class"),
        ({"target-0": [0, 0, 1, 1, 2, 3]}, "line 7 is '3'"),
        ({"target-0": [0, 0, 1, 1, 1, 2]}, "1 of 6 true labels differ"),
        ({"instance_id": [0, 0, 1, 2, 3, 4]}, "each of 0 to 5 once"),
    ],
)
def test_bad_values_in_a_file(outputs, tmp_path, change, message):
    data, columns, _ = outputs
    file = write_csv(tmp_path / "bad.csv", columns | change)
    refused(message, zero_shot, data, f"file:{file}", "{}", None, tmp_path)


def test_bad_files(outputs, tmp_path):
    data, columns, _ = outputs
    refused("No such file", zero_shot, data, "file:/nowhere.csv", "{}", None, tmp_path)
    short = write_csv(tmp_path / "short.csv", {name: column[:5] for name, column in columns.items()})
    refused("5 lines for 6 images", zero_shot, data, f"file:{short}", "{}", None, tmp_path)
    lacking = write_csv(tmp_path / "lacking.csv", {"cat": columns["cat"]})
    refused("no column for sea_lion, ship", zero_shot, data, f"file:{lacking}", "{}", None, tmp_path)
    empty = tmp_path / "empty.csv"
    empty.touch()
    refused("not a CSV file", zero_shot, data, f"file:{empty}", "{}", None, tmp_path)
    (tmp_path / "ragged.csv").write_text("cat,sea_lion,ship\n1,2\n")
    refused("line 2 has 2 values", zero_shot, data, f"file:{tmp_path / 'ragged.csv'}", "{}", None, tmp_path)
    unlabelled = write_csv(tmp_path / "u.csv", columns)
    refused("needs the true labels", import_logits, data, unlabelled, "m", "{}", tmp_path, order="by-class")


@pytest.mark.skipif(not REAL_LOGITS.is_file(), reason="needs CLIP's real outputs")
def test_real_logits_are_right_for_8897_of_10000_test_images(tmp_path):
    labels = np.repeat(np.arange(10), 1000)  # images in folders by class
    data = data_set(np.zeros((10_000, 1, 1, 3), np.uint8), labels, CIFAR10)
    result = import_logits(
        data, REAL_LOGITS, "openai/clip-vit-base-patch32", "This is a photo of a {}", tmp_path, order="by-class"
    )
    assert (result.labels == labels).sum() == 8897
    lines = np.genfromtxt(REAL_LOGITS, delimiter=",", skip_header=1)
    ships = lines[lines[:, 10] == 8][:, :10]
    np.testing.assert_array_equal(result.labels[8000:9000], ships.argmax(1))
    refused("of 10000 true labels differ", import_logits, data, REAL_LOGITS, "m", "{}", tmp_path)


# --- the initial pool


def random_probs(count: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), count).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_pool_takes_the_most_confident_of_each_predicted_class(seed):
    probs, rows = random_probs(300, 4, seed), np.random.default_rng(seed).permutation(300)[:200]
    taken, labels = clip_initial_pool(probs, rows, 42, np.random.default_rng(seed))
    assert np.array_equal(taken, np.unique(taken))
    assert set(taken) <= set(rows)
    np.testing.assert_array_equal(labels, probs[taken].argmax(1))
    assert sorted(np.bincount(labels, minlength=4)) == [10, 10, 11, 11]
    for c in range(4):
        rivals = [row for row in rows if probs[row].argmax() == c and row not in taken]
        assert max(probs[rivals].max(1)) <= min(probs[taken[labels == c]].max(1))


def test_of_equals_the_lower_row_is_taken():
    probs = np.tile(np.array([[0.75, 0.25], [0.25, 0.75]], np.float32), (10, 1))
    taken, _ = clip_initial_pool(probs, np.arange(19, -1, -1), 6, np.random.default_rng(0))
    assert taken.tolist() == [0, 1, 2, 3, 4, 5]


def test_shares_of_rare_classes_are_spread_and_it_is_said(caplog):
    predicted = np.array([0] * 50 + [1] * 50 + [2] * 3)  # class 3 never
    probs = np.eye(4, dtype=np.float32)[predicted]
    _, labels = clip_initial_pool(probs, np.arange(103), 41, np.random.default_rng(0))
    assert np.bincount(labels, minlength=4).tolist() == [19, 19, 3, 0]
    assert "class 2: 3, class 3: 0" in caplog.text


def test_everything_can_be_taken_but_not_more():
    probs = random_probs(30, 3, 0)
    taken, _ = clip_initial_pool(probs, np.arange(30), 30, np.random.default_rng(0))
    assert taken.tolist() == list(range(30))
    refused("only 30", clip_initial_pool, probs, np.arange(30), 31, np.random.default_rng(0))
