"""The command as a user gives it, from a folder to the answer, on small folders."""

import os
import shutil
import subprocess
import sys

import launch
import numpy as np
import pytest
import yaml
from scenes import fill

from sweeps.compare.__main__ import main
from sweeps.runner.grid import load


def compare(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "sweeps.compare", *map(str, arguments)],
        cwd=launch.ROOT,
        env=launch.environment(**variables) | {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )


pytestmark = pytest.mark.timeout(900)
"""Several processes are started, each of which imports everything; a busy machine takes minutes for it."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of twelve pictures without a test set, one of them broken, and vectors of those that are used."""
    root = fill(tmp_path_factory.mktemp("data") / "my photos", {"cat": 12, "dog [red]": 12, "pâté": 12}, side=32)
    (root / "cat" / "torn.png").write_bytes(b"no picture")
    rng = np.random.default_rng(0)
    corners = {split: np.eye(3, dtype=np.float32).repeat(count, axis=0) for split, count in (("train", 8), ("test", 4))}
    vectors = {split: array + rng.normal(scale=0.4, size=array.shape) for split, array in corners.items()}
    np.savez(root.parent / "vectors.npz", **{split: array.astype(np.float32) for split, array in vectors.items()})
    return root


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory):
    results = tmp_path_factory.mktemp("results") / "here"
    features = f"--features=file:{photos.parent / 'vectors.npz'}"
    arguments = (photos, features, "--strategies=margin", "--seeds=1", "--results-dir", results)
    return compare(*arguments), results, arguments


def test_it_ends_with_the_answer_and_the_page(done):
    outcome, results, _ = done
    assert outcome.returncode == 0, outcome.stderr
    *_, answer, page = outcome.stdout.splitlines()
    assert answer.startswith("my_photos up to 12 labels: ")
    assert page == f"page: {results / 'report' / 'index.html'}"
    assert answer.split(": ", 1)[1][:20] in (results / "report" / "index.html").read_text()


def test_it_says_what_it_found_and_chose(done):
    outcome, results, _ = done
    (split_file,) = results.glob("split-*.csv")
    told = ("37 images in 3 classes", "dog [red]", "broken: cat/torn.png", "test set: 12 images", str(split_file))
    told += ("not used: 1 images: cannot be read: cat/torn.png", "as you asked", "what choosing must beat")
    for words in told:
        assert words in outcome.stdout


def test_the_sweep_file_is_what_was_run(done):
    _, results, _ = done
    content = yaml.safe_load((results / "compare.yaml").read_text())
    assert content["parameters"]["strategy"] == {"values": ["stratified", "random", "margin"]}
    sweep = load(results / "compare.yaml")
    assert len(sweep.runs) == 3
    assert len(list(results.glob("*/split_seed_12/performance_metrics.json"))) == 3


def test_started_again_it_makes_nothing_anew(done):
    _, results, arguments = done
    times = {path: path.stat().st_mtime_ns for path in results.glob("*/split_seed_*/*")}
    again = compare(*arguments)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in results.glob("*/split_seed_*/*")} == times
    assert len(list(results.glob("split-*.csv"))) == 1


def test_results_of_another_folder_are_not_touched(done, tmp_path, capsys):
    _, results, _ = done
    assert main([str(tmp_path), "--results-dir", str(results)]) == 2
    assert "holds a comparison on" in capsys.readouterr().err


def broken_name(root):
    os.mkdir(os.fsencode(root) + b"/caf\xe9")  # noqa: PTH102


WRONG = {
    "no such folder": (lambda root: shutil.rmtree(root), "no such folder"),
    "no classes": (lambda root: [shutil.rmtree(path) for path in root.iterdir()], "class folders"),
    "one class": (lambda root: shutil.rmtree(root / "dog"), "1 class"),
    "a class name that is no text": (broken_name, "not UTF-8"),
    "too few": (lambda root: [path.unlink() for path in sorted(root.glob("*/*"))[::2]], "nothing to choose from"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_folder_is_one_line(name, tmp_path, capsys):
    root = fill(tmp_path / "pictures", {"cat": 4, "dog": 4})
    spoil, words = WRONG[name]
    spoil(root)
    assert main([str(root), "--results-dir", str(tmp_path / "results"), "--features=file:none.npz"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert words in error[0]
    assert not list((tmp_path / "results").glob("*/split_seed_*"))


@pytest.mark.slow
class TestDigits:
    def test_without_a_folder_the_demo_stands_in(self, tmp_path):
        """From a copy of the project, so that it writes its digits there; 3,000 s of patience on a busy machine."""
        shutil.copytree(
            launch.ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(".venv", ".git", "results", "data")
        )
        done = subprocess.run(
            [sys.executable, "-m", "sweeps.compare", "--strategies=margin", "--seeds=3", "--jobs=2"],
            cwd=tmp_path / "clone",
            env=launch.environment() | {"WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "stand in for yours" in done.stdout.splitlines()[0]
        assert len(list((tmp_path / "clone" / "data" / "digits").glob("*/*.png"))) == 1797
        assert done.stdout.splitlines()[-1] == "page: results/compare/digits/report/index.html"
        assert done.stdout.splitlines()[-2].startswith("digits up to 400 labels: ")
