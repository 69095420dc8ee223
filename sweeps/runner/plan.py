"""`python -m sweeps.plan FILE...`: what the runs of sweep files cost, from runs that are done, starting nothing.

Runs of one configuration in all that says how long a run takes are taken as alike; where there is none, the most
similar ones of the same model and data set, which is said. `--calibrate` does one run first where there is none either.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from al.arguments import Parser
from al.errors import UserError
from al.storage.run_folder import COMPLETE
from sweeps.runner.grid import load
from sweeps.runner.local import Job, Runner, make_log_folders
from sweeps.runner.options import add_run_options, exit_code_of, overrides
from sweeps.runner.runs import Estimate, Run, read_json, runs_of
from sweeps.runner.terminal import Display, duration

HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What the runs of one configuration that are still to do will take on one machine."""

    name: str
    runs: int
    alike: tuple[float, ...]
    """Seconds of the runs done that are most alike; none where nothing is known."""
    similar: bool = False
    """Whether those are runs of another configuration."""

    @property
    def seconds(self) -> float:
        return self.runs * fmean(self.alike) if self.alike else 0.0

    @property
    def spread(self) -> tuple[float, float]:
        """Seconds of all runs if each took as little, and as much, as any that was alike."""
        return (self.runs * min(self.alike), self.runs * max(self.alike)) if self.alike else (0.0, 0.0)


def estimates_by_machine(folders: Iterable[str | Path]) -> dict[str, Estimate]:
    """What is known of each device that runs in these results folders were made on."""
    found: dict[str, Estimate] = {}
    for folder in sorted({Path(folder) for folder in folders}):
        for path in sorted(folder.glob(f"*/split_seed_*/{COMPLETE}")):
            metrics = read_json(path)
            environment = metrics.get("environment")
            device = str(environment.get("device", "unknown")) if isinstance(environment, dict) else "unknown"
            found.setdefault(device, Estimate()).add(metrics.get("config"), metrics.get("training_time_seconds"))
    return found


def costs(runs: Sequence[Run], known: Estimate) -> list[Cost]:
    """Configuration by configuration, in the order of the runs."""
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.folder.parent.name, []).append(run)
    return [
        Cost(name, len(some), tuple(known.alike(some[0].config)), similar=not known.has_done(some[0].config))
        for name, some in cells.items()
    ]


def within(found: Sequence[Cost], seconds: float) -> int:
    """How many runs are over in that time, one after another in their order."""
    done = 0
    for cost in found:
        for _ in range(cost.runs if cost.alike else 0):
            seconds -= fmean(cost.alike)
            if seconds < 0:
                return done
            done += 1
    return done


def describe(machine: str, found: Sequence[Cost], budget: float | None) -> None:
    """Prints a line a configuration, the total, and what of it the budget of seconds takes."""
    print(f"{machine.removesuffix('1 threads') + '1 thread' if machine.endswith(' 1 threads') else machine}:")
    width = max(len(cost.name) for cost in found)
    for cost in found:
        each = f"{duration(fmean(cost.alike))} each" if cost.alike else "unknown: nothing like it has been done"
        if len(cost.alike) > 1:
            each += f" (standard deviation {duration(stdev(cost.alike))} over {len(cost.alike)} runs)"
        each += ", by the most similar runs" if cost.alike and cost.similar else ""
        print(f"  {cost.name:<{width}}  {cost.runs:>3} runs  {each}")
    total = sum(cost.seconds for cost in found)
    least, most = (sum(cost.spread[end] for cost in found) for end in (0, 1))
    known = sum(cost.runs for cost in found if cost.alike)
    print(f"  {known} runs, one after another: {duration(total)} ({duration(least)} to {duration(most)})")
    if unknown := sum(cost.runs for cost in found) - known:
        print(f"  {unknown} runs are not counted; --calibrate does one of each first")
    if budget is not None:
        fits = within(found, budget)
        fraction = f"all {known} fit" if fits == known else f"{fits} of {known} runs fit"
        print(f"  within {duration(budget)}: {fraction}")


def _plan(options: argparse.Namespace) -> int:
    if options.budget_hours is not None and options.budget_hours <= 0:
        raise UserError(f"--budget-hours {options.budget_hours:g}: no time; use more than 0, or leave it out")
    if missing := [folder for folder in options.known if not Path(folder).is_dir()]:
        raise UserError(f"--known {missing[0]}: no such folder; name one that runs wrote their results to")
    sweeps = [load(path, overrides(options)) for path in options.files]
    runs = list({run.folder: run for sweep in sweeps for run in runs_of(sweep)}.values())
    folders = {run.config.results_dir for run in runs}
    if options.calibrate:
        _calibrate(runs, estimates_by_machine([*folders, *options.known]))
    left = [run for run in runs if not run.is_complete()]
    print(f"{len(runs)} runs, {len(runs) - len(left)} complete, {len(left)} to do")
    if not left:
        return 0
    machines = estimates_by_machine([*folders, *options.known])
    if not machines:
        raise UserError(f"{', '.join(sorted(folders))}: no run is done, so nothing is known; use --calibrate")
    for machine, known in sorted(machines.items()):
        describe(machine, costs(left, known), options.budget_hours and HOUR * options.budget_hours)
    return 0


def _calibrate(runs: Sequence[Run], machines: dict[str, Estimate]) -> None:
    """Does the first run of every configuration that nothing is known of on any machine.

    Raises:
        UserError: it failed.
        KeyboardInterrupt: it was stopped.
    """
    for run in runs:
        if any(known.alike(run.config) for known in machines.values()) or run.is_complete():
            continue
        job = Job(run)
        make_log_folders([job])
        Runner([job], 1, Display(), Estimate()).go()
        if job.state == "failed":
            raise UserError(f"{run.name}: the run to calibrate by failed: {job.error} (log: {job.log})")
        if job.state == "waiting":
            raise KeyboardInterrupt
        machines = machines | estimates_by_machine([run.config.results_dir])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m sweeps.plan", description="Estimate what the runs of sweep files cost from runs that are done."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="sweep files")
    parser.add_argument(
        "--budget-hours", type=float, metavar="HOURS", help="say how many of the runs, taken in order, fit in that time"
    )
    parser.add_argument(
        "--known", nargs="+", default=[], metavar="FOLDER", help="results folders of other machines to learn from"
    )
    parser.add_argument("--calibrate", action="store_true", help="do one run first where none like it is done")
    add_run_options(parser)
    return exit_code_of(_plan, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
