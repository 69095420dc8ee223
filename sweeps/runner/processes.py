"""Child processes and the signals that stop them, for the local runner and for the launcher of agents."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, Protocol

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
IMPATIENCE = 30.0
"""How many times faster the steps follow each other after a second signal."""
PREEMPTED = 75
"""Exit code of a program that checkpointed on SIGUSR1: start it again to go on."""


class Child(Protocol):
    """What is asked of a child process, however it was started."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...


class Children:
    """Child processes, each in a process group of its own, stopped step by step when this process gets a signal.

    Args:
        steps: (seconds since the signal, what the children are sent then). SIGUSR1 takes the place of the first.
        groups: send to the whole process group; otherwise the child passes the signal on itself.
    """

    def __init__(self, steps: Sequence[tuple[float, int]], *, groups: bool) -> None:
        self.steps, self.groups = steps, groups
        self.alive: list[Child] = []
        self.stop_signal: int | None = None
        self._since, self._haste, self._sent = 0.0, 1.0, 0

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Child:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0
        )
        return self.adopt(child)

    def adopt(self, child: Child) -> Child:
        """Count a process that leads a group of its own among the children."""
        self.alive.append(child)
        return child

    def ended(self) -> list[Child]:
        """The children that have ended since the last call."""
        ended = [child for child in self.alive if child.poll() is not None]
        self.alive = [child for child in self.alive if child not in ended]
        return ended

    @property
    def exit_code(self) -> int:
        """This program's exit code where a signal has ended it, else 0."""
        if self.stop_signal is None:
            return 0
        return PREEMPTED if self.stop_signal == signal.SIGUSR1 else 128 + self.stop_signal

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
        handlers = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal in (None, signal.SIGUSR1):
            self.stop_signal, self._since, self._sent = number, time.monotonic(), 0
        else:
            self._haste = IMPATIENCE

    def stop(self, number: int) -> None:
        """As if this signal had come, unless one has, or this one is ignored."""
        if self.stop_signal is None and signal.getsignal(number) is not signal.SIG_IGN:
            self._on_signal(number, None)

    def pass_on(self) -> bool:
        """Sends the children what is due since the signal; whether that was the first step."""
        waited = (time.monotonic() - self._since) * self._haste
        first = self._sent == 0
        while self._sent < len(self.steps) and waited >= self.steps[self._sent][0]:
            preempting = self._sent == 0 and self.stop_signal == signal.SIGUSR1
            for child in self.alive:
                self._send(child, signal.SIGUSR1 if preempting else self.steps[self._sent][1])
            self._sent += 1
        return first

    def _send(self, child: Child, number: int) -> None:
        # W&B's helper process, which shares the group, does not survive a SIGUSR1
        send = os.killpg if self.groups and number != signal.SIGUSR1 else os.kill
        with contextlib.suppress(ProcessLookupError):
            send(child.pid, number)
