"""Where a run computes: the only place that names devices, precisions and threads."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from al.errors import UserError
from al.fast.allocator import keep_freed_memory


@dataclass(frozen=True)
class Runtime:
    """The device of a run and the precision it scores in. Training is float32, or with `tf32` as scoring."""

    device: torch.device
    scoring_dtype: torch.dtype
    tf32: bool = False
    """Whether products round their operands to 10 bits, on NVIDIA cards that are faster so."""

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def fused_optimiser(self) -> bool:
        return self.device.type in ("cuda", "cpu")

    def scoring_batch(self, size: int) -> int:
        """Images of `size` x `size` pixels scored at once: 500 of 32 x 32 on a CPU, elsewhere 2,500.

        Larger images come in smaller batches, so that a layer's output takes the same memory.
        """
        return max(1, (500 if self.on_cpu else 2500) * 32**2 // max(size, 32) ** 2)

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

    def place(self, array: np.ndarray) -> torch.Tensor:
        """The array on the device; on the CPU without a copy, so a memory-mapped array stays on disk."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(array)
        return tensor if self.on_cpu else tensor.to(self.device, non_blocking=True)

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
        _repeatable(chosen)
        _allow_tf32(tf32)
    elif tf32:
        raise UserError(f"precision=tf32: of NVIDIA cards only, and device={chosen.type}; use precision=float32")
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32, tf32)


def _repeatable(gpu: torch.device) -> None:
    """No autotuning: the same seed is to give the same picks."""
    if gpu.index is not None:
        torch.cuda.set_device(gpu)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _allow_tf32(allowed: bool) -> None:
    """torch has it on for convolutions as it comes: probabilities then differ by up to 0.02 from those of float32."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def out_of_memory(error: BaseException) -> bool:
    """Whether a device has no room left; Apple's and the CPU's say so by a plain RuntimeError."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


@contextmanager
def exact_float32() -> Iterator[None]:
    """Full float32 inside, whatever `precision` asked for: for what is compared, or kept for other runs."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    _allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and "TORCHELASTIC_RUN_ID" in os.environ:
            device = torch.device(_gpu_of_this_process(name))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device={name!r}: not usable here ({reason}); use device=auto or device=cpu") from None
    return device


def _gpu_of_this_process(name: str) -> str:
    """Under torchrun, which starts several processes on this machine: the one of the process's number."""
    rank, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if name != "cuda" and processes > 1:
        raise UserError(f"device={name!r}: one GPU for {processes} processes; use device=cuda, which gives one to each")
    if processes > gpus > 0:
        raise UserError(f"--nproc-per-node={processes}: there are {gpus} GPUs here; start at most one process for each")
    return name if name != "cuda" else f"cuda:{rank}"


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
