"""Whether this machine's GPU computes what a CPU computes, and how fast: for whoever has the card at hand.

    python -m benchmarks.check                  # about a minute; `make check-device` does the same
    python -m benchmarks.check --device=cpu     # the same checks on a CPU

What it prints is to be pasted into an issue: the machine, then a line a check. The exit status is 1 where one failed.
No data set and no download: EfficientNet-B0 after three short epochs on made-up images.
"""

import argparse
import copy
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from al.errors import UserError
from al.fast.convolutions import for_training
from al.learning.networks import build_model
from al.learning.scorer import Predictions, Scorer, to_input
from al.learning.trainer import Trainer
from al.runtime import Runtime, resolve_runtime
from benchmarks import synthetic
from benchmarks.measuring import number
from benchmarks.training_step import STUDY

MODEL, WARM_UP, CHECKED, PICKED = "efficientnet_b0", 320, 256, 0.05
TOLERANCE = 1e-3
"""Of probabilities, gradients and features, relative to the largest: float32 differs by order of summation only."""
SECONDS = 4.0
"""That a rate is measured for."""
STEPS, SCORED, RUNS = 814_215, 209_000_000, 220
"""Work of the study's 220 runs at 30 epochs each."""


@dataclass(frozen=True)
class Result:
    """A check: `passed` is None where something is measured and nothing can fail."""

    name: str
    said: str
    passed: bool | None = None
    value: float | None = None

    def __str__(self) -> str:
        verdict = {True: "ok  ", False: "FAIL", None: "    "}[self.passed]
        return f"{verdict} {self.name:<34} {self.said}"


class Subject:
    """One network on the CPU and the same on the device."""

    def __init__(self, device: str, model: str = MODEL):
        self.cpu, self.there = resolve_runtime("cpu"), resolve_runtime(device, "float32")
        self.images, self.labels = synthetic.images(CHECKED)
        self.model = build_model(
            model, synthetic.CLASSES, weights="none", dropout=0.2, image_size=synthetic.SIDE, seed=0
        )
        self.model = self.warmed_up()
        self.exact = self.scored(self.cpu)

    def warmed_up(self) -> nn.Module:
        """After a few epochs on the CPU: of a fresh network all features are near 0, and every comparison passes."""
        images, labels = synthetic.images(WARM_UP, seed=3)
        trainer = self.trainer(self.cpu)
        for epoch in (1, 2, 3):
            trainer.epoch(self.cpu.place(images), labels, np.arange(WARM_UP), epoch)
        warm = copy.deepcopy(self.model)
        warm.load_state_dict(trainer.model.state_dict())
        return warm.eval()

    def network(self, runtime: Runtime) -> nn.Module:
        model = copy.deepcopy(self.model)
        return for_training(model) if runtime.on_cpu else model.to(runtime.device)

    def scored(self, runtime: Runtime, network: nn.Module | None = None) -> Predictions:
        scorer = Scorer(network or self.network(runtime), runtime, synthetic.SIDE)
        return scorer.predict(runtime.place(self.images), features=True)

    def trainer(self, runtime: Runtime) -> Trainer:
        config = SimpleNamespace(**STUDY, seed=0)
        network = self.network(runtime)
        return Trainer(network, runtime, image_size=synthetic.SIDE, settings=config, classes=synthetic.CLASSES)

    def weights_after_an_epoch(self, runtime: Runtime) -> torch.Tensor:
        trainer = self.trainer(runtime)
        trainer.epoch(runtime.place(self.images), self.labels, np.arange(CHECKED), 1)
        return torch.cat([parameter.detach().flatten().cpu() for parameter in trainer.model.parameters()])

    def gradient(self, runtime: Runtime) -> torch.Tensor:
        """[P] of the mean loss of a batch, in evaluation mode: dropout draws other numbers on each device."""
        network = self.network(runtime).eval()
        batch, targets = runtime.place(self.images[:32]), runtime.place(self.labels[:32])
        F.cross_entropy(network(to_input(batch, synthetic.SIDE))[0], targets).backward()
        return torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None])


