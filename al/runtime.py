"""Where a run computes: the only place that names devices, precisions and threads."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from al.errors import UserError, first_line
from al.fast.allocator import keep_freed_memory
from al.repeatability import not_deterministic, note_warnings

if TYPE_CHECKING:
    from al.fast.graphs import Recorder

ROOT = Path("/")
NVIDIA = ("dev/nvidia[0-9]*", "usr/lib/wsl/lib/nvidia-smi")
"""What a system with such a GPU has, the last of them Linux on Windows; a container only where it was given one."""
REMEDY = "install a torch for this driver and card (pytorch.org/get-started), update the driver, or use device=cpu"

LARGE = 20 * 2**30
"""Bytes of memory: 5,000 images of 32 x 32 pixels take EfficientNet-B0 some 2.5 GiB to score."""
MEMORY = "AL_DEVICE_MIB"
"""Environment variable, to try it out: images are placed as if the device, a CPU too, had so many MiB free."""


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
        return Runtime(torch.device("cpu"), self.scoring_dtype)

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

    def place(self, array: np.ndarray) -> torch.Tensor:
        """The array on the device; on the CPU without a copy, so a memory-mapped array stays on disk.

        Raises:
            UserError: the device has no room for it.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(array)
        if self.on_cpu:
            return tensor
        remedy = "use images_on=host or a smaller image_size"
        with self.room_for(f"{array.nbytes / 2**20:,.0f} MiB of images", remedy):
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
        if self.device.type != "cuda":
            yield from (batch if self.on_cpu else batch.to(self.device) for batch in batches)
            return
        stream = _copying_stream(self.device)
        under_way = None
        for batch in batches:
            following = _copy_to(batch, self.device, stream)
            if under_way is not None:
                yield _arrived(*under_way)
            under_way = following
        if under_way is not None:
            yield _arrived(*under_way)

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

        From an NVIDIA card each is copied while it computes the next one. The copies go to two pinned buffers in turn:
        only from there, and only on this kind of device, may a copy be under way while the program goes on.
        """
        if self.device.type != "cuda":
            yield from (batch.cpu().numpy() for batch in batches)
            return
        buffers: dict[int, torch.Tensor] = {}
        under_way = None
        for number, batch in enumerate(batches):
            turn = number % 2
            if turn not in buffers or len(batch) > len(buffers[turn]):
                buffers[turn] = _pinned(batch)
            buffer = buffers[turn][: len(batch)]
            copied = _copy_on(batch, buffer)
            if under_way is not None:
                yield _waited_for(*under_way)
            under_way = buffer, copied
        if under_way is not None:
            yield _waited_for(*under_way)

    def indices(self, rows: np.ndarray) -> torch.Tensor:
        """Row numbers as an index tensor on the device."""
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.device)


def _pinned(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


def _copy_on(batch: torch.Tensor, buffer: torch.Tensor) -> "torch.cuda.Event":
    """Starts a copy from the device; the event is when it is over."""
    buffer.copy_(batch, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return copied


def _copying_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)


def _copy_to(
    batch: torch.Tensor, device: torch.device, stream: "torch.cuda.Stream"
) -> tuple[torch.Tensor, "torch.cuda.Event"]:
    """Starts a copy from pinned memory, beside what the device computes; the event is when it is over."""
    with torch.cuda.stream(stream):
        there = batch.to(device, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(stream)
    return there, copied


def _arrived(batch: torch.Tensor, copied: "torch.cuda.Event") -> torch.Tensor:
    """The batch, to be used on the stream that computes; its buffer in host memory may be filled again."""
    copied.synchronize()  # begun a whole step ago
    batch.record_stream(torch.cuda.current_stream(batch.device))
    return batch


def _waited_for(buffer: torch.Tensor, copied: "torch.cuda.Event") -> NDArray:
    copied.synchronize()
    return buffer.numpy()


class CudaRecorder:
    """Records launches as CUDA graphs.

    All that belongs to the steps runs on one stream other than the default one, as capture asks for: what runs on two
    would have to wait for itself, and libraries hold memory for each.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """What was launched before comes first, and what is launched after comes later."""
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """As a graph with memory of its own. The generator that dropout draws from is the graph's too: each replay
        draws from its seed and from where it is, and moves it on, as the kernels themselves would have.

        Raises:
            RuntimeError: something waits for the device, copies from the host's memory, or finds no room.
        """
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        seed, offset = generator.initial_seed(), generator.get_offset()
        try:
            # of this thread alone: others may go on to copy images to the device
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                work()
        except BaseException:
            graph.reset()
            fresh = torch.Generator(self.device)  # the old one's state may still count as being captured
            fresh.manual_seed(seed)
            fresh.set_offset(offset)
            generator.graphsafe_set_state(fresh)
            raise
        return graph.replay


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
        raise UserError(f"precision=tf32: only NVIDIA cards have it, and device={chosen.type}; use precision=float32")
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32, tf32, _pretended_memory())


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


def _repeatable(gpu: torch.device) -> None:
    """The same seed is to give the same picks: no autotuning, and deterministic kernels where torch has them.

    It has none for the backward passes of adaptive pooling to more than one pixel (VGG, AlexNet) and of fused attention
    (ViT): these go on as they are, and are recorded with the result.
    """
    if gpu.index is not None:
        torch.cuda.set_device(gpu)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it would write every new tensor twice
    note_warnings()


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
    asked = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
        if name == "cpu" and has_nvidia_gpu():
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


def has_nvidia_gpu() -> bool:
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
