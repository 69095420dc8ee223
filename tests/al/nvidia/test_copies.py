"""Copies that are under way while a card computes, on a machine without one."""

import numpy as np
import pytest
import torch

from al.nvidia import copies as copying
from al.runtime import Runtime


class Late:
    """A copy from a device that is done only when it is waited for."""

    def __init__(self, batch, buffer):
        self.batch, self.buffer = batch.clone(), buffer

    def synchronize(self):
        self.buffer.copy_(self.batch)


class TestFetched:
    @pytest.mark.parametrize("sizes", [[], [4], [4, 4, 4, 4, 2], [2, 4, 3, 4]])
    def test_copies_under_way_are_waited_for(self, monkeypatch, sizes):
        made = []
        monkeypatch.setattr(copying, "_pinned", lambda like: made.append(torch.empty(like.shape)) or made[-1])
        monkeypatch.setattr(copying, "_copy_from", Late)
        batches = [torch.full((size, 3), float(number)) for number, size in enumerate(sizes)]
        begun = []

        def computed():
            for batch in batches:
                begun.append(batch)
                yield batch

        gpu = Runtime(torch.device("cuda"), torch.float32)
        for number, found in enumerate(gpu.fetched(computed())):
            assert np.array_equal(found, batches[number])
            assert len(begun) == min(number + 2, len(batches)), "the next one is computed by then"
        assert len(begun) == len(batches)
        assert len(made) <= 2 + sum(later > earlier for earlier, later in zip(sizes, sizes[2:]))

    def test_elsewhere_they_are_the_batches(self):
        batch = torch.ones(2, 3)
        (found,) = Runtime(torch.device("cpu"), torch.float32).fetched([batch])
        assert np.shares_memory(found, batch.numpy())
