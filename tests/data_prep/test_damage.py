"""Damaged caches are noticed, said and made again: embeddings, zero-shot labels and decoded images alike."""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_data import CLASSES, data_set, image_folder, silent

from al.errors import UserError
from data_prep import array_cache, checksums
from data_prep.array_cache import Entry
from data_prep.datasets import load_dataset
from data_prep.embeddings import embed
from data_prep.zero_shot.labels import import_logits, zero_shot


@dataclass
class Cache:
    """One kind of cache with a way to fill and read it."""

    root: Path
    get: Callable[[], np.ndarray]
    array: str
    info: str

    @property
    def entry(self) -> Path:
        (found,) = {file.parent for file in self.root.rglob(self.array)}
        return found


@pytest.fixture(params=["embeddings", "zero-shot labels", "images"])
def cache(request, tmp_path, tiny_models, cpu) -> Cache:
    """A cache that has been filled."""
    data, root = data_set(), tmp_path / "cache"
    if request.param == "embeddings":
        model = str(tiny_models["resnet"])
        get = lambda: np.array(embed(data, "train", model, 32, cpu, root, silent))  # noqa: E731
        made = Cache(root, get, "embeddings.npy", "meta.json")
    elif request.param == "zero-shot labels":
        model = str(tiny_models["clip"])
        get = lambda: np.array(zero_shot(data, model, "{}", cpu, root, silent).probs)  # noqa: E731
        made = Cache(root, get, "probs.npy", "meta.json")
    else:
        root = image_folder(tmp_path / "pictures")
        get = lambda: np.array(load_dataset("imagefolder", root).train.images)  # noqa: E731
        made = Cache(root, get, "train.npy", "info.json")
    made.get()
    return made


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 40] ^= 16
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def reverse(path: Path) -> None:
    np.save(path, np.load(path)[::-1])


def turn_to_nan(path: Path) -> None:
    array = np.load(path)
    array[3] = np.nan if array.dtype == np.float32 else 0
    np.save(path, array)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [flip, cut, empty, reverse, turn_to_nan, Path.unlink, replace_by_folder])
@pytest.mark.parametrize("part", ["array", "info"])
def test_a_damaged_part_is_said_and_made_again(cache, capsys, change, part):
    expected, path = cache.get(), cache.entry / getattr(cache, part)
    if part == "info" and change in (reverse, turn_to_nan):
        pytest.skip("no array")
    capsys.readouterr()
    change(path)
    np.testing.assert_array_equal(cache.get(), expected)
    said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(said) == 1
    assert path.name in said[0]
    capsys.readouterr()
    np.testing.assert_array_equal(cache.get(), expected)
    assert "damaged" not in capsys.readouterr().err


def test_json_of_another_kind_is_damage(cache):
    expected = cache.get()
    for content in ("[1, 2]", "null", '{"checksums": 3}', "\udcff"):
        (cache.entry / cache.info).write_bytes(content.encode(errors="surrogateescape"))
        np.testing.assert_array_equal(cache.get(), expected)


def without_checksums(cache: Cache) -> None:
    path = cache.entry / cache.info
    info = json.loads(path.read_text())
    path.write_text(json.dumps({name: info[name] for name in info if not name.startswith("checksum")}))


def test_an_entry_of_before_is_taken_once_and_given_checksums(cache, capsys):
    expected = cache.get()
    without_checksums(cache)
    capsys.readouterr()
    np.testing.assert_array_equal(cache.get(), expected)
    assert "damaged" not in capsys.readouterr().err
    assert cache.array in json.loads((cache.entry / cache.info).read_text())["checksums"]
    flip(cache.entry / cache.array)
    np.testing.assert_array_equal(cache.get(), expected)


@pytest.mark.parametrize("change", [cut, empty, turn_to_nan])
def test_an_entry_of_before_that_cannot_be_right_is_made_again(cache, change):
    expected = cache.get()
    change(cache.entry / cache.array)
    without_checksums(cache)
    np.testing.assert_array_equal(cache.get(), expected)


