"""A full disk is one line that names the path, the reason and the room that is needed; then it goes on."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_data import data_set, image_folder, silent

from al.errors import UserError
from data_prep import array_cache
from data_prep.__main__ import main
from data_prep.datasets import load_dataset
from data_prep.embeddings import embed
from data_prep.zero_shot.labels import import_logits, zero_shot

FULL = Path("/dev/full")
LINE = r"(the embeddings of the train images|the zero-shot labels|the decoded images) cannot be written there "
LINE += r"\(No space left on device\)"


@pytest.fixture
def full(monkeypatch):
    """Makes files whose path matches a pattern impossible to write, as on a full disk."""
    if not FULL.exists():
        pytest.skip("needs /dev/full")
    opened = Path.open

    def start(pattern: str) -> None:
        def open_(self, mode="r", *args, **options):
            target = FULL if "w" in mode and re.search(pattern, str(self)) else self
            return opened(target, mode, *args, **options)

        monkeypatch.setattr(Path, "open", open_)

    return start


def one_line(error: pytest.ExceptionInfo, place: Path) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert str(place) in text
    assert "make room" in text
    return text


@pytest.mark.parametrize("file", [r"rows_", r"embeddings\.npy", r"meta\.json"])
def test_embeddings(tiny_models, cpu, tmp_path, full, monkeypatch, file):
    data, model = data_set(), str(tiny_models["resnet"])
    with monkeypatch.context():
        full(file)
        with pytest.raises(UserError, match=LINE) as error:
            embed(data, "train", model, 32, cpu, tmp_path, silent)
    text = one_line(error, tmp_path)
    assert "json" in file or "0.1 MiB" in text
    assert "results_dir" in text
    monkeypatch.undo()
    assert len(embed(data, "train", model, 32, cpu, tmp_path, silent)) == 11


@pytest.mark.parametrize("file", [r"rows_", r"features\.npy", r"probs\.npy", r"meta\.json"])
def test_zero_shot_labels(tiny_models, cpu, tmp_path, full, monkeypatch, file):
    data, model = data_set(), str(tiny_models["clip"])
    full(file)
    with pytest.raises(UserError, match=LINE) as error:
        zero_shot(data, model, "{}", cpu, tmp_path, silent)
    one_line(error, tmp_path)
    monkeypatch.undo()
    assert len(zero_shot(data, model, "{}", cpu, tmp_path, silent).probs) == 11


def test_imported_outputs(tmp_path, full):
    (tmp_path / "p.csv").write_text("cat,dog,ship\n" + "1,0,0\n" * 6)
    full(r"probs\.npy")
    with pytest.raises(UserError, match=LINE) as error:
        import_logits(data_set(6), tmp_path / "p.csv", "mine", "{}", tmp_path / "cache")
    one_line(error, tmp_path / "cache")


@pytest.mark.parametrize("file", [r"train\.npy", r"test\.npy", r"info\.json"])
def test_decoded_images(tmp_path, full, monkeypatch, file):
    root = image_folder(tmp_path / "pictures", count=6, size=(200, 200))
    full(file)
    with pytest.raises(UserError, match=LINE) as error:
        load_dataset("imagefolder", root)
    text = one_line(error, root / ".cache-al")
    assert "1.4 MiB" in text  # 12 x 200 x 200 x 3
    monkeypatch.undo()
    assert len(load_dataset("imagefolder", root).train) == 6


def test_no_place_for_the_cache_at_all(tiny_models, cpu, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written there") as error:
        embed(data_set(), "train", str(tiny_models["resnet"]), 32, cpu, tmp_path / "file", silent)
    one_line(error, tmp_path / "file")


def test_a_real_small_disk(small_disk, tmp_path, monkeypatch, tiny_models, cpu):
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk / "user"))
    root = image_folder(tmp_path / "pictures", count=6, size=(200, 200))
    (root / ".cache-al").touch()  # so the cache goes to the user's
    with pytest.raises(UserError, match="no room for the decoded images") as error:
        load_dataset("imagefolder", root, cache="on")
    one_line(error, small_disk)
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(UserError, match=LINE) as error:
        embed(data_set(), "train", str(tiny_models["resnet"]), 32, cpu, small_disk / "cache", silent)
    one_line(error, small_disk / "cache")
    ballast.unlink()
    monkeypatch.setattr(array_cache, "SHARD", 4)
    assert len(embed(data_set(), "train", str(tiny_models["resnet"]), 32, cpu, small_disk / "cache", silent)) == 11


def test_of_a_command_is_one_line(full, tmp_path, capsys):
    full(r"maps/\.")
    assert main(["map", "--dataset=digits", f"--results-dir={tmp_path}"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"error: {tmp_path}/maps/\w+\.npz: no room on the disk for .* MiB; make room .*", said)
