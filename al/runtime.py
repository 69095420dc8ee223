"""Where a run computes: the only place that names devices, precisions and threads."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from al.errors import UserError, first_line, out_of_memory
from al.fast.allocator import keep_freed_memory
from al.nvidia.copies import from_card, to_card
from al.nvidia.recording import CudaRecorder
from al.nvidia.repeatability import allow_tf32, not_deterministic, use_deterministic_kernels

if TYPE_CHECKING:
    from al.fast.graphs import Recorder

ROOT = Path("/")
NVIDIA = ("dev/nvidia[0-9]*", "usr/lib/wsl/lib/nvidia-smi")
"""What a system with such a GPU has, the last of them Linux on Windows; a container only where it was given one."""
REMEDY = "install a torch for this driver and card (pytorch.org/get-started), update the driver, or use device=cpu"

MEMORY = "AL_DEVICE_MIB"
"""Environment variable, to try it out: images are placed as if the device, a CPU too, had so many MiB free."""
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


def resolve_runtime(device: str = "auto", precision: str = "auto") -> Runtime:
    """The runtime that `device` and `precision` of a configuration ask for.

    Raises:
        UserError: no such device here.
    """
    chosen = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    tf32 = precision == "tf32"
    if chosen.type == "cuda":
        use_deterministic_kernels(chosen)
        allow_tf32(tf32)
    elif tf32:
        raise UserError(f"precision=tf32: only NVIDIA cards have it, and device={chosen.type}; use precision=float32")
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32, tf32, _pretended_memory())


@contextmanager
def exact_float32() -> Iterator[None]:
    """Full float32 inside, whatever `precision` asked for: for what is compared, or kept for other runs."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def own_card(device: str, number: int) -> str:
    """What `device` is for this one of several processes on a machine, so that they share its NVIDIA cards evenly."""
    cards = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{number % cards}" if cards > 1 else device


def _pretended_memory() -> int | None:
    mib = os.environ.get(MEMORY, "").strip()
    if not mib:
        return None
    if not mib.isdecimal():
        raise UserError(f"{MEMORY}={mib}: not a whole number of MiB; leave it out for what the device has")
    return int(mib) * 2**20


def _device(name: str) -> torch.device:
    asked = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
        if name == "cpu" and _has_nvidia_gpu():
            raise UserError(f"device=auto: there is an NVIDIA GPU that torch cannot use ({_why_not()}); {REMEDY}")
    try:
        device = torch.device(name)
        if device.type == "cuda" and "TORCHELASTIC_RUN_ID" in os.environ:
            device = torch.device(_gpu_of_this_process(name))
        if device.type == "cpu" and device.index:
            raise UserError(f"device={asked!r}: there is one CPU, whatever its cores; use device=cpu")
        _try_out(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        remedy = REMEDY if asked == "auto" else "use device=auto or device=cpu"
        raise UserError(f"device={asked!r}: not usable here ({first_line(error)}); {remedy}") from None
    return device


def _try_out(device: torch.device) -> None:
    """Runs a small kernel: a card that is too old or too new for this torch is seen only then."""
    found = torch.ones(8, 8, device=device).sum().item()  # .item() waits, so an error comes out here
    if found != 64:
        raise RuntimeError(f"the sum of 64 ones is {found}")


def _has_nvidia_gpu() -> bool:
    """Whether this machine has one and does not hide it: CUDA_VISIBLE_DEVICES= (empty) or -1 hides all."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = shown is not None and shown.strip() in ("", "-1", "NoDevFiles")
    return not hidden and any(any(ROOT.glob(place)) for place in NVIDIA)


def _why_not() -> str:
    """What torch says of a GPU that it cannot use."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return "no reason given"


def _gpu_of_this_process(name: str) -> str:
    """Under torchrun: the GPU with the number that torchrun gave this process."""
    rank, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if name != "cuda" and processes > 1:
        raise UserError(f"device={name!r}: one GPU for {processes} processes; use device=cuda, which gives one to each")
    if processes > gpus > 0:
        raise UserError(f"--nproc-per-node={processes}: there are {gpus} GPUs here; start at most one process for each")
    return name if name != "cuda" else f"cuda:{rank}"


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
