"""The benchmark of killed workers finds every fault that it says it looks for."""

import numpy as np
import pytest

from benchmarks import embedding_shards as benchmark
from data_prep.sharded.order import Order

COUNT = 70


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return benchmark.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def out(model, tmp_path):
    pytest.importorskip("webdataset")
    data = benchmark.write_tars(tmp_path, COUNT, per_tar=20)
    order = Order(data, str(tmp_path / "out"), str(model), features_size=benchmark.SIDE, device="cpu")
    list(order.worker().run())
    return tmp_path / "out"


def test_what_is_right_passes(out, model):
    benchmark.check(out, model, COUNT)


@pytest.mark.parametrize("file", ["embeddings.npy", "contents.npy"])
def test_rows_that_changed_places_are_found(out, model, file):
    rows = np.load(out / file, mmap_mode="r+")
    rows[[30, 31]] = rows[[31, 30]]
    rows.flush()
    with pytest.raises(SystemExit, match=r"rows 20 to 40 are (not the vectors|of other images)"):
        benchmark.check(out, model, COUNT)


def test_missing_shards_are_found(out, model):
    with pytest.raises(SystemExit, match="not all rows"):
        benchmark.check(out, model, COUNT + 1)
    (out / "shards" / "000002.json").unlink()
    with pytest.raises(SystemExit, match="shards are missing"):
        benchmark.check(out, model, COUNT)


def test_no_two_images_are_the_same():
    images = benchmark.images(0, 5000).reshape(5000, -1)
    assert len(np.unique(images, axis=0)) == 5000
    np.testing.assert_array_equal(benchmark.images(700, 900).reshape(200, -1), images[700:900])
