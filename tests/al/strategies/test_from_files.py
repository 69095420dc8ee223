"""Selection from a pool whose arrays lie in files: the same picks block by block, in memory that rows hardly add to."""

import tracemalloc

import numpy as np
import pytest

from al.strategies import REGISTRY, Picks, Pool

DIMENSIONS = 128
BOUNDED = {"maxherding": {"herding_candidates": 1000}, "uherding": {"herding_candidates": 1000}}
BOUNDED |= {"typiclust_typical": {"typiclust_members": 500}}
"""Bounds of what is not linear in the rows."""
NOISE = {"margin": {"batch_noise": "power"}, "entropy": {"batch_noise": "softrank"}}
FROM_FILES = (
    *("random", "uncertainty", "margin", "entropy", "typiclust", "typiclust_typical", "badge", "coreset"),
    *("maxherding", "uherding"),
)
"""Strategies that select from ten million rows."""


def write_pool(folder, rows: int, dimensions: int = DIMENSIONS, labelled: int = 100, classes: int = 5) -> Pool:
    """A pool of blobs in float16 files, opened as memory maps."""
    rng = np.random.default_rng(0)
    centres, truth = 3 * rng.standard_normal((classes, dimensions)), rng.integers(classes, size=rows)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (rows, dimensions))
    probs = np.lib.format.open_memmap(folder / "probs.npy", "w+", np.float32, (rows, classes))
    for start in range(0, rows, 4096):
        part = truth[start : start + 4096]
        features[start : start + 4096] = centres[part] + rng.standard_normal((len(part), dimensions))
        exp = np.exp(2 * np.eye(classes)[part] + rng.standard_normal((len(part), classes)))
        probs[start : start + 4096] = exp / exp.sum(axis=1, keepdims=True)
    features.flush()
    probs.flush()
    known = np.isin(np.arange(rows), rng.choice(rows, labelled, replace=False))
    mapped = np.load(folder / "features.npy", mmap_mode="r")
    return Pool(
        labelled=known,
        classes=classes,
        labels=np.where(known, truth, -1),
        features=mapped,
        activations=mapped,
        probs=np.load(folder / "probs.npy", mmap_mode="r"),
    )


def select(name: str, pool: Pool, k: int) -> Picks:
    options = BOUNDED.get(name, {}) | NOISE.get(name, {})
    return REGISTRY[name].select(pool, k, np.random.default_rng(0), **options)


def in_memory(pool: Pool) -> Pool:
    """The same pool, its arrays copied into memory as float32."""
    features = np.array(pool.features, np.float32)
    arrays = {"features": features, "activations": features, "probs": np.array(pool.probs)}
    return Pool(labelled=pool.labelled, classes=pool.classes, labels=pool.labels, **arrays)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_pool(tmp_path_factory.mktemp("small"), 3000, 40)


@pytest.mark.parametrize("name", FROM_FILES)
def test_blocks_of_any_size_give_the_picks_of_the_whole(name, small, monkeypatch):
    expected = select(name, in_memory(small), 60)  # one block holds all of it
    for features, probs in ((4 * 40 * 7, 4 * 5 * 11), (4 * 40 * 513, 4 * 5 * 1000)):
        monkeypatch.setattr("al.storage.blocks.BLOCK_BYTES", features)
        monkeypatch.setattr("al.strategies.scores.BLOCK_BYTES", probs)
        found = select(name, small, 60)
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)


@pytest.mark.parametrize("rows_kept", [1, 50, 3000])
def test_coreset_picks_the_same_whatever_it_keeps_in_memory(rows_kept, small, monkeypatch):
    expected = select("coreset", small, 60)
    monkeypatch.setattr("al.strategies.coverage.FRONT_ROWS", rows_kept)
    np.testing.assert_array_equal(select("coreset", small, 60).positions, expected.positions)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """Pools of 40,000 and 160,000 rows."""
    return [write_pool(tmp_path_factory.mktemp(str(rows)), rows) for rows in (40_000, 160_000)]


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_row_more_takes_less_memory_than_its_features(name, pools):
    """A few numbers of every row are held, never its features, which are 256 bytes as stored and 512 as float32."""
    most = []
    for pool in pools:
        tracemalloc.start()
        select(name, pool, 50)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    rows = [len(pool.labelled) for pool in pools]
    assert (most[1] - most[0]) / (rows[1] - rows[0]) < DIMENSIONS
    assert most[1] < 20 * 2**20  # of 78 MiB that a float32 copy would take
