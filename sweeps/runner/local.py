"""`python -m sweeps.local FILE...`: the runs of W&B sweep files, with no server and no account.

Every run gets the parameters, command line and environment that W&B's agent would give it. train.py itself knows what
is complete, goes on where it stopped and keeps a second process out; its exit code says what has become of the run.
"""

import argparse
import json
import os
import secrets
import shlex
import string
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, Signals
from typing import IO, Literal

from filelock import FileLock, Timeout

from al.arguments import Parser
from al.errors import UserError
from al.storage.files import write_atomically
from al.storage.locks import check_locks
from sweeps.runner.cards import add_workers_option, advice, chosen, free_card, variables_of
from sweeps.runner.command import command_line, environment, parameter_file, threads_each, with_tag
from sweeps.runner.grid import SweepFile, load
from sweeps.runner.machines import add_machine_options, check_machine_options, run_on_machines
from sweeps.runner.options import add_run_options, exit_code_of, overrides
from sweeps.runner.processes import PREEMPTED, Child, Children
from sweeps.runner.runs import Estimate, Run, read_json, runs_of
from sweeps.runner.terminal import Display, duration, print_summaries, remaining
from sweeps.runner.warm import WarmStart

POLL = 0.05
RECHECK = 2.0
"""Seconds after which a run that another process holds is looked at again."""
GRACE = ((0.0, SIGINT), (30.0, SIGTERM), (40.0, SIGKILL))
"""What running jobs are sent when the runner is stopped, and after how many seconds."""
HELD = 3
"""Exit code of train.py: another process has the run."""


@dataclass(eq=False)
class Job:
    """A run and its state. `found`: it was complete already, or another process completed it."""

    run: Run
    variables: dict[str, str] = field(default_factory=dict)
    """What its environment has besides what every run's has."""
    state: Literal["waiting", "running", "done", "found", "failed"] = "waiting"
    process: Child | None = None
    card: str = ""
    """The graphics card that it was started on, where runs are spread over several."""
    log_start: int = 0
    started: float = 0.0
    retry_at: float = 0.0
    seconds: float = 0.0
    """From its start to its end, once it is done."""
    killed: bool = False
    """Whether a signal that is not from here has ended it before: of one such end it is not to blame."""
    error: str = ""

    @cached_property
    def log(self) -> Path:
        return Path(self.run.config.results_dir) / "logs" / f"{self.run.name}.log"

    @cached_property
    def claim(self) -> FileLock:
        """Spares other runners the start of a process that would find the run held."""
        return FileLock(self.log.with_suffix(".lock"), blocking=False)

    def last_error(self) -> str:
        """The last line of this attempt's log that says `error:`, else its last line; "" where the log is gone."""
        try:
            with self.log.open("rb") as log:
                log.seek(self.log_start)
                lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        errors = [line for line in lines if "error:" in line.lower()]
        return (errors or lines or [""])[-1][:500]


