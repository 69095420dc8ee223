"""How long a run takes, from two that are carried out and kept; and how many seeds that leaves time for."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from al.errors import UserError
from al.storage.files import write_json
from sweeps.compare.choosing import BASIC, FEWEST, Choice, Reason
from sweeps.runner.command import threads_each
from sweeps.runner.grid import SweepFile, load_content
from sweeps.runner.local import Job, Runner, make_jobs, make_log_folders
from sweeps.runner.runs import Estimate
from sweeps.runner.terminal import Display, duration

NAME = "pace.json"
SEEDS = (12, 34, 56, 78, 90, 21, 43, 65, 87, 98)
"""Split seeds, in the order in which they are taken."""
ENOUGH = 3
"""Seeds below which nothing can be proved."""
START = 2.0
"""Seconds that a run takes to start, where they were not measured."""


class Stopped(Exception):
    """A run has failed, or a signal has stopped it; holds the exit code that follows."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Pace:
    """Seconds that runs take."""

    first: float
    """The first run, in which images are decoded and embeddings computed."""
    run: float
    """One run after that, of the strategy that time is reckoned by."""


@dataclass(frozen=True)
class Plan:
    """What will be run, and how long that takes."""

    choice: Choice
    """With the strategies that there is time for."""
    seeds: tuple[int, ...]
    seconds: float
    """Of all runs together, the first two included."""
    reasons: tuple[Reason, ...]
    """For the number of seeds, and for strategies that were left out."""


def measure_pace(content: dict[str, object], choice: Choice, path: Path, limit: int) -> Pace:
    """Carry out the first run and another one, unless that has been done: they are kept as results.

    Args:
        content: the sweep file's.
        path: of the sweep file; the pace is remembered beside it.
        limit: runs at a time; each gets its share of the cores here too.

    Raises:
        Stopped: a run has failed, or was stopped.
    """
    memory = path.with_name(NAME)
    sweeps = [_one_run(content, path, strategy) for strategy in (BASIC[0], choice.gauge)]
    key = {"runs": [sweep.configs[0].digest() for sweep in sweeps], "jobs": limit}
    if (known := _remembered(memory, key)) is not None:
        return known
    pace = Pace(*_seconds(sweeps, limit))
    write_json(memory, key | asdict(pace))
    return pace


def _remembered(memory: Path, key: dict[str, object]) -> Pace | None:
    try:
        found = json.loads(memory.read_bytes())
        return Pace(found["first"], found["run"]) if all(found[name] == value for name, value in key.items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _one_run(content: dict[str, object], path: Path, strategy: str) -> SweepFile:
    return load_content(path, content, {"strategy": strategy, "split_seed": SEEDS[0]})


def _seconds(sweeps: Sequence[SweepFile], limit: int) -> Iterator[float]:
    """From start to end, of runs that are carried out now, in turn; of one that was complete already nearly so."""
    jobs, _ = make_jobs(sweeps)
    run_jobs(jobs, limit=1, threads=threads_each(limit))
    for job in jobs:
        result = job.run.result()
        yield job.seconds if job.state == "done" or result is None else result.training_time_seconds + START


def run_jobs(jobs: list[Job], limit: int, threads: int | None = None) -> None:
    """Run the jobs, `limit` at a time.

    Args:
        threads: of each run; None: its share of the cores.

    Raises:
        Stopped: one has failed, or a signal has stopped them.
    """
    make_log_folders(jobs)
    runner = Runner(jobs, limit, Display(), Estimate({job.run.config.results_dir for job in jobs}), threads=threads)
    runner.go()
    failed = [job for job in jobs if job.state == "failed"]
    if runner.children.stop_signal:
        raise Stopped(runner.children.exit_code, "stopped: give the same command again to go on")
    if failed:
        raise Stopped(1, f"error: {failed[0].run.name}: {failed[0].error} (log: {failed[0].log})")


def plan(choice: Choice, pace: Pace, minutes: float, limit: int, seeds: int | None = None) -> Plan:
    """As many seeds as fit into the time; where fewer than three do, fewer strategies, but for those asked for.

    Args:
        limit: runs at a time.
        seeds: how many the user has asked for.
    """
    seconds = 60 * minutes - pace.first - pace.run
    names = list(choice.strategies)
    if seeds is None and not choice.asked:
        while len(names) > FEWEST and _count(seconds, pace, len(names), limit) < ENOUGH:
            names.pop()
    count = seeds or _count(seconds, pace, len(names), limit)
    dropped = choice.strategies[len(names) :]
    why = (*_dropped_told(dropped, minutes), _seeds_told(count, pace, minutes, len(names), limit, asked=bool(seeds)))
    whole = pace.first + pace.run + max(count * len(names) - 2, 0) * pace.run / limit
    kept = [reason for reason in choice.reasons if reason.what != "strategy" or reason.chosen in names]
    chosen = replace(choice, strategies=tuple(names), reasons=(*kept, *why))
    return Plan(chosen, seeds_of(count), whole, why)


def seeds_of(count: int) -> tuple[int, ...]:
    """The first `count` split seeds: more only add to fewer, so that runs of before count."""
    return (*SEEDS, *range(101, 101 + count))[:count]


def _count(seconds: float, pace: Pace, strategies: int, limit: int) -> int:
    """Seeds that fit into the seconds left after the first two runs: one at least."""
    fitting = (seconds * limit / pace.run + 2) / strategies
    return int(min(max(fitting, 1), len(SEEDS)))


def _dropped_told(names: Sequence[str], minutes: float) -> list[Reason]:
    why = f"{minutes:g} minutes are too few for {ENOUGH} seeds of all strategies; --strategies names those to run"
    return [Reason("left out", ", ".join(names), why)] if names else []


def _seeds_told(count: int, pace: Pace, minutes: float, strategies: int, limit: int, *, asked: bool) -> Reason:
    if asked:
        return Reason("seeds", str(count), "as you asked")
    if count < ENOUGH:
        needed = math.ceil((pace.first + pace.run + (ENOUGH * strategies - 2) * pace.run / limit) / 60)
        why = (
            f"no more fit into {minutes:g} minutes; the fewest that can prove anything, {ENOUGH}, take {needed} minutes"
        )
    elif count == len(SEEDS):
        why = f"more would fit into {minutes:g} minutes; --seeds=N takes more, if ten leave something open"
    else:
        why = f"as many as fit into {minutes:g} minutes at {duration(pace.run)} a run"
    return Reason("seeds", str(count), why)


def check_time(minutes: float, seeds: int | None) -> None:
    """Raises UserError for a time or a number of seeds that is none."""
    if not 0 < minutes < float("inf"):
        raise UserError(f"--minutes={minutes:g}: no time; use a number above 0, for example 30")
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds={seeds}: runs nothing; use 1 or more")
