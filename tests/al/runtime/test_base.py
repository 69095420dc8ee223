"""What differs between devices, as far as a machine without a GPU can tell."""

import numpy as np
import pytest
import torch

from al.errors import UserError
from al.runtime import Runtime, out_of_memory


class TestPlace:
    def test_images_larger_than_the_device_are_said(self, monkeypatch):
        def to(self, *arguments, **options):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        monkeypatch.setattr(torch.Tensor, "to", to)
        with pytest.raises(
            UserError, match=r"^device=cuda: no room for 3 MiB of images; use images_on=host .*another device$"
        ):
            Runtime(torch.device("cuda"), torch.float32).place(np.zeros((1024, 32, 32, 3), np.uint8))

    def test_copies_to_the_device_are_waited_for(self, monkeypatch):
        """From pageable memory nothing else is safe, on Apple's least of all."""
        taken = []
        monkeypatch.setattr(torch.Tensor, "to", lambda self, *place, **options: taken.append((place, options)) or self)
        Runtime(torch.device("mps"), torch.float32).place(np.zeros(3))
        assert taken == [((torch.device("mps"),), {})]


@pytest.mark.parametrize(("kind", "fused"), [("cpu", 1), ("cuda", 1), ("mps", 1), ("xpu", 1), ("meta", 0)])
def test_the_fused_optimiser(kind, fused):
    assert Runtime(torch.device(kind), torch.float32).fused_optimiser == bool(fused)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "GET was unable to find an engine to execute this computation",
        "MPS backend out of memory (MPS allocated: 9.00 GB)",
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
    ],
)
def test_a_full_device_is_known_by_what_its_libraries_say(said):
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not out_of_memory(ValueError(said))


def test_the_cpu_beside_a_device_pretends_to_have_as_little_memory():
    assert Runtime(torch.device("cuda"), torch.float32, memory=5).host.memory == 5
