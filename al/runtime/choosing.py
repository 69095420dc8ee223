"""Which device a run gets, and why it cannot have the one it asked for."""

import os
from pathlib import Path

import torch

from al.errors import UserError, first_line
from al.fast.allocator import keep_freed_memory
from al.runtime.base import Runtime
from al.runtime.memory import pretended_memory
from al.runtime.repeatability import allow_tf32, use_deterministic_kernels

ROOT = Path("/")
NVIDIA = ("dev/nvidia[0-9]*", "usr/lib/wsl/lib/nvidia-smi")
"""What a system with such a GPU has, the last of them Linux on Windows; a container only where it was given one."""
REMEDY = "install a torch for this driver and card (pytorch.org/get-started), update the driver, or use device=cpu"


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
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32, tf32, pretended_memory())


def own_card(device: str, number: int) -> str:
    """What `device` is for this one of several processes on a machine, so that they share its NVIDIA cards evenly."""
    cards = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{number % cards}" if cards > 1 else device


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
