"""Whether this machine's GPU computes what a CPU computes, and how fast: for whoever has the card at hand.

    python -m benchmarks.check                  # some minutes; `make check-device` does the same
    python -m benchmarks.check --device=cpu     # the same checks on a CPU

What it prints between the fences is to be pasted into an issue: the machine, then a line a check. The exit status is 1
where one failed. No data set and no download: EfficientNet-B0 with the statistics of a trained one on made-up images,
and a small run on the digits of scikit-learn. What it finds is kept in a file that `JOBS=auto` reads.
"""

import sys

if __name__ == "__main__":  # before torch is loaded
    from al import threads

    threads.sleep_while_waiting()

import argparse
import copy
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from benchmarks.trained import trained
from benchmarks.training_step import STUDY

MODEL, TRAINED, SCORED_IMAGES, PICKED = "efficientnet_b0", 256, 2000, 0.05
TOLERANCE = 1e-3
"""Of probabilities, gradients and features, relative to the largest: float32 differs by order of summation only."""
APART = 0.05
"""Of weights after an epoch with recorded steps, relative to the largest, where they are not the same bit for bit:
rounding grows with every step of Adam."""
SECONDS = 4.0
"""That a rate is measured for."""
STEPS, SCORED, RUNS = 814_215, 209_000_000, 220
"""Work of the study's 220 runs at 30 epochs each, as `sweeps/study` has them."""
GAIN = 1.05
"""More runs at a time count as better where all together are this many times as fast."""
ROOT = Path(__file__).resolve().parents[1]
PIPES, LOGS, MPS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "nvidia-cuda-mps-control"
SMALL_RUN = {
    "dataset": "digits",
    "strategy": "typiclust",
    "variant": "balanced_50",
    "budget": 300,
    "batch_fraction": 0.2,
    "max_epochs": 6,
    "patience": 6,
}
"""A run of seconds, of which every part is as in a large one."""


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
        self.images, self.labels = synthetic.images(SCORED_IMAGES)
        self.model = trained(_new_network(model))
        self.exact = self.scored(self.cpu)

    def network(self, runtime: Runtime) -> nn.Module:
        model = copy.deepcopy(self.model)
        return for_training(model.to(runtime.device), on_cpu=runtime.on_cpu)

    def scored(self, runtime: Runtime, network: nn.Module | None = None) -> Predictions:
        scorer = Scorer(network or self.network(runtime), runtime, synthetic.SIDE)
        return scorer.predict(runtime.place(self.images), features=True)

    def trainer(self, runtime: Runtime, *, recorded: bool = True) -> Trainer:
        trainer = _trainer_of(self.network(runtime), runtime)
        if not recorded:
            trainer.step.recorder = None
        return trainer

    def after_an_epoch(self, runtime: Runtime, *, recorded: bool = True) -> Trainer:
        trainer = self.trainer(runtime, recorded=recorded)
        trainer.epoch(runtime.place(self.images), self.labels, np.arange(TRAINED), 1)
        return trainer

    def gradient(self, runtime: Runtime) -> torch.Tensor:
        """[P] of the mean loss of a batch, in evaluation mode: dropout draws other numbers on each device."""
        network = self.network(runtime).eval()
        batch, targets = runtime.place(self.images[:32]), runtime.place(self.labels[:32])
        F.cross_entropy(network(to_input(batch, synthetic.SIDE))[0], targets).backward()
        return torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None])


def _new_network(model: str) -> nn.Module:
    return build_model(model, synthetic.CLASSES, weights="none", dropout=0.2, image_size=synthetic.SIDE, seed=0)


def _trainer_of(network: nn.Module, runtime: Runtime) -> Trainer:
    config = SimpleNamespace(**STUDY, seed=0)
    return Trainer(network, runtime, image_size=synthetic.SIDE, settings=config, classes=synthetic.CLASSES)


def _weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in trainer.model.parameters()])


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
    weights = [_weights(subject.after_an_epoch(subject.there)) for _ in range(2)]
    probs = [subject.scored(subject.there).probs for _ in range(2)]
    same = {"training": torch.equal(*weights), "scoring": np.array_equal(*probs)}
    return [Result(f"{name} twice", "bit for bit" if equal else "differs", equal) for name, equal in same.items()]