def _apart(found: Any, expected: Any) -> float:
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def _close(name: str, found: Any, expected: Any, tolerance: float = TOLERANCE) -> Result:
    apart = _apart(found, expected)
    return Result(name, f"within {apart:.1e} of the largest (allowed {tolerance:.0e})", apart <= tolerance, apart)


def _picks(probs: np.ndarray) -> set[int]:
    """Rows of the share of lowest highest probability."""
    return set(np.argsort(probs.max(axis=1), kind="stable")[: round(PICKED * len(probs))].tolist())


def _overlap(probs: np.ndarray, exact: np.ndarray) -> float:
    return len(_picks(probs) & _picks(exact)) / len(_picks(exact))


def same_as_cpu(subject: Subject) -> list[Result]:
    found = subject.scored(subject.there)
    overlap = _overlap(found.probs, subject.exact.probs)
    return [
        _close("probabilities, device and CPU", found.probs, subject.exact.probs),
        _close("features, device and CPU", found.features, subject.exact.features),
        _close("gradient, device and CPU", subject.gradient(subject.there), subject.gradient(subject.cpu)),
        Result("picks, device and CPU", f"{overlap:.0%} of the {PICKED:.0%} most uncertain", overlap >= 0.9, overlap),
    ]


def folding(subject: Subject) -> list[Result]:
    network = subject.network(subject.there)
    scorer = Scorer(network, subject.there, synthetic.SIDE)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in scorer._network().modules())
    there = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    images = subject.there.place(subject.images)
    folded = scorer.predict(images, features=True).features
    with torch.no_grad():
        plain = network.eval()(to_input(images, synthetic.SIDE))[1].cpu().numpy()
    return [
        Result("batch normalisation folded", f"{there - left} of {there}", left == 0),
        _close("folded and not folded", folded, plain),
    ]


def repeats(subject: Subject) -> list[Result]:
    """Twice the same: an epoch of training, and a pass of scoring."""
    weights = [subject.weights_after_an_epoch(subject.there) for _ in range(2)]
    probs = [subject.scored(subject.there).probs for _ in range(2)]
    same = {"training": torch.equal(*weights), "scoring": np.array_equal(*probs)}
    return [Result(f"{name} twice", "bit for bit" if equal else "differs", equal) for name, equal in same.items()]


def precisions(subject: Subject, device: str) -> list[Result]:
    """What the other values of `precision` change: share of picks that stay."""
    results = []
    for precision in ("tf32", "bfloat16"):
        try:
            runtime = resolve_runtime(device, precision)
            probs = subject.scored(runtime).probs
        except (UserError, RuntimeError) as error:
            results.append(Result(f"precision={precision}", f"not here ({str(error).splitlines()[0][:70]})"))
            continue
        overlap, apart = _overlap(probs, subject.exact.probs), float(np.abs(probs - subject.exact.probs).max())
        said = f"{overlap:.0%} of the picks of float32, probabilities within {apart:.3f}"
        results.append(Result(f"precision={precision}", said, value=overlap))
    resolve_runtime(device, "float32")
    return results


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Things a second of work that says how many it did; both calls before it warm up."""
    work()
    work()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += work()
    return done / (time.perf_counter() - start)


def speed(subject: Subject, seconds: float) -> list[Result]:
    """Images scored and training steps a second, of one run alone."""
    runtime = subject.there
    count = 500 if runtime.on_cpu else 10_000
    images = runtime.place(synthetic.images(count)[0])
    scorer, trainer = Scorer(subject.network(runtime), runtime, synthetic.SIDE), subject.trainer(runtime)
    placed, steps = runtime.place(subject.images), CHECKED // 32

    def score() -> int:
        return len(scorer.predict(images, features=True).probs)

    def train() -> int:
        trainer.epoch(placed, subject.labels, np.arange(CHECKED), 1)
        return steps

    rates = {"images scored a second": _rate(score, seconds), "training steps a second": _rate(train, seconds)}
    return [Result(name, number(rate), value=rate) for name, rate in rates.items()]


def together(device: str, model: str, seconds: float, counts: tuple[int, ...]) -> list[Result]:
    """Training steps a second of several processes at a time, all of them added up."""
    results = []
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.check", f"--device={device}", f"--model={model}"]
        command.append(f"--train-for={seconds}")
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        for process in processes:
            process.stdout.readline()  # ready
        said = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            results.append(Result(f"{count} runs at a time", "one of them failed", False))
            break
        total = sum(json.loads(text) for text in said)
        results.append(Result(f"{count} runs at a time", f"{number(total)} steps a second in all", value=total))
    return results


def train_for(device: str, model: str, seconds: float) -> None:
    """One of several: says that it is ready, then its steps a second, which are meant to overlap with the others'."""
    subject = Subject(device, model)
    print("ready", flush=True)
    print(speed(subject, seconds)[1].value)


