"""`python -m sweeps.runner.local FILE...`: the runs of W&B sweep files, with no server and no account.

Every run gets the parameters, command line and environment that W&B's agent would give it. Runs that are complete are
passed over, broken ones go on where they stopped, and several runners on one results folder share the work.
"""

import argparse
import os
import secrets
import shlex
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from al.errors import UserError
from al.storage.files import write_atomically
from sweeps.runner import terminal as display
from sweeps.runner.command import command_line, environment, parameter_file, threads_each
from sweeps.runner.grid import SweepFile, load, parse_overrides
from sweeps.runner.runs import Estimate, Run, read_json, runs_of, try_lock

POLL = 0.05
RECHECK = 2.0
"""Seconds after which a run that another process holds is looked at again."""
GRACE = ((0.0, signal.SIGINT), (30.0, signal.SIGTERM), (40.0, signal.SIGKILL))
"""What running jobs are sent when the runner is stopped, and after how many seconds."""
HELD, PREEMPTED = 3, 75
"""Exit codes of train.py: another process has the run; checkpointed on SIGUSR1, start again to go on."""


@dataclass(eq=False)
class Job:
    """A run and what has become of it. `found`: it was complete already, or another runner completed it."""

    run: Run
    state: Literal["waiting", "running", "done", "found", "failed"] = "waiting"
    process: subprocess.Popen | None = None
    log_handle: int = -1
    log_start: int = 0
    fresh: bool = True
    started: float = 0.0
    retry_at: float = 0.0
    estimate: float | None = None
    error: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return Path(self.run.config.results_dir) / "logs" / f"{self.run.name}.log"


