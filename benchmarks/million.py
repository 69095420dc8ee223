"""Selection from features in a file: time and memory at 100,000 and a million rows, and the line to ten million.

    python -m benchmarks.million                                  # 1,280 dimensions in float16; takes 2.6 GB of disk
    python -m benchmarks million --strategies=badge,coreset       # the same, with the options of all benchmarks
    python -m benchmarks.million --strategies=margin:batch_noise=power,maxherding:herding_candidates=5000

A strategy may be followed by parameters of `train.py`. Every selection runs in a process of its own. Memory is what
that process holds at most besides pages of files (anonymous memory, looked at every 5 ms), the interpreter and the
libraries in it. What is said of ten million rows is the straight line through the two that were measured: an
extrapolation, not a measurement.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from al.config import RunConfig
from al.strategies import REGISTRY, Picks, Pool
from benchmarks import measuring, selection
from benchmarks.measuring import Measurement, Spread, Target, peak_mib

STRATEGIES = (
    "random",
    "uncertainty",
    "entropy",
    "margin:batch_noise=power",
    "badge",
    "typiclust",
    "typiclust_typical:typiclust_members=2000",
    "maxherding",
    "uherding",
    "coreset",
)
ROWS = (100_000, 1_000_000)
WANTED = 10_000_000
"""Rows that are extrapolated to."""
LOOK_SECONDS = 0.005
"""Between two looks at the memory."""
LIMIT_SECONDS = Target("value", 120, 45)
"""Of typiclust on a million rows of 1,280 dimensions, by the clock."""


class Cost(NamedTuple):
    """What one selection took."""

    processor: float
    """Seconds of all threads together."""
    wall: float
    mib: float
    """Anonymous memory of the process at most."""

    def at(self, rows: int, smaller: "Cost", fewer: int, wanted: int) -> "Cost":
        """The straight line through this cost, of `rows`, and a smaller one, at `wanted` rows."""
        steps = (wanted - rows) / (rows - fewer)
        return Cost(*(more + steps * max(more - less, 0) for more, less in zip(self, smaller)))


@dataclass(frozen=True)
class Way:
    """A strategy and the parameters that it is given."""

    given: str
    """`NAME` or `NAME:PARAMETER=VALUE:...`"""

    @property
    def name(self) -> str:
        return self.given.partition(":")[0]

    @property
    def title(self) -> str:
        """As a reader of the table wants it: `margin, batch_noise=power`."""
        return self.given.replace(":", ", ")

    def select(self, pool: Pool, k: int) -> Picks:
        """Choose k of the pool.

        Raises:
            UserError: no such strategy or parameter, or a value against its rule.
        """
        parameters = dict(part.partition("=")[::2] for part in self.given.split(":")[1:])
        config = RunConfig.from_mapping({"strategy": self.name, **parameters})
        strategy = REGISTRY[self.name]
        return strategy.select(pool, k, np.random.default_rng(0), **config.options_of(strategy))


@contextmanager
def anonymous_mib() -> Iterator[list[float]]:
    """Watch the anonymous memory of this process; the list holds the most that was seen, once the block is left."""
    most, over = [_anonymous()], threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            most[0] = max(most[0], _anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _anonymous() -> float:
    """MiB that are no pages of files; all of the process where the system does not tell them apart."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon"))
    except (OSError, StopIteration):
        return peak_mib()


def measure_here(way: Way, folder: Path, k: int) -> Cost:
    """Select once from the pool in `folder`, whose arrays are all memory-mapped."""
    needs = REGISTRY[way.name].needs
    pool = selection.open_pool(folder, needs, in_file=True)
    with anonymous_mib() as most:
        processor, wall = time.process_time(), time.perf_counter()
        picks = way.select(pool, k)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
    selection.check(picks, pool, k, way.title)
    return Cost(processor, wall, most[0])


