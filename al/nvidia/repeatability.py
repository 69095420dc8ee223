"""What makes the same seed give the same picks on an NVIDIA card, and a note of what may not.

torch warns of an operation that it has no deterministic kernel for: it is noted, and the run goes on.
"""

import os
import re
import warnings
from typing import TextIO

import torch

WARNING = (
    r"(?P<operation>.+?) (?:does not have a deterministic implementation|defaults to a non-deterministic algorithm)"
)
"""How torch's warning begins: the second form is that of attention, and comes once a process."""

_noted: set[str] = set()


def use_deterministic_kernels(gpu: torch.device) -> None:
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


def allow_tf32(allowed: bool) -> None:
    """torch has it on for convolutions as it comes: probabilities then differ by up to 0.02 from those of float32."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def not_deterministic() -> tuple[str, ...]:
    """What torch has warned of so far in this process, by torch's name for it."""
    return tuple(sorted(_noted))


def note_warnings() -> None:
    """From now on note such warnings and do not show them; others are shown as before."""
    warnings.filterwarnings("always", message=WARNING)
    if not isinstance(warnings.showwarning, _Noting):
        warnings.showwarning = _Noting(warnings.showwarning)


class _Noting:
    """In the place of `warnings.showwarning`."""

    def __init__(self, usual):
        self._usual = usual

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if found := re.match(WARNING, str(message)):
            _noted.add(found["operation"])
        else:
            self._usual(message, category, filename, lineno, file, line)
