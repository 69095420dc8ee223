"""Reading arrays that may lie in a file: what comes out is what is in them."""

import numpy as np
import pytest

from al.storage.blocks import RowsOf, as_float32, blocks, gather, read


@pytest.mark.parametrize("order", ["C", "F"])
def test_every_float16_is_the_float32_that_numpy_makes_of_it(order):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    array = np.array(every.reshape(256, 256), order=order)
    found = as_float32(array)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array.astype(np.float32))  # NaN where that is NaN
    np.testing.assert_array_equal(as_float32(array[::3, 1::2]), array[::3, 1::2].astype(np.float32))
    swapped = array.astype(array.dtype.newbyteorder())
    np.testing.assert_array_equal(as_float32(swapped), array.astype(np.float32))


def test_float32_is_not_copied():
    array = np.ones((3, 4), np.float32)
    assert np.shares_memory(as_float32(array), array)


@pytest.mark.parametrize("in_file", [False, True])
def test_rows_of_an_array_read_as_an_array_of_them(tmp_path, in_file):
    array = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float16)
    np.save(tmp_path / "array.npy", array)
    stored = np.load(tmp_path / "array.npy", mmap_mode="r" if in_file else None)
    rows = np.flatnonzero(np.arange(500) % 5)  # with gaps
    part, copy = RowsOf(stored, rows), array[rows]
    assert (part.shape, part.dtype, len(part)) == (copy.shape, copy.dtype, len(copy))
    np.testing.assert_array_equal(part[10:90], copy[10:90])
    np.testing.assert_array_equal(read(part, slice(0, 4)), copy[:4])  # which follow each other in the file
    wanted = np.array([7, 3, 3, 399])
    np.testing.assert_array_equal(gather(part, wanted), copy[wanted].astype(np.float32))
    for where, block in blocks(part):
        np.testing.assert_array_equal(block, copy[where].astype(np.float32))