class Runner:
    """Runs jobs, `limit` at a time, in order; a job whose baseline is in the list waits for the baseline.

    Args:
        again: start complete runs too, so that train.py mirrors them to W&B.
        threads: of each run; None: its share of the cores.
    """

    def __init__(
        self,
        jobs: list[Job],
        limit: int,
        view: Display,
        estimates: Estimate,
        *,
        again: bool = False,
        threads: int | None = None,
    ):
        self.jobs, self.limit, self.view, self.estimates, self.again = jobs, limit, view, estimates, again
        self.running: list[Job] = []
        self.children = Children(GRACE, groups=True)
        self._by_folder = {job.run.folder: job for job in jobs}
        self._variables = environment(threads or threads_each(limit))
        self._warm: WarmStart | None = None
        self._warm_failed = False

    def count(self, *states: str) -> int:
        return sum(job.state in states for job in self.jobs)

    def seconds_left(self) -> float | None:
        """Estimate of the time to the end; None while no run like these has been done."""
        left = {job: self.estimates.seconds(job.run.config) for job in self.jobs if job.state in ("waiting", "running")}
        known = [seconds for seconds in left.values() if seconds is not None]
        if not known:
            return None
        usual, now, total = sum(known) / len(known), time.monotonic(), 0.0
        for job, seconds in left.items():
            spent = now - job.started if job.state == "running" else 0.0
            total += max(0.0, (usual if seconds is None else seconds) - spent)
        return total / self.limit

    def go(self) -> None:
        """Returns when every job has ended, or all that ran have after a signal."""
        with self.children.heeding_signals(), self.view.following(self):
            self._pass_over()
            while self.running or (self.count("waiting") and not self.children.stop_signal):
                self._collect()
                if self.view.unread:  # as where a terminal is closed: nobody would be told of runs that went on
                    self.children.stop(SIGHUP)
                if not self.children.stop_signal:
                    self._start_free()
                elif self.children.pass_on():
                    self._say_stopping()
                time.sleep(POLL)
        if self._warm is not None:
            self._warm.close()

    def _say_stopping(self) -> None:
        if self.children.stop_signal == SIGUSR1:
            self.view.event(f"preempted: {len(self.running)} running jobs save their state and end")
        else:
            self.view.event(f"stopping {len(self.running)} running jobs; again to kill them")

    def _pass_over(self) -> None:
        for job in self.jobs:
            if job.run.is_complete() and not self.again:
                job.state = "found"
            else:
                self._set_damaged_aside(job)
        if found := self.count("found"):
            self.view.event(f"{found} of {len(self.jobs)} runs are complete already")

    def _set_damaged_aside(self, job: Job) -> None:
        try:
            if aside := job.run.set_damaged_results_aside():
                self.view.event(f"damaged {job.run.name}  its results cannot be read: now {aside}; making it again")
        except OSError as error:
            self._end(job, "failed", f"{error.filename}: cannot be read, nor set aside ({error.strerror}); remove it")

    def _start_free(self) -> None:
        for job in self.jobs:
            if len(self.running) >= self.limit:
                return
            if job.state == "waiting" and job.retry_at <= time.monotonic() and self._may_start(job):
                self._try_start(job)

    def _may_start(self, job: Job) -> bool:
        baseline = self._by_folder.get(job.run.baseline)
        if baseline is None or baseline.state in ("done", "found"):
            return True
        if baseline.state == "failed":
            self._end(job, "failed", f"its baseline {baseline.run.name} failed")
        return False

    def _try_start(self, job: Job) -> None:
        """Starts a job unless another process is at it or has completed it."""
        try:
            job.claim.acquire()
        except Timeout:
            return self._look_again_later(job)
        except OSError as error:  # the others go on
            return self._end(job, "failed", f"{job.claim.lock_file}: cannot be locked ({error.strerror})")
        if job.run.is_held():
            job.claim.release()
            return self._look_again_later(job)
        if job.run.is_complete() and not self.again:
            job.claim.release()
            return self._end(job, "found", "completed by another process")
        return self._start(job)

    def _look_again_later(self, job: Job) -> None:
        if not job.retry_at:
            self.view.event(f"held    {job.run.name}  another process has it; looking again later")
        job.state, job.retry_at = "waiting", time.monotonic() + RECHECK

    def _start(self, job: Job) -> None:
        run, parameters, arguments = job.run, job.log.with_suffix(".yaml"), job.log.with_suffix(".json")
        line = command_line(run.command, run.program, run.parameters, str(arguments))
        variables = {"WANDB_SWEEP_PARAM_PATH": str(parameters.resolve()), "WANDB_RUN_ID": _run_id(run)}
        job.card = free_card((other.card for other in self.running), [run.config.device])
        variables |= with_tag(run.sweep) | variables_of(job.card)
        try:
            write_atomically(parameters, parameter_file(run.parameters))
            if "${args_json_file}" in run.command:
                write_atomically(arguments, json.dumps(dict(run.parameters)))
            with job.log.open("ab") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(line)}\n".encode())
                log.flush()
                job.log_start = log.tell()
                job.process = self._process(run, line, self._variables | variables | job.variables, log)
        except OSError as error:  # the others go on
            job.claim.release()
            return self._end(job, "failed", f"{error.filename or line[0]}: cannot be started ({error.strerror})")
        job.state, job.started = "running", time.monotonic()
        self.running.append(job)
        return self.view.event(f"start   {run.name}{'  (goes on where it stopped)' if run.last_epoch() else ''}")

    def _process(self, run: Run, line: list[str], variables: dict[str, str], log: IO[bytes]) -> Child:
        """A fork of the process that has imported everything, where that can be; else a process started anew."""
        if WarmStart.serves(run.program, run.command) and not self._warm_failed:
            try:
                self._warm = self._warm or WarmStart(self._variables)
                return self.children.adopt(self._warm.start(line[line.index(run.program) :], variables, log))
            except OSError as error:
                self._warm_failed = True
                self.view.event(f"runs start anew, each on its own: {error}")
        return self.children.start(line, variables, log)

    def _collect(self) -> None:
        ended = self.children.ended()
        for job in [job for job in self.running if job.process in ended]:
            self.running.remove(job)
            job.claim.release()
            code = job.process.returncode
            if code == 0:
                self._end(job, "done", self._result(job))
            elif code == PREEMPTED or self.children.stop_signal:
                job.state = "waiting"
            elif code == HELD:
                self._look_again_later(job)
            elif code > 0:
                self._end(job, "failed", job.last_error() or f"exit code {code}")
            elif job.killed:
                self._end(job, "failed", f"killed by {Signals(-code).name}, twice")
            else:
                job.state, job.killed = "waiting", True
                self.view.event(f"killed  {job.run.name}  by {Signals(-code).name}; trying it once more")

    def _result(self, job: Job) -> str:
        """What a run that has ended well came to; its time counts for the estimates."""
        result, job.seconds = job.run.result(), time.monotonic() - job.started
        if result is None:
            return f"no results in {job.run.folder}"
        self.estimates.add(result.config, result.training_time_seconds)
        return f"{result.test['accuracy']:.2f} %, {result.labels_used} labels, {job.seconds:.0f} s"

    def _end(self, job: Job, state: Literal["done", "found", "failed"], text: str) -> None:
        job.state, job.error = state, text if state == "failed" else ""
        ended = f"{self.count('done', 'found', 'failed')}/{len(self.jobs)}"
        word = "FAILED" if state == "failed" else "done"
        left = remaining(self)
        self.view.event(f"{word:7} {job.run.name}  {text}  [{ended}{', ' + left if left else ''}]")