def recorded_steps(subject: Subject) -> list[Result]:
    """An epoch of steps that are recorded and launched again as a whole, beside one of steps launched one by one."""
    name = "recorded and single steps"
    if subject.there.recorder is None:
        return [Result(name, f"{subject.there.device.type} has no recording of steps")]
    recorded, plain = (subject.after_an_epoch(subject.there, recorded=whether) for whether in (True, False))
    if not recorded.step.is_recorded:
        return [Result(name, f"not recorded: {recorded.step.refusal or 'AL_FAST takes it away'}", False)]
    if torch.equal(_weights(recorded), _weights(plain)):
        return [Result(name, "the same weights after an epoch, bit for bit", True)]
    apart = _apart(_weights(recorded), _weights(plain))
    return [Result(name, f"weights after an epoch within {apart:.1e} (allowed {APART})", apart <= APART, apart)]


def whole_runs(device: str) -> list[Result]:
    """The same small run of train.py twice, and once with steps launched one by one: the same picks each time."""
    with tempfile.TemporaryDirectory() as folder:
        ways = {"first": "all", "again": "all", "single steps": "-graphs"}
        with ThreadPoolExecutor() as at_once:
            done = at_once.map(lambda name: _small_run(device, Path(folder, name), ways[name]), ways)
        for run in done:
            if run.returncode:
                last = " ".join((run.stderr.strip() or run.stdout.strip()).splitlines()[-1:])
                return [Result("a whole run", f"exit status {run.returncode}: {last[:90]}", False)]
        picks = {name: _picks_of(Path(folder, name)) for name in ways}
    return [
        _same_picks("a whole run twice", picks["again"], picks["first"]),
        _same_picks("a whole run with single steps", picks["single steps"], picks["first"]),
    ]


def _small_run(device: str, results: Path, fast: str) -> subprocess.CompletedProcess:
    arguments = [f"--{key}={value}" for key, value in SMALL_RUN.items()]
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments, f"--device={device}", f"--results_dir={results}"],
        env=os.environ | {"WANDB_MODE": "disabled", "AL_FAST": fast},
        capture_output=True,
        text=True,
    )


def _picks_of(results: Path) -> list[int]:
    (path,) = results.glob("*/*/al_tracking.json")
    return json.loads(path.read_text())["selected_indices"]


def _same_picks(name: str, found: list[int], expected: list[int]) -> Result:
    if found == expected:
        return Result(name, f"the same {len(expected)} picks", True)
    return Result(name, f"{len(set(found) & set(expected))} of {len(expected)} picks are the same", False)


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
        overlap = _overlap(probs, subject.exact.probs)
        apart = float(np.quantile(np.abs(probs - subject.exact.probs), 0.99))
        said = f"{overlap:.0%} of the picks of float32, 99 % of the probabilities within {apart:.3f}"
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


def scoring_speed(subject: Subject, seconds: float) -> list[Result]:
    """Images scored a second, of one run alone."""
    runtime = subject.there
    count = 500 if runtime.on_cpu else 10_000
    images = runtime.place(synthetic.images(count)[0])
    scorer = Scorer(subject.network(runtime), runtime, synthetic.SIDE)
    rate = _rate(lambda: len(scorer.predict(images, features=True).probs), seconds)
    return [Result("images scored a second", number(rate), value=rate)]


def training_speed(subject: Subject, seconds: float) -> list[Result]:
    """Training steps a second, of one run alone."""
    results = []
    for name, recorded in (("training steps a second", True), ("of these, one by one", False)):
        if recorded or subject.there.recorder is not None:
            rate = _rate(_training(subject.trainer(subject.there, recorded=recorded)), seconds)
            results.append(Result(name, number(rate), value=rate))
    return results


