"""Training steps recorded once and launched again as a whole: a GPU then waits for no Python between its kernels.

A step of EfficientNet-B0 on 32 images is some 600 kernels of a few microseconds each, which Python launches more slowly
than a GPU carries them out. A recording freezes every number and every address. So a step reads what changes (images,
targets, the learning rate) from tensors that keep their addresses, and never waits for the device.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch

from al.errors import first_line

WARM_UP = 3
"""Steps carried out before the recording: libraries choose their algorithms and take their memory in the first ones."""

Inputs = Sequence[torch.Tensor | None]


class Recorder(Protocol):
    """What records launches on a device."""

    def stream(self) -> AbstractContextManager[None]:
        """The context in which all steps run, before and after the recording."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` launches, without carrying it out; each call of the result carries it out once.

        Raises:
            RuntimeError: `work` cannot be recorded; random numbers and results are as before.
        """


class RecordedStep:
    """A step on batches of one size, recorded after the first few of them; any other batch is carried out as it comes.

    The results are the same either way, and the random numbers too: what is recorded draws from where the seed and the
    draws before it have left the device's generator.

    Args:
        work: the step on tensors [b, ...], None where it has none; what it returns has the same length. All else that
            it reads or writes stays where it is in memory.
        size: b of the batches to record.
        recorder: None where the device has none; every step is then carried out as it comes.
    """

    def __init__(self, work: Callable[..., torch.Tensor], size: int, recorder: Recorder | None):
        self.work, self.size, self.recorder = work, size, recorder
        self.refusal = ""
        """Why it could not be recorded, where that was tried."""
        self._warm = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: list[torch.Tensor | None] = []
        self._output: torch.Tensor | None = None

    @property
    def is_recorded(self) -> bool:
        return self._replay is not None

    def stream(self) -> AbstractContextManager[None]:
        """Around the steps of an epoch, and around what they read and what reads their results."""
        return nullcontext() if self.recorder is None else self.recorder.stream()

    def __call__(self, *inputs: torch.Tensor | None) -> torch.Tensor:
        """What `work` returns for these inputs; good until the next call."""
        if self.recorder is None or self.refusal or len(inputs[0]) != self.size:
            return self.work(*inputs)
        if self._warm < WARM_UP:
            self._warm += 1
            return self.work(*inputs)
        if self._replay is None:
            self._record(inputs)
        if self._replay is None:
            return self.work(*inputs)
        for kept, given in zip(self._inputs, inputs):
            if kept is not None:
                kept.copy_(given)
        self._replay()
        return self._output

    def _record(self, inputs: Inputs) -> None:
        self._inputs = [None if given is None else given.clone() for given in inputs]
        try:
            self._replay = self.recorder.record(self._work_on_kept)
        except RuntimeError as error:
            self._inputs, self._output, self.refusal = [], None, first_line(error)
            said = f"note: training steps cannot be recorded ({self.refusal}); they go on without, more slowly"
            print(said, file=sys.stderr, flush=True)

    def _work_on_kept(self) -> None:
        self._output = self.work(*self._inputs)