def _run_id(run: Run) -> str:
    """The W&B run that a broken run began, or a new id of W&B's form: an id cannot be used again once deleted."""
    begun = read_json(run.folder / "config.json").get("wandb_run_id")
    return begun or "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def make_jobs(sweeps: Iterable[SweepFile]) -> tuple[list[Job], dict[Path, list[Job]]]:
    """Each run once, though several files ask for it; and the jobs of each file."""
    jobs: dict[Path, Job] = {}
    of_file = {}
    for sweep in sweeps:
        runs = {run.folder: run for run in runs_of(sweep)}
        of_file[sweep.path] = [jobs.setdefault(folder, Job(run)) for folder, run in runs.items()]
    return list(jobs.values()), of_file


def make_log_folders(jobs: Iterable[Job], *, shared: bool = False) -> None:
    """Make them, and see that files can be written and locked there; `shared`: from several machines."""
    for folder in sorted({job.log.parent for job in jobs}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another with --results-dir") from None
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: cannot be written to; choose another with --results-dir")
        check_locks(folder, "--results-dir", shared=shared)


def describe(of_file: dict[Path, list[Job]], estimates: Estimate, limit: int, workers: str) -> None:
    """Prints what is done, what would run and how long that takes, starting nothing.

    Args:
        workers: the option that `limit` was given by.
    """
    open_runs: dict[Path, Run] = {}
    for path, jobs in of_file.items():
        waiting = [job.run for job in jobs if not job.run.is_complete()]
        print(f"{path}: {len(jobs)} runs, {len(jobs) - len(waiting)} complete, {len(waiting)} to run")
        for run in waiting:
            seen = run.last_epoch()
            begun = f"  goes on after epoch {seen.epoch}" if seen else ""
            print(f"  {run.name}{'  held by another process' if run.is_held() else begun}")
        open_runs |= {run.folder: run for run in waiting}
    each = [estimates.seconds(run.config) for run in open_runs.values()]
    known = [seconds for seconds in each if seconds is not None]
    text = "none" if not each else "unknown, as no run like these is complete yet"
    if known:
        text = f"about {duration(sum(known) / limit)} with --{workers} {limit}"
        if left := len(each) - len(known):
            text += f", not counting {left} of them, as no run like those is complete yet"
    print(f"to run: {len(each)}; time: {text}")


def conclude(runner: Runner, of_file: dict[Path, list[Job]]) -> int:
    """Prints the tables and the failures; the exit code."""
    print_summaries((str(path), jobs) for path, jobs in of_file.items())
    for folder in sorted({job.run.config.results_dir for job in runner.jobs}):
        print(f"results: {folder}")
    failed = [job for job in runner.jobs if job.state == "failed"]
    for job in failed:
        print(f"failed: {job.run.name}: {job.error} (log: {job.log})", file=sys.stderr)
    if failed:
        print(f"error: {len(failed)} of {len(runner.jobs)} runs failed; start again to retry them", file=sys.stderr)
    if waiting := runner.count("waiting"):
        print(f"stopped with {waiting} of {len(runner.jobs)} runs to go; start again to go on", file=sys.stderr)
    signum = runner.children.stop_signal
    if signum and (waiting or signum != SIGUSR1):
        return runner.children.exit_code
    return 1 if failed else 0


def _run(options: argparse.Namespace) -> int:
    limit = chosen(options.jobs, "jobs", Path(options.results_dir or "results"))
    if options.sweep_seed < 0:
        raise UserError(f"--sweep-seed {options.sweep_seed}: not a seed; use 0 or more")
    check_machine_options(options)
    jobs, of_file = make_jobs(load(path, overrides(options), options.sweep_seed) for path in options.files)
    estimates = Estimate(job.run.config.results_dir for job in jobs)
    if options.dry_run:
        describe(of_file, estimates, limit, "jobs")
        return 0
    make_log_folders(jobs, shared=options.executor == "slurm")
    if options.executor:
        return run_on_machines(options, jobs, of_file, limit)
    if note := advice(limit):
        print(note, file=sys.stderr)
    runner = Runner(jobs, limit, Display(), estimates)
    runner.go()
    return conclude(runner, of_file)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m sweeps.local", description="Carry out the runs of W&B sweep files without a server."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="sweep files, run in this order")
    add_workers_option(parser, "jobs", "runs")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run and how long it takes")
    parser.add_argument(
        "--sweep-seed", type=int, metavar="N", default=42, help="seed of a random search (method: random; default 42)"
    )
    add_machine_options(parser)
    add_run_options(parser)
    return exit_code_of(_run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
