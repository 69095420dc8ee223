"""Statistics of zero-shot labels, their files, and the command that writes them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from al.errors import UserError
from data_prep.__main__ import main
from data_prep.zero_shot import statistics as clip_statistics
from data_prep.zero_shot.statistics import (
    Published,
    class_table,
    histogram_table,
    report,
    statistics,
    transition_table,
    write,
)

SHARED = Path(__file__).parents[3].parent / "shared"
REFERENCE = SHARED / "reference"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBS = np.array(
    [[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [1.0, 0, 0], [0.45, 0.55, 0]], dtype=np.float32
)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_table_by_hand():
    """Predicted 0 0 1 1 0 1: one of class 0 and one of class 1 changed, class 2 is never predicted."""
    first, second, third, total = class_table(statistics(LABELS, PROBS, ("a", "b", "c")))
    assert (first["original"], first["clip_predicted"], first["changed"], first["changed_percent"]) == (3, 3, 1, 33.33)
    assert first["mean_confidence"] == pytest.approx((0.9 + 0.6 + 1.0) / 3, abs=1e-3)
    assert first["lowest_confidence"] == 0.6
    assert (second["original"], second["clip_predicted"], second["changed"]) == (2, 3, 1)
    assert second["mean_confidence"] == pytest.approx((0.8 + 0.7 + 0.55) / 3, abs=1e-3)
    assert (third["original"], third["clip_predicted"], third["changed"]) == (1, 0, 1)
    assert np.isnan(third["mean_confidence"])
    assert (total["original"], total["changed"], total["changed_percent"]) == (6, 3, 50.0)
    assert total["mean_confidence"] == pytest.approx(PROBS.max(1).mean(), abs=1e-3)


def test_transitions_and_their_probabilities():
    stats = statistics(LABELS, PROBS, ("a", "b", "c"))
    assert stats.transitions.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert stats.accuracy == 50
    np.testing.assert_allclose(stats.probabilities.sum(1), 1)
    rows = transition_table(stats, probabilities=True)
    assert rows[0] == {"true\\clip": "a", "a": 0.6667, "b": 0.3333, "c": 0}


def test_histogram_counts_every_image_once():
    stats = statistics(LABELS, PROBS, ("a", "b", "c"))
    rows = histogram_table(stats)
    assert sum(row["images"] for row in rows) == 6
    assert (rows[0]["from"], rows[-1]["to"]) == (0, 1)
    assert rows[-1]["wrong"] == 1, "a confidence of exactly 1 is in the last bin"
    near = statistics(LABELS, PROBS, ("a", "b", "c"), zoom=True)
    assert near.edges[0] == pytest.approx(0.55)
    assert (near.right + near.wrong).sum() == 6


def study_probs() -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose largest gives the study's matrix of transitions."""
    matrix = np.array([[int(row[name]) for name in CIFAR10] for row in read(REFERENCE / "clip_paper_confusion.csv")])
    true, predicted = np.divmod(np.repeat(np.arange(100), matrix.ravel()), 10)
    return true, np.full((50_000, 10), 0.02, np.float32) + 0.8 * np.eye(10, dtype=np.float32)[predicted]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the study's published numbers")
def test_the_studys_table_follows_from_its_matrix():
    """`original`, `clip_predicted`, `changed` mean here what they mean in the study's figures 6 and 7."""
    labels, probs = study_probs()
    ours = class_table(statistics(labels, probs, CIFAR10))
    theirs = read(REFERENCE / "clip_paper_statistics.csv")
    for row, published in zip(ours, theirs):
        for key in ("class", "original", "clip_predicted", "changed"):
            assert str(row[key]) == published[key]
        assert row["changed_percent"] == pytest.approx(float(published["changed_percent"]), abs=0.005)
    assert 100 - ours[-1]["changed_percent"] == pytest.approx(87.5, abs=0.01)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs the study's published numbers")
def test_published_numbers_stand_beside_those_of_the_same_images_only(tmp_path):
    labels, probs = study_probs()
    published = Published.read(REFERENCE / "clip_paper_statistics.csv", REFERENCE / "clip_paper_confusion.csv")
    tables, _ = report("cifar10", "train", labels, probs, CIFAR10, np.arange(0, 50_000, 100), published)
    assert tables["clip_statistics"][1]["published_changed"] == "522"
    assert tables["clip_statistics"][-1]["published_changed_percent"] == 12.5
    assert tables["clip_transitions_published"] == read(REFERENCE / "clip_paper_confusion.csv")
    assert "published_changed" not in tables["clip_statistics_pool"][0]
    tables, _ = report("cifar10", "train", labels[1:], probs[1:], CIFAR10, np.arange(9), published)
    assert "published_changed" not in tables["clip_statistics"][0]


def test_report_is_written_for_all_images_and_for_the_pool(tmp_path):
    tables, figures = report("tiny", "train", LABELS, PROBS, ("a", "b", "c"), np.array([0, 2]))
    files = write(tables, figures, tmp_path / "out")
    assert {file.name for file in files} == {file.name for file in (tmp_path / "out").iterdir()}
    names = ("clip_statistics", "clip_transitions", "clip_transition_probabilities", "clip_confidences")
    assert {file.stem for file in files} == {f"{name}{suffix}" for name in names for suffix in ("", "_pool")}
    assert sum(file.suffix == ".png" and file.read_bytes()[:4] == b"\x89PNG" for file in files) == 4
    assert [row["original"] for row in read(tmp_path / "out" / "clip_statistics_pool.csv")] == ["2", "0", "0", "2"]


