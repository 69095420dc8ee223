"""The device and precision of a run, and everything that differs between devices."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from al.errors import UserError
from al.fast.allocator import keep_freed_memory
from al.runtime.copies import from_card, to_card
from al.runtime.memory import out_of_memory
from al.runtime.recording import CudaRecorder
from al.runtime.repeatability import not_deterministic

if TYPE_CHECKING:
    from al.fast.graphs import Recorder

LARGE = 20 * 2**30
"""Bytes of memory: 5,000 images of 32 x 32 pixels take EfficientNet-B0 some 2.5 GiB to score."""


@dataclass(frozen=True)
class Runtime:
    """The device of a run and the precision it scores in. Training is float32, or with `tf32` as scoring."""

    device: torch.device
    scoring_dtype: torch.dtype
    tf32: bool = False
    """Whether products round their operands to 10 bits, on NVIDIA cards that are faster so."""
    memory: int | None = None
    """Bytes that the device pretends to have; None: what it has. See `MEMORY`."""

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def fused_optimiser(self) -> bool:
        """Whether torch has the kernel of Adam that takes all parameters at once."""
        return self.device.type in ("cpu", "cuda", "mps", "xpu")

    def scoring_batch(self, size: int) -> int:
        """Images of `size` x `size` pixels scored at once: 500 of 32 x 32 on a CPU, elsewhere 2,500, and 5,000 on a
        card with memory for several such runs: one that large computes for longer than Python launches.

        Larger images come in smaller batches, so that a layer's output takes the same memory.
        """
        at_once = 500 if self.on_cpu else 5000 if self._is_large else 2500
        return max(1, at_once * 32**2 // max(size, 32) ** 2)

    @cached_property
    def _is_large(self) -> bool:
        return self.device.type == "cuda" and torch.cuda.get_device_properties(self.device).total_memory >= LARGE

    @property
    def host(self) -> "Runtime":
        """The CPU beside the device, for work in steps that are too small for it."""
        if self.on_cpu:
            return self
        keep_freed_memory()
        return Runtime(torch.device("cpu"), self.scoring_dtype, memory=self.memory)

    @cached_property
    def recorder(self) -> "Recorder | None":
        """What records training steps on this device; NVIDIA's can be."""
        return CudaRecorder(self.device) if self.device.type == "cuda" else None

    @cached_property
    def name(self) -> str:
        """What a table calls the device."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"

    @property
    def exchange(self) -> tuple[str, torch.device]:
        """How processes exchange tensors: the backend of torch.distributed, and the device it takes them on."""
        return ("nccl", self.device) if self.device.type == "cuda" else ("gloo", torch.device("cpu"))

    @property
    def precision(self) -> str:
        """As the parameter names it: float32, tf32 or bfloat16."""
        return "tf32" if self.tf32 else str(self.scoring_dtype).removeprefix("torch.")

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    @property
    def not_repeatable(self) -> tuple[str, ...] | None:
        """Operations run so far in this process whose result may differ from run to run; None: torch does not tell."""
        return not_deterministic() if self.device.type in ("cpu", "cuda") else None

    def place(
        self, array: np.ndarray, what: str = "images", remedy: str = "use images_on=host or a smaller image_size"
    ) -> torch.Tensor:
        """The array on the device; on the CPU without a copy, so a memory-mapped array stays on disk.

        Args:
            what: the array's name in an error.
            remedy: what helps where there is no room for it.

        Raises:
            UserError: the device has no room for it.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(array)
        if self.on_cpu:
            return tensor
        with self.room_for(f"{array.nbytes / 2**20:,.0f} MiB of {what}", remedy):
            return tensor.to(self.device)  # waits: of pageable memory a copy under way may see later changes

    def free_memory(self) -> int | None:
        """Bytes that the device has free; None where it is unknown, and on the CPU, which images come to uncopied."""
        if self.memory is not None:
            return self.memory
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # what earlier models have left to torch is free too
            return torch.cuda.mem_get_info(self.device)[0]
        if self.device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return None

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Host memory to send batches from: pinned where only that lets a copy go on beside the program."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def sent(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Each of the batches on the device; on an NVIDIA card the next is copied while one is computed with.

        What is given is valid until the next is asked for. The source may overwrite a batch in host memory as soon as
        it is asked for the one after the next.
        """
        if self.device.type == "cuda":
            yield from to_card(batches, self.device)
        else:
            yield from (batch if self.on_cpu else batch.to(self.device) for batch in batches)

    @contextmanager
    def room_for(self, what: str, remedy: str) -> Iterator[None]:
        """Turns an error of memory inside into one line.

        Raises:
            UserError: the device is full.
        """
        try:
            yield
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"device={self.device}: no room for {what}; {remedy}, fewer runs at a time, or another device"
            ) from None

    def fetched(self, batches: Iterable[torch.Tensor]) -> Iterator[NDArray]:
        """Each of the batches as an array, which is good until the next is asked for.

        From an NVIDIA card each is copied while it computes the next one.
        """
        if self.device.type == "cuda":
            yield from from_card(batches)
        else:
            yield from (batch.cpu().numpy() for batch in batches)

    def indices(self, rows: np.ndarray) -> torch.Tensor:
        """Row numbers as an index tensor on the device."""
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.device)