@pytest.mark.parametrize("change", [flip, cut, empty])
def test_a_damaged_shard_of_a_cut_run_is_made_again(tiny_models, cpu, tmp_path, monkeypatch, change):
    monkeypatch.setattr(array_cache, "SHARD", 4)
    data, model = data_set(), str(tiny_models["resnet"])
    expected = np.array(embed(data, "train", model, 32, cpu, tmp_path / "whole", silent))

    def cut_short(counts, total, description):
        for done in counts:
            yield done
            if len(list(tmp_path.glob("cut/*.part/*.shard"))) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(data, "train", model, 32, cpu, tmp_path / "cut", cut_short)
    change(min(tmp_path.glob("cut/*.part/*.shard")))
    np.testing.assert_array_equal(embed(data, "train", model, 32, cpu, tmp_path / "cut", silent), expected)


def test_what_encoding_took_is_kept_over_a_cut_and_old_entries_do_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(array_cache, "SHARD", 4)
    images = np.zeros((10, 2, 2, 3), np.uint8)
    entry = Entry(tmp_path, {"of": "zeros"}, "these vectors", "embeddings", len(images))

    def slowly(rows):
        time.sleep(0.05)
        yield np.ones((len(rows), 3), np.float32)

    for _ in zip(range(2), entry.encode(images, slowly)):
        pass  # cut while the third shard is under way
    for _ in entry.encode(images, slowly):
        pass
    entry.join("embeddings")
    entry.finish({}, source="a test")
    assert 0.15 <= entry.load().seconds < 1  # three shards, each encoded once
    assert not list(tmp_path.glob("*/seconds.txt"))
    info = json.loads((entry.folder / "meta.json").read_text())
    (entry.folder / "meta.json").write_text(json.dumps({"description": info["description"], "source": "before"}))
    assert entry.load().seconds is None


@pytest.mark.parametrize("which", ["embeddings", "zero-shot labels"])
def test_values_that_are_not_finite_are_never_kept(tiny_models, cpu, tmp_path, monkeypatch, which):
    """As from a device that fails: the next start computes them again, and nothing has to be deleted by hand."""
    from data_prep.image_encoder import ImageEncoder

    data, encode = data_set(), ImageEncoder.images

    def get():
        if which == "embeddings":
            return embed(data, "train", str(tiny_models["resnet"]), 32, cpu, tmp_path, silent)
        return zero_shot(data, str(tiny_models["clip"]), "{}", cpu, tmp_path, silent).probs

    monkeypatch.setattr(ImageEncoder, "images", lambda self, images: (batch * np.nan for batch in encode(self, images)))
    with pytest.raises(UserError, match=rf"{which}.*: NaN or infinite values .*start again") as caught:
        get()
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert np.isfinite(get()).all()


def test_imported_outputs_that_are_damaged_can_be_imported_again(tmp_path, capsys):
    data, probs = data_set(6), np.random.default_rng(1).dirichlet(np.ones(3), 6)
    file = tmp_path / "p.csv"
    file.write_text("\n".join([",".join(CLASSES), *(",".join(map(str, row)) for row in probs)]))
    import_logits(data, file, "mine", "{}", tmp_path / "cache")
    (array,) = tmp_path.rglob("probs.npy")
    flip(array)
    with pytest.raises(UserError, match="mine"):
        zero_shot(data, "mine", "{}", None, tmp_path / "cache")
    assert "damaged" in capsys.readouterr().err
    import_logits(data, file, "mine", "{}", tmp_path / "cache")
    np.testing.assert_allclose(zero_shot(data, "mine", "{}", None, tmp_path / "cache").probs, probs, atol=1e-6)


def test_a_checksum_is_computed_once_a_process_and_follows_the_content(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3 * checksums.BLOCK // 8))
    first = checksums.checksum(path)
    assert re.fullmatch("[0-9a-f]{16}", first)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("read again"))
    assert checksums.checksum(path) == first
    monkeypatch.undo()
    shutil.copy(path, tmp_path / "b.npy")
    assert checksums.checksum(tmp_path / "b.npy") == first
    flip(path)
    assert checksums.checksum(path) != first