def measure(options: argparse.Namespace) -> dict[Way, list[Cost]]:
    """What each way costs at each number of rows."""
    costs: dict[Way, list[Cost]] = {Way(given): [] for given in options.strategies.split(",")}
    names = [way.name for way in costs]
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            folder = Path(scratch)
            selection.write_pool(folder, (rows, options.dimensions), "float16", options.labelled, names)
            for way, found in costs.items():
                arguments = [f"--measure={way.given}", f"--folder={folder}", f"--k={options.k}"]
                found.append(Cost(*selection.in_own_process("million", arguments)))
                processor, wall, mib = found[-1]
                said = f"{processor:,.1f} s of processor time, {wall:,.1f} s, {mib:,.0f} MiB"
                print(f"{way.title}: {rows:,} rows: {said}", file=sys.stderr, flush=True)
    return costs


def table(costs: dict[Way, list[Cost]], rows: Sequence[int], wanted: int = WANTED) -> str:
    """Processor seconds, wall seconds and MiB at each number of rows, and the straight line at `wanted`."""
    sizes = [f"{count:,} rows" for count in rows]
    heads = ["strategy", *sizes, *([f"{wanted:,} rows (extrapolated)"] if len(rows) > 1 else [])]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for way, found in costs.items():
        shown = list(found)
        if len(rows) > 1:
            shown.append(found[-1].at(rows[-1], found[-2], rows[-2], wanted))
        cells = [f"{seconds(cost.processor)} ({seconds(cost.wall)}), {cost.mib:,.0f} MiB" for cost in shown]
        lines.append(f"| `{way.title}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def measurements(costs: dict[Way, list[Cost]], options: argparse.Namespace) -> list[Measurement]:
    """One row for each way and number of rows, and one for what is extrapolated."""
    found = []
    for way, measured in costs.items():
        rows, shown = list(options.rows), list(measured)
        if len(rows) > 1:
            shown.append(measured[-1].at(rows[-1], measured[-2], rows[-2], WANTED))
            rows.append(WANTED)
        for number, (count, cost) in enumerate(zip(rows, shown)):
            bounded = way.given == "typiclust" and count == ROWS[1] and options.dimensions == 1280
            beyond = number == len(measured)
            found.append(
                Measurement(
                    f"{way.title} from {count:,} rows",
                    "s",
                    Spread.of([cost.wall]),
                    target=LIMIT_SECONDS if bounded else None,
                    conditions=f"{'EXTRAPOLATED ' if beyond else ''}x {options.dimensions:,} float16 in a file, "
                    f"k = {options.k}: {cost.processor:,.1f} s of processor time, {cost.mib:,.0f} MiB",
                    extrapolated=beyond,
                    peak_mib=cost.mib,
                )
            )
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.million", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="NAME or NAME:PARAMETER=VALUE, by commas")
    parser.add_argument("--rows", type=_counts, default=ROWS, help="numbers of rows by commas, ascending")
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--k", type=int, default=250, help="rows that are picked")
    parser.add_argument("--labelled", type=int, default=2500)
    parser.add_argument("--scratch", type=Path, help="folder for the pools, removed afterwards; unset: the system's")
    parser.add_argument("--csv", type=Path, default=Path("results/benchmarks/million.csv"), help="where the rows go")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for given in () if options.measure else options.strategies.split(","):
        if Way(given).name not in REGISTRY:
            parser.error(f"--strategies: {given}: no such strategy; use of {', '.join(REGISTRY)}")
    return options


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(float(part)) for part in text.split(","))
    if list(counts) != sorted(set(counts)) or counts[0] < 1:
        raise argparse.ArgumentTypeError("numbers of rows from 1 up, ascending")
    return counts


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.measure:
        print(json.dumps(measure_here(Way(options.measure), options.folder, options.k)))
        return
    costs = measure(options)
    print(
        f"k = {options.k} of rows x {options.dimensions:,} float16 in a file, {options.labelled:,} labelled: "
        "seconds of processor time (by the clock), anonymous memory at most\n\n" + table(costs, options.rows)
    )
    measuring.write_csv(options.csv, measurements(costs, options))


if __name__ == "__main__":
    main(sys.argv[1:])
