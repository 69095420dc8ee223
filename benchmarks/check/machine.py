"""The machine as torch sees it: the first line of what is to be pasted."""

import os
import platform
import shutil
import subprocess

import torch

from al.runtime import Runtime
from sweeps.runner.cards import mps_is_running

About = dict[str, str | int | None]


def described(runtime: Runtime) -> About:
    """What is None does not apply here."""
    return {
        "device": runtime.name,
        "driver": _driver(runtime),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cores": os.cpu_count(),
        "NVIDIA MPS": ("on" if mps_is_running() else "off") if torch.version.cuda and not runtime.on_cpu else None,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _driver(runtime: Runtime) -> str | None:
    program = None if runtime.on_cpu else shutil.which("nvidia-smi")
    if program is None:
        return None
    ask = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