def first_of_a_size(subject: Subject) -> list[Result]:
    """Seconds that the first epoch takes, and what a last batch of a size not met before adds: rounds of labels bring
    such batches, and a library that plans each convolution for each size makes a run wait for them."""
    trainer = subject.trainer(subject.there)
    images = subject.there.place(subject.images)

    def seconds(count: int) -> float:
        start = time.perf_counter()
        trainer.epoch(images, subject.labels, np.arange(count), 1)  # returns numbers, so it has waited for the device
        return time.perf_counter() - start

    batch = trainer.settings.batch_size
    first, *added = seconds(TRAINED), *(seconds(TRAINED + part) - seconds(TRAINED + part) for part in (batch // 3, 5))
    return [
        Result("seconds of the first epoch", f"{first:.2f}", value=first),
        Result("seconds of a new batch size", f"{max(0.0, *added):.2f}", value=max(0.0, *added)),
    ]


def _training(trainer: Trainer) -> Callable[[], int]:
    """An epoch of a few steps; returns how many."""
    images, labels = synthetic.images(TRAINED)
    placed, rows = trainer.runtime.place(images), np.arange(TRAINED)

    def train() -> int:
        trainer.epoch(placed, labels, rows, 1)
        return TRAINED // trainer.settings.batch_size

    return train


class Trainers:
    """Processes that wait, and train for some seconds when they are told to, so many of them at a time."""

    def __init__(self, count: int, device: str, model: str, environment: dict[str, str]):
        command = [sys.executable, "-m", "benchmarks.check", f"--device={device}", f"--model={model}", "--serve"]
        self.processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> "Trainers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def ready(self) -> None:
        """Raises RuntimeError where one could not begin."""
        for process in self.processes:
            self._answer(process)

    def rate(self, count: int, seconds: float) -> float:
        """Steps a second of `count` of them together. Raises RuntimeError where one has ended."""
        for process in self.processes[:count]:
            print(seconds, file=process.stdin, flush=True)
        return sum(float(self._answer(process)) for process in self.processes[:count])

    def _answer(self, process: subprocess.Popen) -> str:
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"one of them ended with exit status {process.wait()}")
        return answer


def serve(device: str, model: str) -> None:
    """One of `Trainers`: says that it is ready, then trains for as long as each line says, and answers with a rate."""
    runtime = resolve_runtime(device, "float32")
    network = _new_network(model)
    train = _training(_trainer_of(for_training(network.to(runtime.device), on_cpu=runtime.on_cpu), runtime))
    train()
    print("ready", flush=True)
    for line in sys.stdin:
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < float(line):
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
    with Trainers(max(counts), device, model, {}) as trainers:
        for count in counts:
            name = f"{count} runs at a time{sharing}" if count > 1 else f"1 run{sharing}"
            try:
                if not results:
                    trainers.ready()
                rate = trainers.rate(count, seconds)
            except (RuntimeError, OSError, ValueError) as error:
                return [*results, Result(name, str(error)[:90], False)]
            results.append(Result(name, f"{number(rate)} steps a second in all", value=rate))
    return results


def together_by_mps(device: str, model: str, seconds: float, counts: tuple[int, ...]) -> list[Result]:
    """The same with NVIDIA's Multi-Process Service, which is started for it and ended after it, where it is not on."""
    counts = tuple(count for count in counts if count > 1)
    if not counts or shutil.which(MPS) is None:
        return []
    with tempfile.TemporaryDirectory() as folder, _mps(folder) as refused:
        if refused:
            return [Result("with MPS", f"could not be started here ({refused[:70]})")]
        return together(device, model, seconds, counts, BY_MPS)


BY_MPS = ", MPS"


@contextmanager
def _mps(folder: str) -> Iterator[str]:
    """A daemon of its own, that processes started inside find; gives why there is none, or an empty string."""
    own = {PIPES: folder, LOGS: folder}
    before = {name: os.environ.get(name) for name in own}
    try:
        started = subprocess.run([MPS, "-d"], env=os.environ | own, capture_output=True, text=True, timeout=20)
        refused = (started.stderr + started.stdout).strip() or "no reason given" if started.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        refused = str(error)
    os.environ.update({} if refused else own)
    try:
        yield refused
    finally:
        if not refused:
            subprocess.run([MPS], input="quit\n", env=os.environ | own, capture_output=True, text=True, timeout=60)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def mps_is_on() -> bool:
    return (Path(os.environ.get(PIPES) or "/tmp/nvidia-mps") / "control").exists()


def memory(subject: Subject) -> list[Result]:
    if subject.there.device.type != "cuda":  # torch counts it there only
        return []
    peak, total = torch.accelerator.max_memory_allocated() / 2**20, torch.accelerator.get_memory_info()[1] / 2**20
    return [Result("memory", f"{number(peak)} MiB at most of {number(total)} MiB", value=peak)]


@dataclass(frozen=True)
class Best:
    """How many runs at a time train fastest together."""

    runs: int
    steps: float
    """A second, of all of them."""
    with_mps: bool


def best_of(results: list[Result]) -> Best | None:
    """Fewest runs at a time first: more of them count where they are clearly faster."""
    best = None
    for result in results:
        count, _, rest = result.name.partition(" run")
        if not count.isdigit() or result.value is None:
            continue
        if best is None or result.value > GAIN * best.steps:
            best = Best(int(count), result.value, rest.endswith(BY_MPS))
    return best


def estimate(results: list[Result]) -> list[Result]:
    """Of the study's runs from the rates above: without selection, start-up, and what is written down.

    Scoring is taken to be as fast as that of one run, however many there are: a pass fills a card by itself.
    """
    rates = {result.name: result.value for result in results}
    scoring = SCORED / rates["images scored a second"]
    lines = []
    for name, steps in _ways(rates["training steps a second"], best_of(results)):
        hours = (STEPS / steps + scoring) / 3600
        said = (
            f"{hours:.1f} hours = ({STEPS:,} steps / {number(steps)} a second + {SCORED // 10**6} million images / "
            f"{number(rates['images scored a second'])} a second) / 3600"
        )
        lines.append(Result(f"estimate, {name}", said, value=hours * 3600))
    return lines


def _ways(one: float, best: Best | None) -> Iterator[tuple[str, float]]:
    yield "study one by one", one
    if best is not None and best.runs > 1:
        yield f"study {best.runs} at a time{BY_MPS * best.with_mps}", best.steps


def described(runtime: Runtime) -> dict[str, Any]:
    """What to paste: the machine as torch sees it."""
    return {
        "device": runtime.name,
        "driver": _driver(runtime),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cores": os.cpu_count(),
        "MPS": mps_is_on(),
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


def checked(subject: Subject, options: argparse.Namespace) -> list[Result]:
    """Every check in turn, each printed as it is done; one that ends in an error has failed and stops no other."""
    done: list[Result] = []
    device, model, seconds = options.device, options.model, options.seconds
    on = ", MPS is on" if mps_is_on() else ""
    checks = {
        "device and CPU": lambda: same_as_cpu(subject),
        "folding": lambda: folding(subject),
        "twice the same": lambda: repeats(subject),
        "recorded steps": lambda: recorded_steps(subject),
        "whole runs": lambda: whole_runs(device) if options.runs else [],
        "precision": lambda: precisions(subject, device),
        "scoring": lambda: scoring_speed(subject, seconds),
        "training": lambda: training_speed(subject, seconds),
        "new sizes": lambda: first_of_a_size(subject),
        "runs at a time": lambda: together(device, model, seconds, options.together, on),
        "runs at a time with MPS": lambda: [] if on else together_by_mps(device, model, seconds, options.together),
        "memory": lambda: memory(subject),
        "estimate": lambda: estimate(done),
    }
    for name, check in checks.items():
        try:
            found = check()
        except Exception as error:  # whatever a card that nobody has tried comes up with is a result
            said = (str(error).splitlines() or [""])[0][:90]
            found = [Result(name, f"{type(error).__name__}: {said}", False)]
        for result in found:
            print(result, flush=True)
        done += found
    return done


def write(results: list[Result], about: dict[str, Any], on_cpu: bool, path: Path) -> None:
    """What was found, for `JOBS=auto` and for whoever wants the numbers."""
    best = best_of(results)
    found = {"on_cpu": on_cpu, "best_runs_at_a_time": best and best.runs, "with_mps": best and best.with_mps}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | {"machine": about, "results": [asdict(r) for r in results]}, indent=1))


