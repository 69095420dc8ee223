"""The same batches wherever the images lie, gathered one step ahead."""

import threading

import numpy as np
import pytest
import torch

from al.errors import UserError
from al.learning.batches import BUFFERS, StagedImages, batches, placed
from al.nvidia import copies
from al.runtime import MEMORY, Runtime, resolve_runtime

CPU = Runtime(torch.device("cpu"), torch.float32)
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (70, 6, 6, 3), dtype=np.uint8)
ORDERS = {
    "scattered": rng.permutation(70)[:53],
    "consecutive": np.arange(7, 60),
    "one": np.array([69]),
    "none": np.arange(0),
}


def mapped(folder, images=IMAGES):
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


class TestStaged:
    @pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
    @pytest.mark.parametrize("step", [1, 8, 100])
    def test_batches_are_those_of_the_device(self, tmp_path, order, step):
        on_device = [batch.clone() for batch in batches(CPU.place(IMAGES), order, step, CPU)]
        assert np.array_equal(np.concatenate([IMAGES[:0], *(batch.numpy() for batch in on_device)]), IMAGES[order])
        for array in (IMAGES, mapped(tmp_path), mapped(tmp_path)[:, 1:5, 2:6]):
            expected = [array[order[start : start + step]] for start in range(0, len(order), step)]
            found = [batch.numpy().copy() for batch in batches(StagedImages(array, CPU), order, step, CPU)]
            assert len(found) == len(expected)
            assert all(np.array_equal(one, other) for one, other in zip(found, expected))

    def test_a_batch_is_good_until_the_next_is_asked_for_and_that_one_is_gathered_meanwhile(self, monkeypatch):
        gathered = []
        filled = threading.Condition()
        fill = StagedImages._fill

        def watched(self, buffer, rows):
            out = fill(self, buffer, rows)
            with filled:
                gathered.append(rows[0])
                filled.notify()
            return out

        monkeypatch.setattr(StagedImages, "_fill", watched)
        for number, batch in enumerate(StagedImages(IMAGES, CPU).batches(np.arange(40), 4)):
            with filled:
                assert filled.wait_for(lambda n=number: len(gathered) >= min(n + 2, 10), timeout=10), "one step ahead"
            assert len(gathered) <= number + BUFFERS
            assert np.array_equal(batch, IMAGES[4 * number :][:4])

    def test_an_error_while_gathering_comes_out(self):
        class Broken(StagedImages):
            def _fill(self, buffer, rows):
                raise UserError("cat.png: broken")

        with pytest.raises(UserError, match=r"cat\.png"):
            list(Broken(IMAGES, CPU).batches(np.arange(4), 2))

    def test_copies_to_an_nvidia_card_are_one_step_ahead(self, monkeypatch):
        """And the buffer of one is filled again only when its copy is over."""
        log = []

        class Copy:
            def __init__(self, buffer, number):
                self.buffer, self.number = buffer, number

        def start(buffer, device, stream):
            log.append(("start", len([kind for kind, _ in log if kind == "start"])))
            return Copy(buffer, log[-1][1]), None

        def arrived(copy, event):
            log.append(("arrived", copy.number))
            return copy.buffer.clone()  # what the card has when the copy is over

        monkeypatch.setattr(copies, "_copying_stream", lambda device: None)
        monkeypatch.setattr(copies, "_copy_to", start)
        monkeypatch.setattr(copies, "_arrived", arrived)
        monkeypatch.setattr(Runtime, "buffer", lambda self, shape, dtype: torch.empty(shape, dtype=dtype))
        order = rng.permutation(70)
        found = list(StagedImages(IMAGES, Runtime(torch.device("cuda"), torch.float32)).batches(order, 16))
        assert np.array_equal(np.concatenate(found), IMAGES[order])
        assert log[:4] == [("start", 0), ("start", 1), ("arrived", 0), ("start", 2)]


class TestPlaced:
    def test_on_a_cpu_everything_is_there(self, tmp_path):
        for images in placed([mapped(tmp_path), IMAGES[:5]], CPU, "auto", "made"):
            assert isinstance(images, torch.Tensor)

    @pytest.mark.parametrize(
        ("memory", "train", "test"),
        [(30_000, True, True), (16_500, True, True), (16_000, False, True), (100, False, False)],
    )
    def test_auto_takes_what_half_of_the_free_memory_holds(self, memory, train, test):
        """Train 7,560 bytes, test 540: the smaller one first. What does not fit stays where it is."""
        device = Runtime(torch.device("cpu"), torch.float32, memory=memory)
        found = placed([IMAGES, IMAGES[:5]], device, "auto", "made")
        assert [isinstance(images, torch.Tensor) for images in found] == [train, test]

    def test_host_reads_the_file_and_disk_leaves_it(self, tmp_path):
        array = mapped(tmp_path)
        host, disk = (placed([array], CPU, where, "made")[0].array for where in ("host", "disk"))
        assert not isinstance(host, np.memmap)
        assert isinstance(disk, np.memmap)
        assert np.array_equal(host, disk)

    def test_what_has_no_file_cannot_stay_on_disk(self):
        with pytest.raises(UserError, match=r"^images_on=disk: the images of digits .*; use images_on=host or auto$"):
            placed([IMAGES], CPU, "disk", "digits")

    def test_the_bound_is_read_from_the_environment(self, monkeypatch):
        monkeypatch.setenv(MEMORY, "256")
        assert resolve_runtime("cpu").free_memory() == 2**28
        monkeypatch.setenv(MEMORY, "much")
        with pytest.raises(UserError, match="AL_DEVICE_MIB=much: not a whole number"):
            resolve_runtime("cpu")
