"""Starts train.py for the tests: as the real command, or in a fork of a process that has torch loaded already.

A fork starts in milliseconds where the command needs seconds, runs the same `main`, takes real signals and ends with
the same exit status. It can also be struck by a signal, `kill -9` included, right before a chosen disk operation.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HEAVY = (
    "sklearn.datasets",
    "PIL.Image",
    "matplotlib",
    "faiss",
    "al.learning.network_learner",
    "al.tracking.plots",
    "data_prep.datasets",
)
DISK_OPERATIONS = ("fsync", "replace", "unlink")
"""Functions of `os` that every lasting change of a run goes through; `fsync` is called when the data is written."""

SMALL = {
    "dataset": "digits",
    "model": "small_cnn",
    "weights": "none",
    "variant": "balanced_20",
    "budget": 60,
    "initial_min": 30,
    "batch_fraction": 0.2,
    "max_epochs": 8,
    "patience": 2,
    "lr": 0.005,
    "augment": "false",
    "precision": "float32",
    "device": "cpu",
    "checkpoint_seconds": 0,
}
"""A run of seconds: 30 labels, then three acquisitions of 12, 12 and 6. On the CPU, also where there is a GPU; with a
checkpoint after every epoch, though epochs are short."""


def arguments(**parameters: Any) -> list[str]:
    return [f"--{name}={value}" for name, value in parameters.items()]


def small(results_dir: Path | str, **changed: Any) -> list[str]:
    """The arguments of the small run with some parameters changed."""
    return arguments(**SMALL | {"results_dir": results_dir} | changed)


def environment(home: Path | None = None, **changed: str | None) -> dict[str, str]:
    """This process's environment without what would make W&B behave otherwise; W&B is off unless asked for.

    Args:
        home: an empty folder, to see what is written outside of the results.
        changed: None removes a variable.
    """
    base = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTEST_"))}
    base |= {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    if home is not None:
        base |= {"HOME": str(home), "NETRC": str(home / "netrc")}
    base |= {name: value for name, value in changed.items() if value is not None}
    return {name: value for name, value in base.items() if changed.get(name, "") is not None}


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int
    """Exit status; -9 after SIGKILL."""
    stdout: str
    stderr: str
    seconds: float

    @property
    def complaint(self) -> str:
        """The one line that a user sees of an error.

        Raises:
            AssertionError: there is more than the one line, or none.
        """
        lines = self.stderr.strip().splitlines()
        assert len(lines) == 1, f"exit status {self.code}, and on stderr:\n{self.stderr}"
        assert lines[0].startswith("error: "), lines[0]
        return lines[0]


def command(*args: str, env: dict[str, str] | None = None, cwd: Path = ROOT, timeout: float = 240) -> Outcome:
    """`python train.py ARGS` as a user starts it."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *args],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - start)


@dataclass
class Fork:
    """A run in a fork, going on or over."""

    launcher: "Launcher"
    pid: int
    output: Path
    start: float
    status: int | None = None

    def poll(self) -> int | None:
        if self.status is None:
            self.status = self.launcher.ask(poll=self.pid)
        return self.status

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def until(self, happened: Any, timeout: float = 150) -> None:
        """Waits until `happened()` is true.

        Raises:
            AssertionError: the run was over before that, or it took too long.
        """
        deadline = time.monotonic() + timeout
        while not happened():
            assert self.poll() is None, f"ended with {self.status}:\n{self.stderr}"
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.002)

    def wait(self, timeout: float = 150) -> Outcome:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise AssertionError(f"still running after {timeout} s:\n{self.stdout}\n{self.stderr}")
            time.sleep(0.01)
        return Outcome(self.status, self.stdout, self.stderr, time.monotonic() - self.start)

    @property
    def stdout(self) -> str:
        return (self.output / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.output / "stderr").read_text()


@dataclass
class Launcher:
    """Forks runs off one warm process.

    Args:
        folder: for what the runs print.
    """

    folder: Path
    _process: subprocess.Popen | None = None
    _numbers: Any = field(default_factory=itertools.count)

    def ask(self, **request: Any) -> Any:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, args: list[str], env: dict[str, str] | None = None, *, draw=False, strike=None) -> Fork:
        """Starts a run.

        Args:
            draw: make real pictures, which takes longer than all the rest, instead of single pixels.
            strike: (operation, nth, signal): the run gets the signal right before the nth of such disk
                operations, for example ("replace checkpoint.pt", 2, SIGKILL) before its second checkpoint.
        """
        output = self.folder / f"{next(self._numbers)}"
        output.mkdir(parents=True)
        for name in ("stdout", "stderr"):
            (output / name).touch()
        pid = self.ask(args=args, env=env or environment(), output=str(output), draw=draw, strike=strike)
        return Fork(self, pid, output, time.monotonic())

    def run(self, args: list[str], env: dict[str, str] | None = None, *, draw=False, strike=None) -> Outcome:
        return self.start(args, env, draw=draw, strike=strike).wait()

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(30)


def _serve() -> None:
    """The warm process: forks a run for each request and tells how it ended when asked."""
    sys.path.insert(0, str(ROOT))
    for name in HEAVY:
        __import__(name)
    _warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _become(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _warm_up() -> None:
    """Does what costs seconds the first time in a process: torch's lazy imports, and matplotlib's fonts."""
    import io

    import torch
    from matplotlib.figure import Figure

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    figure = Figure()
    figure.subplots().set_title("warm")
    figure.savefig(io.BytesIO())


def _become(request: dict[str, Any]) -> None:
    """Turns this process into a run; never returns."""
    code = 1
    try:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            path = os.devnull if name == "stdin" else f"{request['output']}/{name}"
            handle = os.open(path, os.O_RDWR | os.O_APPEND)
            os.dup2(handle, number)
            os.close(handle)
        os.environ.clear()
        os.environ.update(request["env"])
        if not request["draw"]:
            _draw_nothing()
        if request["strike"]:
            _strike(*request["strike"])
        from train import main

        code = main(request["args"])
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _draw_nothing() -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    Figure.savefig = lambda self, path, **options: Image.new("L", (1, 1)).save(path)


def _strike(before: str, nth: int, signum: int) -> None:
    """Sends this process a signal right before the nth time, from 1, that it does the disk operation `before`."""
    times = itertools.count(1)

    def watched(name, operation):
        def wrapper(target, *args, **kwargs):
            path = Path(f"/proc/self/fd/{target}").readlink() if name == "fsync" else (*args, target)[0]
            if f"{name} {_plain_name(path)}" == before and next(times) == nth:
                os.kill(os.getpid(), signum)
            return operation(target, *args, **kwargs)

        return wrapper

    for name in DISK_OPERATIONS:
        setattr(os, name, watched(name, getattr(os, name)))


def _plain_name(path: object) -> str:
    """`.epochs.jsonl.4711`, the temporary file, as `epochs.jsonl`."""
    return Path(str(path)).name.removeprefix(".").rstrip("0123456789").removesuffix(".")


if __name__ == "__main__":
    _serve()
