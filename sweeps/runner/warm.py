"""Runs that start from a process which has imported everything already: seconds saved by every one.

`python -m sweeps.runner.warm` imports what train.py needs and waits. For each request it forks; the child becomes
train.py, with arguments, environment and log of its own, so that a crash costs one run, as ever.
"""

import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from al import threads

PROGRAM = Path(__file__).parents[2] / "train.py"
COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
"""The command of a sweep that a fork can take the place of."""
MODULES = (
    *("torch", "torch._dynamo", "torch.optim", "sklearn.cluster", "scipy.stats", "matplotlib.pyplot", "faiss"),
    *("al.learning.linear_probe", "al.learning.network_learner", "al.learning.networks", "al.tracking.plots"),
    *("data_prep.sources.digits", "data_prep.sources.imagefolder", "data_prep.duplicates"),
    *("wandb", "wandb.sdk.launch"),
)
"""What a run imports later than at its start. None of them starts a thread or touches a device when it is imported.

W&B's two take a run 1.3 s of a core: `wandb.init` imports the second whether or not there is a job to launch."""
MESSAGE = 1 << 20
"""Most bytes of a request: its environment, mostly."""


class Forked:
    """A run that a `WarmStart` has forked: what `subprocess.Popen` is to a run that was started anew."""

    def __init__(self, owner: "WarmStart", pid: int):
        self.owner, self.pid = owner, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, minus the signal's number where one has ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self.owner.exit_code(self.pid)
        return self.returncode


class WarmStart:
    """The process that forks runs, as its owner sees it. It ends with its owner; runs under way go on to their end."""

    def __init__(self, environment: Mapping[str, str]):
        self._exit_codes: dict[int, int] = {}
        self._lost = False
        path = environment.get("PYTHONPATH")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweeps.runner.warm", str(theirs.fileno())],
                env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, [str(PROGRAM.parent), path]))},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    @staticmethod
    def serves(program: str, command: Sequence[str]) -> bool:
        """Whether runs of this command can be forked. On macOS a fork of a process with frameworks loaded may crash."""
        return sys.platform == "linux" and tuple(command) == COMMAND and Path(program).resolve() == PROGRAM

    def start(self, argv: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Forked:
        """Fork a run with `argv`, the program's name first.

        Raises:
            OSError: the process that forks is gone.
        """
        request = json.dumps({"argv": list(argv), "environment": dict(environment)}).encode()
        socket.send_fds(self._socket, [request], [log.fileno()])
        while True:
            message = self._receive()
            if "pid" in message:
                return Forked(self, message["pid"])
            self._note(message)

    def exit_code(self, pid: int) -> int | None:
        while not self._lost and pid not in self._exit_codes:
            try:
                self._note(self._receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                return None
            except OSError:
                self._lost = True  # killed: so is what it would have said of its runs
        return self._exit_codes.pop(pid, -signal.SIGKILL)

    def _note(self, message: Mapping[str, int]) -> None:
        self._exit_codes[message["ended"]] = message["code"]

    def _receive(self, flags: int = 0) -> dict[str, int]:
        if not (message := self._socket.recv(MESSAGE, flags)):
            raise ConnectionResetError("the process that starts runs has ended")
        return json.loads(message)

    def close(self) -> None:
        """Runs under way go on; the process that forked them ends with the last of them."""
        self._socket.close()


def serve(owner: socket.socket) -> list[str]:
    """Fork a run for each request; returns in the forked child, with its `sys.argv`, and in no other process."""
    wake, waker = socket.socketpair()
    for end in (wake, waker):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    ready = selectors.DefaultSelector()
    ready.register(owner, selectors.EVENT_READ)
    ready.register(wake, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is wake:
                wake.recv(4096)
                _report_ended(owner)
                continue
            message, files, _, _ = socket.recv_fds(owner, MESSAGE, 1)
            if not message:  # the owner has ended
                with contextlib.suppress(ChildProcessError):
                    while True:
                        os.wait()
                sys.exit()
            if pid := os.fork():
                os.close(files[0])
                with contextlib.suppress(OSError):  # here too: a signal to the group may come before the child does it
                    os.setpgid(pid, pid)
                owner.send(json.dumps({"pid": pid}).encode())
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for opened in (ready, owner, wake, waker):
                opened.close()
            return _become(json.loads(message), files[0])


def _report_ended(owner: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        owner.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: Mapping, log: int) -> list[str]:
    """Take on a request's process group, output and environment."""
    os.setpgid(0, 0)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environment"])
    return request["argv"]


def main(descriptor: int) -> None:
    """In the first process this never returns; in each child it is the run."""
    threads.sleep_while_waiting()
    sys.path[0] = str(PROGRAM.parent)  # as `python train.py` has it
    for module in ("train", *MODULES):
        importlib.import_module(module)
    sys.argv = serve(socket.socket(fileno=descriptor))
    runpy.run_path(str(PROGRAM), run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]))