def advice(best: Best | None) -> str:
    """The command that the rates speak for."""
    if best is None or best.runs == 1:
        return ""
    first = f"`{MPS} -d`, then " if best.with_mps and not mps_is_on() else ""
    return f"fastest here: {first}`make study JOBS=auto OFFLINE=1`, {best.runs} runs at a time"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, or a torch device")
    parser.add_argument("--model", default=MODEL, help="small_cnn, or of torchvision")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a rate is measured for")
    parser.add_argument("--together", default="1,2,4,8", help="runs at a time to try, comma-separated; empty: none")
    parser.add_argument("--no-runs", dest="runs", action="store_false", help="leave out the small runs of train.py")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/check.json"), help="where results go")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.together = tuple(sorted(int(count) for count in options.together.split(",") if count))
    try:
        if options.serve:
            serve(options.device, options.model)
            return 0
        subject = Subject(options.device, options.model)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    about = described(subject.there)
    print(f"```\n{', '.join(f'{name} {value}' for name, value in about.items() if value is not None)}", flush=True)
    results = checked(subject, options)
    failed = [result.name for result in results if result.passed is False]
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed", "```", sep="\n")
    write(results, about, subject.there.on_cpu, options.out)
    print(f"paste what is between the fences into an issue; in full: {options.out}")
    if said := advice(best_of(results)):
        print(said)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
