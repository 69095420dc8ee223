"""The map of a pool: what is alike lies together, also what t-SNE never saw, and the report reads what was written."""

import json
import subprocess
import sys

import numpy as np
import pytest

from al.data import DataSet, ImageSet
from data_prep.__main__ import main
from data_prep.pool_map import map_file, place, write_map
from sweeps.report.pool_map import read_map


def clusters(size=150, groups=3, width=20):
    rng = np.random.default_rng(3)
    labels = np.arange(size) % groups
    return rng.normal(size=(groups, width))[labels] * 20 + rng.normal(size=(size, width)), labels


def same_as_nearest(points, labels) -> float:
    """Share of points whose nearest other point is of their class."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == labels).mean())


@pytest.mark.parametrize("sample", [150, 60], ids=["all by t-SNE", "most between their neighbours"])
def test_what_is_alike_lies_together(sample):
    vectors, labels = clusters()
    points = place(vectors, sample)
    assert points.shape == (150, 2)
    assert points.min() == 0
    assert points.max() == pytest.approx(1)
    assert same_as_nearest(points, labels) > 0.95


def test_the_same_map_on_every_call():
    vectors, _ = clusters(60)
    assert (place(vectors) == place(vectors)).all()


def test_vectors_that_are_all_the_same_lie_in_one_place():
    """t-SNE would end the process."""
    code = "import numpy as np; from data_prep.pool_map import place; print(place(np.ones((12, 5))).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout) == [[0, 0]] * 12


def test_vectors_of_one_number_have_a_place():
    points = place(np.arange(20.0)[:, None])
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == 20


@pytest.mark.parametrize("size", [1, 4, 5])
def test_few_images_have_a_place_too(size):
    assert np.isfinite(place(np.eye(size, 6))).all()


def test_the_report_reads_what_was_written(tmp_path):
    images = np.stack([np.full((8, 8, 3), 3 * k, np.uint8) for k in range(40)])
    train = ImageSet(images, np.arange(40) % 2, ("a", "b"), paths=tuple(f"train/{k}.png" for k in range(40)))
    data = DataSet("imagefolder", train, train, "c" * 64)
    write_map(data, None, "pixels", map_file(tmp_path, data.fingerprint))
    found = read_map(tmp_path, data.fingerprint)
    assert found.source == "pixels"
    assert (found.labels == train.labels).all()
    assert found.points.shape == (40, 2)
    for row, k in found.pictured.items():
        assert (found.pictures[k] == 3 * row).all()
        assert found.paths[k] == f"train/{row}.png"
    path = map_file(tmp_path, data.fingerprint)
    path.write_bytes(path.read_bytes()[:200])
    assert read_map(tmp_path, data.fingerprint) is None
    assert read_map(tmp_path, "d" * 64) is None


def test_embeddings_that_no_run_has_computed_are_not_computed_for_a_map(tmp_path, capsys):
    arguments = ["map", "--dataset=digits", "--features=some/model", f"--results-dir={tmp_path}"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "features=some/model: not computed yet" in error
    assert not (tmp_path / "maps").exists()