@dataclass(eq=False)
class Runner:
    """Runs jobs, `limit` at a time, in order; one that is to beat a baseline of the list waits for that baseline."""

    jobs: list[Job]
    limit: int
    view: display.PlainDisplay | display.LiveDisplay
    estimates: Estimate
    again: bool = False
    """Start complete runs too, so that train.py mirrors them to W&B."""
    running: list[Job] = field(default_factory=list)
    stop_signal: int | None = None
    stop_time: float = 0.0
    preempted: bool = False
    _checkpointing: bool = False
    _sent: int = 0

    def __post_init__(self) -> None:
        self._by_folder = {job.run.folder: job for job in self.jobs}
        self._variables = environment(threads_each(self.limit))
        self._estimate_all()

    def count(self, *states: str) -> int:
        return sum(job.state in states for job in self.jobs)

    def go(self) -> None:
        """Returns when every job has ended, or all that ran have after a signal."""
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            self._pass_over()
            while self.running or (self.count("waiting") and not self._stopping):
                self._collect()
                if self._stopping:
                    self._stop_running()
                else:
                    self._start_free()
                self.view.update(self)
                time.sleep(POLL)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def seconds_left(self) -> float | None:
        """Estimate of the time to the end; None while no run like these has been done."""
        known = [job.estimate for job in self.jobs if job.estimate is not None]
        if not known:
            return None
        usual, now = sum(known) / len(known), time.monotonic()
        left = {job: job.estimate if job.estimate is not None else usual for job in self.jobs}
        waiting = sum(left[job] for job in self.jobs if job.state == "waiting")
        return (waiting + sum(max(0.0, left[job] - (now - job.started)) for job in self.running)) / self.limit

    @property
    def _stopping(self) -> bool:
        return self.stop_signal is not None or self.preempted

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.preempted = True
        elif self.stop_signal is None:
            self.stop_signal, self.stop_time = number, time.monotonic()
        else:
            self.stop_time = -float("inf")

    def _stop_running(self) -> None:
        """Sends the jobs the next stronger signal once its time has come; all of them after a second Ctrl-C."""
        if self.preempted and not self._checkpointing:
            self._checkpointing = True
            for job in self.running:
                _send(job, signal.SIGUSR1, group=False)
            self.view.event(f"preempted: {len(self.running)} running jobs save their state and end")
        waited = time.monotonic() - self.stop_time
        while self.stop_signal is not None and self._sent < len(GRACE) and waited >= GRACE[self._sent][0]:
            for job in self.running:
                _send(job, GRACE[self._sent][1])
            if self._sent == 0:
                self.view.event(f"stopping {len(self.running)} running jobs; again to kill them")
            self._sent += 1

    def _pass_over(self) -> None:
        for job in self.jobs:
            if job.run.is_complete() and not self.again:
                job.state = "found"
        if found := self.count("found"):
            self.view.event(f"{found} of {len(self.jobs)} runs are complete already")

    def _start_free(self) -> None:
        now = time.monotonic()
        for job in self.jobs:
            if len(self.running) >= self.limit:
                return
            if job.state == "waiting" and job.retry_at <= now and self._may_start(job):
                self._try_start(job)

    def _may_start(self, job: Job) -> bool:
        baseline = self._by_folder.get(job.run.baseline)
        if baseline is None or baseline.state in ("done", "found"):
            return True
        if baseline.state == "failed":
            self._end(job, "failed", f"its baseline {baseline.run.name} failed")
        return False

    def _try_start(self, job: Job) -> None:
        """Starts a job unless another process is at it or has completed it.

        The claim is a lock on the log, which the child inherits: it lasts as long as the runner or the child.
        """
        job.log_handle = os.open(job.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if not try_lock(job.log_handle) or job.run.is_held():
            self._release(job)
            if not job.retry_at:
                self.view.event(f"held    {job.run.name}  another process has it; looking again later")
            job.retry_at = time.monotonic() + RECHECK
        elif job.run.is_complete() and not self.again:
            self._release(job)
            self._end(job, "found")
        else:
            self._start(job)

    def _start(self, job: Job) -> None:
        parameters = job.log.with_suffix(".yaml")
        write_atomically(parameters, parameter_file(job.run.parameters))
        arguments = job.log.with_suffix(".json")
        line = command_line(job.run.command, job.run.program, job.run.parameters, str(arguments))
        if "${args_json_file}" in job.run.command:
            import json

            write_atomically(arguments, json.dumps(dict(job.run.parameters)))
        os.write(job.log_handle, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(line)}\n".encode())
        job.log_start = os.lseek(job.log_handle, 0, os.SEEK_END)
        job.fresh, job.started = not job.run.last_epoch(), time.monotonic()
        variables = {"WANDB_SWEEP_PARAM_PATH": str(parameters.resolve()), "WANDB_RUN_ID": _run_id(job.run)}
        variables |= job.variables
        try:
            job.process = subprocess.Popen(
                line,
                env=self._variables | variables,
                stdin=subprocess.DEVNULL,
                stdout=job.log_handle,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            self._release(job)
            return self._end(job, "failed", f"{line[0]}: cannot be started ({error.strerror})")
        job.state = "running"
        self.running.append(job)
        return self.view.event(f"start   {job.run.name}{'' if job.fresh else '  (goes on where it stopped)'}")

    def _collect(self) -> None:
        for job in list(self.running):
            code = job.process.poll()
            if code is None:
                continue
            self.running.remove(job)
            error = _last_error(job)
            self._release(job)
            if code == 0 and job.run.is_complete():
                self._end(job, "done")
            elif code in (HELD, PREEMPTED) or self._stopping:
                job.state, job.retry_at = "waiting", time.monotonic() + RECHECK
            elif code == 0:
                self._end(job, "failed", f"ended without results in {job.run.folder}")
            else:
                self._end(job, "failed", error or f"exit code {code}")

    def _end(self, job: Job, state: Literal["done", "found", "failed"], error: str = "") -> None:
        job.state, job.error = state, error
        if state == "done":
            metrics = job.run.metrics()
            wall = time.monotonic() - job.started
            self.estimates.add(job.run.config.model_dump(), wall if job.fresh else metrics.get("training_time_seconds"))
            self._estimate_all()
            text = f"{metrics['test_metrics']['accuracy']:.2f} %, {metrics['labels_used']} labels, {wall:.0f} s"
        else:
            text = error or "completed by another process"
        ended = self.count("done", "found", "failed")
        word = {"done": "done", "found": "done", "failed": "FAILED"}[state]
        left = display.remaining(self)
        self.view.event(f"{word:7} {job.run.name}  {text}  [{ended}/{len(self.jobs)}{', ' + left if left else ''}]")

    def _estimate_all(self) -> None:
        for job in self.jobs:
            if job.state in ("waiting", "running"):
                job.estimate = self.estimates.seconds(job.run.config)

    @staticmethod
    def _release(job: Job) -> None:
        """Gives the claim up, also where a process that the run left behind still has the log open."""
        import fcntl

        fcntl.flock(job.log_handle, fcntl.LOCK_UN)
        os.close(job.log_handle)
        job.log_handle = -1


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def _send(job: Job, number: int, *, group: bool = True) -> None:
    """To the job's whole process group, or to its leader alone: W&B's helper process does not survive a SIGUSR1."""
    try:
        if group:
            os.killpg(job.process.pid, number)
        else:
            os.kill(job.process.pid, number)
    except ProcessLookupError:
        pass


def _run_id(run: Run) -> str:
    """The W&B run that a broken run began, or a new id of W&B's form: an id cannot be used again once deleted."""
    begun = read_json(run.folder / "config.json").get("wandb_run_id")
    return begun or "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def _last_error(job: Job) -> str:
    """The last line of this attempt's log that says `error:`, else its last line."""
    with job.log.open("rb") as log:
        log.seek(job.log_start)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    return (errors or lines or [""])[-1][:500]


def _jobs(sweeps: Iterable[SweepFile]) -> tuple[list[Job], dict[Path, list[Job]]]:
    """Each run once, though several files ask for it; and the jobs of each file."""
    jobs: dict[Path, Job] = {}
    of_file = {}
    for sweep in sweeps:
        runs = {run.folder: run for run in runs_of(sweep)}
        of_file[sweep.path] = [jobs.setdefault(folder, Job(run)) for folder, run in runs.items()]
    return list(jobs.values()), of_file


def _make_log_folders(jobs: Iterable[Job]) -> None:
    for folder in sorted({job.log.parent for job in jobs}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another with --results-dir") from None
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: cannot be written to; choose another with --results-dir")


def describe(of_file: dict[Path, list[Job]], estimates: Estimate, limit: int) -> None:
    """Prints what is done, what would run and how long that takes, starting nothing."""
    open_runs: dict[Path, Run] = {}
    for path, jobs in of_file.items():
        waiting = [job.run for job in jobs if not job.run.is_complete()]
        print(f"{path}: {len(jobs)} runs, {len(jobs) - len(waiting)} complete, {len(waiting)} to run")
        for run in waiting:
            epoch = run.last_epoch().get("epoch")
            held = "  held by another process" if run.is_held() else f"  goes on after epoch {epoch}" if epoch else ""
            print(f"  {run.name}{held}")
        open_runs |= {run.folder: run for run in waiting}
    seconds, unknown = estimates.total(run.config for run in open_runs.values())
    text = f"about {display.duration(seconds / limit)} with --jobs {limit}" if unknown < len(open_runs) else "unknown"
    missing = f"; {unknown} runs are unlike any that is done and not counted" if unknown else ""
    print(f"to run: {len(open_runs)}; time: {text if open_runs else 'none'}{missing}")


def _conclude(runner: Runner, of_file: dict[Path, list[Job]]) -> int:
    """Prints the tables and the failures; the exit code."""
    display.print_tables(display.summary(str(path), jobs) for path, jobs in of_file.items())
    for folder in sorted({job.run.config.results_dir for job in runner.jobs}):
        print(f"results: {folder}")
    failed = [job for job in runner.jobs if job.state == "failed"]
    for job in failed:
        print(f"failed: {job.run.name}: {job.error} (log: {job.log})", file=sys.stderr)
    if failed:
        print(f"error: {len(failed)} of {len(runner.jobs)} runs failed; start again to retry them", file=sys.stderr)
    if waiting := runner.count("waiting"):
        print(f"stopped with {waiting} of {len(runner.jobs)} runs to go; start again to go on", file=sys.stderr)
    if runner.stop_signal:
        return 128 + runner.stop_signal
    if runner.preempted and waiting:
        return PREEMPTED
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps.runner.local", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="sweep files, run in this order")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores (default 1)")
    parser.add_argument("--dry-run", action="store_true", help="say what would run and how long it takes, and stop")
    parser.add_argument("--results-dir", help="folder that gets the results (default: the files', or results)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="parameters for every run"
    )
    parser.add_argument("--sweep-seed", type=int, default=42, help="of the draws of method: random (default 42)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.jobs < 1:
            raise UserError(f"--jobs {options.jobs}: runs nothing; use 1 or more")
        overrides: dict[str, Any] = parse_overrides(options.set)
        if options.results_dir:
            overrides["results_dir"] = options.results_dir
        jobs, of_file = _jobs(load(path, overrides, options.sweep_seed) for path in options.files)
        estimates = Estimate(job.run.config.results_dir for job in jobs)
        if options.dry_run:
            describe(of_file, estimates, options.jobs)
            return 0
        _make_log_folders(jobs)
        with display.make_display() as view:
            runner = Runner(jobs, options.jobs, view, estimates)
            runner.go()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return _conclude(runner, of_file)


if __name__ == "__main__":
    sys.exit(main())
