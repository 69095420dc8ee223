"""How fast several runs at a time are together, in processes of their own, without and with NVIDIA's MPS."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import torch

from al.runtime import resolve_runtime
from benchmarks.check.results import Result
from benchmarks.check.subject import few_steps, new_network, on_device, trainer_of
from benchmarks.measuring import number
from benchmarks.runs import ROOT
from sweeps.runner.cards import MPS_DAEMON, PIPES
from sweeps.runner.command import threads_each

LOGS = "CUDA_MPS_LOG_DIRECTORY"
BY_MPS = ", MPS"


class Trainers:
    """Processes that wait, and train for some seconds when they are told to, so many of them at a time."""

    def __init__(self, count: int, device: str, model: str, said: IO[str]):
        """`said`: a file for what they write to standard error, of which the last line is quoted where one ends."""
        self.said = said
        command = [sys.executable, "-m", "benchmarks.check", f"--device={device}", f"--model={model}", "--serve"]
        self.processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
            for _ in range(count)
        ]

    def __enter__(self) -> "Trainers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with suppress(BrokenPipeError):  # it has ended before it read what it was told
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

    def ready(self) -> None:
        """Raises RuntimeError where one could not begin."""
        for process in self.processes:
            self._answer(process)

    def rate(self, count: int, seconds: float) -> float:
        """Steps a second of `count` of them together, with the threads that the runner would give to each.

        Raises:
            RuntimeError: one has ended.
        """
        own = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        threads = int(own or threads_each(count))
        for process in self.processes[:count]:
            print(seconds, threads, file=process.stdin, flush=True)
        return sum(float(self._answer(process)) for process in self.processes[:count])

    def _answer(self, process: subprocess.Popen) -> str:
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"one of them ended with exit status {process.wait()}: {self._last_words()}")
        return answer

    def _last_words(self) -> str:
        self.said.seek(0)
        lines = [line.strip() for line in self.said if line.strip()]
        return lines[-1] if lines else "it said nothing"


def serve(device: str, model: str) -> None:
    """One of `Trainers`: says that it is ready, then trains for as long and with as many threads as each line says,
    and answers with a rate."""
    runtime = resolve_runtime(device, "float32")
    train = few_steps(trainer_of(on_device(new_network(model), runtime), runtime))
    train()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, threads = line.split()
        torch.set_num_threads(int(threads))
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < float(seconds):
            done += train()
        print(done / (time.perf_counter() - start), flush=True)


def together(device: str, model: str, seconds: float, counts: tuple[int, ...], sharing: str = "") -> list[Result]:
    """Training steps a second of several processes at a time, all of them added up.

    Args:
        sharing: how they share the card, for the lines.
    """
    results: list[Result] = []
    if not counts:
        return results
    with tempfile.TemporaryFile("w+") as said, Trainers(max(counts), device, model, said) as trainers:
        for count in counts:
            name = f"{count} runs at a time{sharing}" if count > 1 else f"1 run{sharing}"
            try:
                if not results:
                    trainers.ready()
                rate = trainers.rate(count, seconds)
            except (RuntimeError, OSError, ValueError) as error:
                fewer = ",".join(str(number) for number in counts if number < count)
                remedy = f"to leave it out: make check-device ARGS=--together={fewer}"
                return [*results, Result(name, str(error), False, remedy=remedy)]
            results.append(Result(name, f"{number(rate)} training steps a second in all", value=rate))
    return results


def together_by_mps(device: str, model: str, seconds: float, counts: tuple[int, ...]) -> list[Result]:
    """The same with NVIDIA's Multi-Process Service, which is started for it and ended after it, where it is not on."""
    counts = tuple(count for count in counts if count > 1)
    if not counts or shutil.which(MPS_DAEMON) is None:
        return []
    with tempfile.TemporaryDirectory() as folder, _mps(folder) as refused:
        if refused:
            return [Result("with MPS", f"could not be started here ({' '.join(refused.split())[:160]})")]
        return together(device, model, seconds, counts, BY_MPS)


@contextmanager
def _mps(folder: str) -> Iterator[str]:
    """A daemon of its own, that processes started inside find; gives why there is none, or an empty string."""
    own = {PIPES: folder, LOGS: folder}
    before = {name: os.environ.get(name) for name in own}
    try:
        started = subprocess.run([MPS_DAEMON, "-d"], env=os.environ | own, capture_output=True, text=True, timeout=20)
        refused = (started.stderr + started.stdout).strip() or "no reason given" if started.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        refused = str(error)
    os.environ.update({} if refused else own)
    try:
        yield refused
    finally:
        if not refused:
            quit = {"input": "quit\n", "env": os.environ | own, "capture_output": True, "text": True, "timeout": 60}
            with suppress(OSError, subprocess.SubprocessError):  # what was measured counts also where it lingers
                subprocess.run([MPS_DAEMON], **quit)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