def test_names_of_classes_are_no_formulas(tmp_path):
    labels, probs = np.array([0, 1, 1]), np.eye(2, dtype=np.float32)[[0, 1, 0]]
    tables, figures = report("made", "train", labels, probs, ("$_$", "b"), np.arange(2))
    assert len(write(tables, figures, tmp_path)) == len(tables) + len(figures)


def test_matplotlib_is_left_alone_until_something_is_drawn():
    import subprocess
    import sys

    code = "import sys, data_prep.zero_shot.statistics, data_prep.__main__; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
    assert clip_statistics.BINS == 20


# --- python -m data_prep clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An imagefolder of three classes, two images each for training and one for testing."""
    from PIL import Image

    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for name in ("cat", "dog", "ship"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def command(folder: Path, out: Path, *extra: str) -> int:
    return main(
        ["clip", "--dataset=imagefolder", f"--data-dir={folder}", "--device=cpu", f"--results-dir={out}", *extra]
    )


def test_command_from_model_to_tables(folder, tmp_path, capsys):
    from tiny_clip import save_clip

    model = save_clip(tmp_path / "model")
    assert command(folder, tmp_path, f"--clip-model={model}", "--clip-prompt=a photo of a {}.", "--cut=3") == 0
    out = capsys.readouterr().out
    (place,) = (tmp_path / "clip").iterdir()
    assert str(place) in out
    assert "changed percent" in out
    assert [row["class"] for row in read(place / "clip_statistics.csv")] == ["cat", "dog", "ship", "all"]
    assert read(place / "clip_statistics_pool.csv")[-1]["original"] == "3"


def test_command_imports_logits_where_a_run_finds_them(folder, tmp_path, capsys):
    from data_prep.datasets import load_dataset
    from data_prep.zero_shot.labels import cache_dir, cached

    lines = ["cat,dog,ship,target-0", "9,0,0,0", "0,9,0,1", "0,0,9,2", "9,1,0,2", "0,9,1,0", "0,9,2,1"]
    (tmp_path / "logits.csv").write_text("\n".join(lines))
    options = (f"--from-logits={tmp_path / 'logits.csv'}", "--clip-model=some/model", f"--out={tmp_path / 'out'}")
    assert command(folder, tmp_path, *options) == 2
    assert "--order=by-class" in capsys.readouterr().err
    assert command(folder, tmp_path, *options, "--order=by-class") == 0
    data = load_dataset("imagefolder", folder)
    found = cached(data, "some/model", "{}", cache_dir(tmp_path))
    assert found.labels.tolist() == [0, 1, 1, 1, 2, 0]
    assert read(tmp_path / "out" / "clip_statistics.csv")[-1]["changed"] == "2"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--cut=0"], "--cut=0"),
        (["--cut=7"], "1 to 6"),
        (["--clip-prompt=photo"], "has no {}"),
        (["--clip-model=/no/such/folder"], "no such folder"),
        (["--from-logits=/no.csv"], "No such file"),
        (["--published-statistics=/no.csv"], "No such file"),
    ],
)
def test_command_refuses_with_one_line(folder, tmp_path, capsys, extra, message):
    assert command(folder, tmp_path, *extra) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("klass,number\ncat,3\n", "line 2 has no class; it needs class, original, clip_predicted"),
        ("class,original,clip_predicted,changed\ncat,2,2,0\n", "line 2 has no mean_confidence"),
        ("class,original,clip_predicted,changed,mean_confidence\ncat,two,2,0,0.5\n", "original='two' is no number"),
    ],
)
def test_published_numbers_that_are_none_are_one_line(tmp_path, text, said):
    (tmp_path / "published.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        Published.read(tmp_path / "published.csv")


def test_command_shows_published_numbers_of_the_same_images(folder, tmp_path, capsys):
    (tmp_path / "logits.csv").write_text("cat,dog,ship\n" + "9,0,0\n9,0,0\n0,9,0\n0,9,0\n0,0,9\n9,0,0\n")
    rows = [f"{name},2,2,{changed},{50 * changed},0.5" for name, changed in (("cat", 0), ("dog", 1), ("ship", 2))]
    published = tmp_path / "published.csv"
    published.write_text("\n".join(["class,original,clip_predicted,changed,changed_percent,mean_confidence", *rows]))
    options = (f"--from-logits={tmp_path / 'logits.csv'}", "--clip-model=m", f"--out={tmp_path / 'out'}")
    assert command(folder, tmp_path, *options, f"--published-statistics={published}") == 0
    assert "published changed percent" in capsys.readouterr().out
    table = read(tmp_path / "out" / "clip_statistics.csv")
    assert [row["published_changed"] for row in table] == ["0", "1", "2", "3"]
    assert [row["changed"] for row in table] == ["0", "0", "1", "1"]
