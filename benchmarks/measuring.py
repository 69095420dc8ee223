"""What every benchmark shares: timing two sides in turn, one row a measurement, the CSV and the table."""

import argparse
import csv
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

PACKAGES = ("torch", "torchvision", "transformers", "numpy", "faiss-cpu", "scikit-learn")


class Spread(NamedTuple):
    """Median, least and most of the repeats of one measurement."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def rate(self, count: float) -> "Spread":
        """`count` things took these seconds -> things a second."""
        return Spread(count / self.median, count / self.most, count / self.least)

    def times(self, factor: float) -> "Spread":
        return Spread(*(value * factor for value in self))


class Target(NamedTuple):
    """What a measurement is to reach: our value, or how many times better than the usual stack it is."""

    of: Literal["ratio", "value"]
    required: float
    aim: float | None = None


@dataclass(frozen=True)
class Measurement:
    """One line of the table; `ours` and `usual` are in `unit`."""

    what: str
    unit: str
    ours: Spread
    usual: Spread | None = None
    target: Target | None = None
    conditions: str = ""
    checked: str = ""
    """What was found equal on both sides before anything was timed."""
    extrapolated: bool = False
    peak_mib: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better ours is."""
        if self.usual is None:
            return None
        ours, usual = self.ours.median, self.usual.median
        return ours / usual if self.more_is_better else usual / ours

    @property
    def more_is_better(self) -> bool:
        return self.unit in ("images/s", "%")

    @property
    def reached(self) -> bool | None:
        """None where nothing is required."""
        if self.target is None:
            return None
        if self.target.of == "ratio":
            return self.ratio >= self.target.required
        reached, required = self.ours.median, self.target.required
        return reached >= required if self.more_is_better else reached <= required

    def row(self) -> dict[str, Any]:
        """The line of the CSV file."""
        fields = asdict(self) | {"ratio": self.ratio and round(self.ratio, 3), "reached": self.reached}
        for side in ("ours", "usual"):
            spread = fields.pop(side)
            for name, value in zip(Spread._fields, spread or (None,) * 3):
                fields[f"{side}_{name}"] = None if value is None else float(f"{value:.5g}")
        target = fields.pop("target") or Target("value", None)
        fields |= {"required": target[1], "aim": target[2], "required_of": target[0] if target[1] else None}
        return fields


def in_turn(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Spread]:
    """Seconds of each side, after a warm-up of each; in turn, so that a drift of the machine meets all alike."""
    for work in sides.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: Spread.of(taken) for name, taken in seconds.items()}


def peak_mib(process: int | str = "self") -> float:
    """Most memory in MiB that a process held; getrusage would count what its parent held before the exec.

    Raises:
        ProcessLookupError: there is no such process any more, or its memory cannot be seen on this system.
    """
    status = Path(f"/proc/{process}/status")
    try:
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    except (OSError, StopIteration):
        if process != "self":
            raise ProcessLookupError(f"process {process}: its memory cannot be seen") from None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def environment(device: str = "cpu") -> dict[str, Any]:
    """What a number depends on besides the code; goes into every row."""
    from al.runtime import resolve_runtime  # what measures memory does without torch, which takes 290 MiB

    return {
        "device": resolve_runtime(device).name,
        "machine": platform.processor() or platform.machine(),
        "cpus": cpus(),
        "threads": os.environ.get("OMP_NUM_THREADS", cpus()),
        "python": platform.python_version(),
        **{name.replace("-", "_"): version(name) for name in PACKAGES},
    }


def write_csv(path: Path, measurements: Sequence[Measurement], device: str = "cpu") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [measurement.row() | environment(device) for measurement in measurements]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def number(value: Any) -> str:
    """Three significant digits, `-` for nothing."""
    if value in (None, ""):
        return "-"
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(row: dict[str, Any]) -> str:
    """One row, of a measurement or of a CSV file, as a line of the table."""
    of = "x" if row["required_of"] == "ratio" else ""
    required = f"{number(row['required'])}{of} ({number(row['aim'])}{of})" if row["required"] else ""
    verdict = {"True": "yes", "False": "NO"}.get(str(row["reached"]), "")
    ratio = f"{float(row['ratio']):.2f}x" if row["ratio"] else ""
    usual = number(row["usual_median"])
    return (
        f"{row['what']:<46}{number(row['ours_median']):>9}{usual:>9} {row['unit']:<9}{ratio:>8}  "
        f"{required:<14}{verdict:<4}{row['conditions']}"
    )


HEADING = (
    f"{'what':<46}{'ours':>9}{'usual':>9} {'unit':<9}{'ratio':>8}  {'needed (aim)':<14}{'met':<4}conditions\n"
    + "-" * 150
)


def report(measurements: Sequence[Measurement], path: Path, device: str = "cpu") -> None:
    """Prints each measurement with its spread and what was checked, and writes the CSV file."""
    for measured in measurements:
        row = measured.row()
        print(line(row))
        for side in ("ours", "usual"):
            spread = getattr(measured, side)
            if spread is not None:
                print(f"    {side}: {number(spread.least)} to {number(spread.most)} {measured.unit}")
        if measured.checked:
            print(f"    checked: {measured.checked}")
    write_csv(path, measurements, device)


def options(description: str, name: str, *, repeats: bool = True, device: bool = True) -> argparse.ArgumentParser:
    """What every benchmark takes, but for what one makes no use of."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description.splitlines()[0])
    if repeats:
        parser.add_argument("--repeats", type=_repeats, default=3, help="times that each side is measured [3]")
    if device:
        parser.add_argument("--device", default="auto", help="auto, or a torch device")
    parser.add_argument("--csv", type=Path, default=Path(f"results/benchmarks/{name}.csv"), help="where the rows go")
    return parser


def _repeats(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: measures nothing; use 1 or more")
    return int(text)