def memory(subject: Subject) -> list[Result]:
    if subject.there.device.type != "cuda":  # torch counts it there only
        return []
    peak, total = torch.accelerator.max_memory_allocated() / 2**20, torch.accelerator.get_memory_info()[1] / 2**20
    return [Result("memory", f"{number(peak)} MiB at most of {number(total)} MiB", value=peak)]


def estimate(results: list[Result]) -> Result:
    """Of the study's runs, one at a time, from the two rates: without selection, start-up and what is written down."""
    rates = {result.name: result.value for result in results}
    seconds = STEPS / rates["training steps a second"] + SCORED / rates["images scored a second"]
    arithmetic = f"{STEPS:,} steps and {SCORED // 10**6} million images scored, one run at a time, without the rest"
    return Result(f"the study's {RUNS} runs, an estimate", f"{seconds / 3600:.1f} hours: {arithmetic}", value=seconds)


def described(runtime: Runtime) -> dict[str, Any]:
    """What to paste: the machine as torch sees it."""
    return {
        "device": runtime.name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def checked(options: argparse.Namespace) -> list[Result]:
    """Every check in turn, each printed as it is done; one that ends in an error has failed and stops no other."""
    subject = Subject(options.device, options.model)
    print(json.dumps(described(subject.there)), flush=True)
    done: list[Result] = []
    checks = {
        "device and CPU": lambda: same_as_cpu(subject),
        "folding": lambda: folding(subject),
        "twice the same": lambda: repeats(subject),
        "precision": lambda: precisions(subject, options.device),
        "speed": lambda: speed(subject, options.seconds),
        "runs at a time": lambda: together(options.device, options.model, options.seconds, options.together),
        "memory": lambda: memory(subject),
        "estimate": lambda: [estimate(done)],
    }
    for name, check in checks.items():
        try:
            found = check()
        except Exception as error:  # whatever a card that nobody has tried comes up with is a result
            found = [Result(name, f"{type(error).__name__}: {str(error).splitlines()[0][:90]}", False)]
        for result in found:
            print(result, flush=True)
        done += found
    return done


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, or a torch device")
    parser.add_argument("--model", default=MODEL, help="small_cnn, or of torchvision")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a rate is measured for")
    parser.add_argument("--together", default="1,2,4,8", help="runs at a time to try, comma-separated; empty: none")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/check.json"), help="where results go")
    parser.add_argument("--train-for", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.together = tuple(int(count) for count in options.together.split(",") if count)
    try:
        if options.train_for:
            train_for(options.device, options.model, options.train_for)
            return 0
        results = checked(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps([asdict(result) for result in results], indent=1))
    failed = [result.name for result in results if result.passed is False]
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed", f"; in full: {options.out}", sep="")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
