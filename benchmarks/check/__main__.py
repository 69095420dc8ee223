"""Whether this machine's GPU computes what a CPU computes, and how fast: for whoever has the card at hand.

    python -m benchmarks.check                  # some minutes; `make check-device` does the same
    python -m benchmarks.check --device=cpu     # the same checks on a CPU

What it prints between the fences is to be pasted into an issue: the machine, then a line a check. The exit status is 1
where one failed, and a line under it says what to do. No data set and no download: EfficientNet-B0 with the statistics
of a trained one on made-up images, and a small run on the digits of scikit-learn. What it finds is kept in a file that
`JOBS=auto` reads.
"""

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from al.errors import UserError, first_line
from al.storage.files import write_atomically
from benchmarks.check import estimate, rates, same_results
from benchmarks.check.machine import About, described
from benchmarks.check.results import Result, broken
from benchmarks.check.subject import MODEL, Subject
from benchmarks.check.together import serve, together, together_by_mps
from benchmarks.check.whole_runs import whole_runs
from sweeps.runner.cards import mps_is_running

SECONDS = 4.0
"""That a rate is measured for."""


def checks(subject: Subject, options: argparse.Namespace, done: list[Result]) -> dict[str, Callable[[], list[Result]]]:
    """Every check by name, in turn; `done` is what those before it have found."""
    device, model, seconds, counts = options.device, options.model, options.seconds, options.together
    on = ", MPS is on" if mps_is_running() else ""
    return {
        "device and CPU": lambda: same_results.device_and_cpu(subject),
        "folding": lambda: same_results.folding(subject),
        "twice the same": lambda: same_results.twice(subject),
        "recorded steps": lambda: same_results.recorded_steps(subject),
        "whole runs": lambda: whole_runs(device) if options.runs else [],
        "precision": lambda: same_results.precisions(subject, device),
        "scoring": lambda: rates.scoring(subject, seconds),
        "training": lambda: rates.training(subject, seconds),
        "new sizes": lambda: rates.first_of_a_size(subject),
        "runs at a time": lambda: together(device, model, seconds, counts, on),
        "runs at a time with MPS": lambda: [] if on else together_by_mps(device, model, seconds, counts),
        "memory": lambda: rates.memory(subject),
        "estimate": lambda: estimate.of_the_study(done),
    }


def checked(subject: Subject, options: argparse.Namespace) -> list[Result]:
    """Each result printed as it is found; a check that ends in an error has failed and stops no other."""
    done: list[Result] = []
    for name, check in checks(subject, options, done).items():
        try:
            found = check()
        except Exception as error:  # whatever a card that nobody has tried comes up with is a result
            found = [broken(name, f"{type(error).__name__}: {first_line(error)}", traceback.format_exc())]
        for result in found:
            print(result, flush=True)
        done += found
    return done


def write(results: Sequence[Result], about: About, on_cpu: bool, path: Path) -> None:
    """What was found, for `JOBS=auto` and for whoever wants the numbers."""
    best = estimate.best_of(results)
    found = {"on_cpu": on_cpu, "best_runs_at_a_time": best and best.runs, "with_mps": best and best.with_mps}
    found |= {"machine": about, "results": [asdict(result) for result in results]}
    write_atomically(path, json.dumps(found, indent=1))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, or a torch device")
    parser.add_argument("--model", default=MODEL, help="small_cnn, or of torchvision")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a rate is measured for")
    parser.add_argument("--together", default="1,2,4,8", help="runs at a time to try, comma-separated; empty: none")
    parser.add_argument("--no-runs", dest="runs", action="store_false", help="leave out the small runs of train.py")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/check.json"), help="where results go")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.seconds < float("inf"):
        parser.error(f"--seconds={options.seconds:g}: no time to measure in; use more than 0, for example {SECONDS:g}")
    try:
        options.together = tuple(sorted({int(count) for count in options.together.split(",") if count}))
    except ValueError:
        parser.error(f"--together={options.together}: not numbers of runs; write them as 1,2,4")
    if options.together and options.together[0] < 1:
        parser.error(f"--together: {options.together[0]} runs at a time; use 1 or more, or --together= for none")
    return options


def make_folder(path: Path) -> None:
    """Make the folder of the file and see that it can be written to: found out before minutes of checks.

    Raises:
        UserError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--out={path}: cannot be written ({error.strerror}); choose another file") from None


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, 1 where a check failed, 2 where it cannot begin or its file cannot be written."""
    options = parse(arguments)
    try:
        if options.serve:
            serve(options.device, options.model)
            return 0
        make_folder(options.out)
        subject = Subject(options.device, options.model)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    about = described(subject.there)
    print(f"```\n{', '.join(f'{name} {value}' for name, value in about.items() if value is not None)}", flush=True)
    results = checked(subject, options)
    failed = [result.name for result in results if result.passed is False]
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed", "```", sep="\n")
    try:
        write(results, about, subject.there.on_cpu, options.out)
    except OSError as error:
        said = f"{options.out}: cannot be written ({error.strerror}); make room there, or choose another with --out"
        print(f"error: {said}; the lines above are all that was found", file=sys.stderr)
        return 2
    print(f"paste what is between the fences into an issue; in full: {options.out}")
    if said := estimate.advice(estimate.best_of(results)):
        print(said)
    return bool(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
