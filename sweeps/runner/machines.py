"""The runs of sweep files on many machines without a W&B server: jobs that submitit starts, on Slurm or here.

Every job is `python -m sweeps.local` on the same files and the same shared results folder: it takes the next run that
nobody has, so there is nobody to hand runs out. Before a job's time is up its runs save their state, and the job is put
back into the queue.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from al.errors import UserError
from sweeps.runner.terminal import print_summaries

if TYPE_CHECKING:
    from submitit import Executor
    from submitit import Job as Submitted
    from submitit.helpers import DelayedSubmission

    from sweeps.runner.local import Job

EXECUTORS = {"slurm": "slurm", "submitit-local": "local"}
"""Values of --executor, and submitit's names for them."""
POLL = 0.5
GRACE = 90
"""Seconds before a job's end at which its runs are told to save their state."""
OFTEN = 1000
"""Times that a job may be put back into the queue; submitit's own controller on this machine does it six times."""
EXTRA = "pip install submitit"
REPORT = 10.0
"""Seconds between two looks at how many runs are complete."""


MACHINES, MINUTES = 1, 240.0
"""Jobs, and minutes of each, where nothing is given."""


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the local runner that start jobs elsewhere."""
    group = parser.add_argument_group("many machines", "submitit starts jobs that share the results folder")
    group.add_argument("--executor", choices=EXECUTORS, help="where the jobs go; submitit-local: this machine")
    group.add_argument(
        "--machines", type=int, default=MACHINES, metavar="N",
        help=f"number of jobs; each does --jobs runs at a time (default {MACHINES})",
    )  # fmt: skip
    group.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="N",
        help=f"time of a job before it is queued again (default {MINUTES:g})",
    )  # fmt: skip
    group.add_argument(
        "--machine", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="submitit's parameters of a job, such as slurm_partition=gpu gpus_per_node=1 cpus_per_task=8",
    )  # fmt: skip


def check_machine_options(options: argparse.Namespace) -> None:
    """Raises UserError where jobs would have no time or number, or where there is no executor to give them to."""
    given = f"--machines {options.machines} --minutes {options.minutes:g}"
    if options.machines < 1 or not options.minutes > 0:
        raise UserError(f"{given}: both must be more than nothing; use 1 or more")
    if not options.executor and (options.machine or (options.machines, options.minutes) != (MACHINES, MINUTES)):
        said = f"--machine {options.machine[0]}" if options.machine else given
        raise UserError(f"{said}: no machines without --executor; add --executor=slurm, or leave it out")


def run_on_machines(
    options: argparse.Namespace, jobs: Sequence["Job"], of_file: Mapping[Path, Sequence["Job"]], limit: int
) -> int:
    """Starts jobs on other machines, waits for them and says what is complete; the exit code."""
    logs = jobs[0].log.parent / "machines"
    executor = new_executor(options.executor, logs, options.minutes, parse_settings(options.machine))
    arguments = [*options.files, "--jobs", str(limit), "--sweep-seed", str(options.sweep_seed)]
    arguments += ["--results-dir", options.results_dir] if options.results_dir else []
    arguments += ["--set", *options.set] if options.set else []
    started = submit(executor, arguments, options.machines, options.minutes)
    print(f"{len(started)} jobs for {len(jobs)} runs: {', '.join(job.job_id for job in started)}; logs in {logs}")
    try:
        complaints = follow(started, lambda: _complete(jobs))
    except KeyboardInterrupt:
        if options.executor == "slurm":
            print("the jobs go on; scancel ends them, and the same command follows what is left", file=sys.stderr)
        else:
            for job in started:
                job.cancel()
        return 130
    print_summaries((str(path), members) for path, members in of_file.items())
    for folder in sorted({job.run.config.results_dir for job in jobs}):
        print(f"results: {folder}")
    print(_complete(jobs))
    for line in complaints:
        print(line, file=sys.stderr)
    if left := [job.run for job in jobs if not job.run.is_complete()]:
        said = f"{len(left)} of {len(jobs)} runs are not complete, {left[0].name} first"
        print(f"error: {said}; start again to go on", file=sys.stderr)
    return 1 if left else 0


def _complete(jobs: Sequence["Job"]) -> str:
    return f"{sum(job.run.is_complete() for job in jobs)} of {len(jobs)} runs are complete"


@dataclass(frozen=True)
class Machine:
    """One job: a local runner in a process of its own. submitit pickles it, and calls it on the machine."""

    command: tuple[str, ...]
    folder: str
    """The project's, where the command is started."""
    grace: int = GRACE
    """Seconds from the signal to the end of the job."""

    def __call__(self) -> int:
        """The runner's exit code."""
        process = subprocess.Popen(self.command, cwd=self.folder)
        _RUNNING.append(process.pid)
        while not _is_over(process.pid):
            time.sleep(POLL)
        return process.wait()

    def checkpoint(self) -> "DelayedSubmission":
        """What is to be done once there is time again: the same; runs go on where they were. submitit calls it."""
        from submitit.helpers import DelayedSubmission

        last = time.monotonic() + 0.8 * self.grace
        for pid in _RUNNING:
            os.kill(pid, signal.SIGUSR1)
            while not _is_over(pid) and time.monotonic() < last:
                time.sleep(POLL)
            if not _is_over(pid):  # its runs go on from their last checkpoint
                os.kill(pid, signal.SIGKILL)
        return DelayedSubmission(Machine(self.command, self.folder, self.grace))


_RUNNING: list[int] = []
"""The runner of the job that this process is."""


def _is_over(pid: int) -> bool:
    """Without collecting its exit code, as this is asked in a signal handler too."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def grace_of(minutes: float) -> int:
    """Seconds before the end of a job of so many minutes at which it gets the signal."""
    return max(1, min(GRACE, int(60 * minutes / 3)))


def new_executor(name: str, folder: Path, minutes: float, settings: dict[str, str]) -> "Executor":
    """submitit's executor of that name; its pickles and logs go to `folder`.

    Args:
        minutes: a job may take before it is put back into the queue.
        settings: more of submitit's parameters, such as `slurm_partition`.

    Raises:
        UserError: submitit or Slurm is not here, or does not know a parameter.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(f"--executor={name}: needs submitit; {EXTRA}") from None
    grace = grace_of(minutes)
    numbers = {key: int(value) if value.isdecimal() else value for key, value in settings.items()}
    try:
        if EXECUTORS[name] == "local":
            executor = submitit.LocalExecutor(folder=folder / "%j", max_num_timeout=OFTEN)
            executor.update_parameters(timeout_min=minutes, signal_delay_s=grace, **numbers)
        else:
            executor = submitit.AutoExecutor(folder / "%j", cluster=EXECUTORS[name], slurm_max_num_timeout=OFTEN)
            whole = max(1, round(minutes))
            executor.update_parameters(timeout_min=whole, slurm_signal_delay_s=grace, name="sweep", **numbers)
    except RuntimeError:
        raise UserError(
            f"--executor={name}: no srun here, so this machine is in no Slurm cluster; start it where sbatch works, "
            "or use --executor=submitit-local"
        ) from None
    except (NameError, ValueError, TypeError, AssertionError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"--executor={name}: {said}; --machine takes submitit's parameters") from None
    return executor


def parse_settings(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` by name.

    Raises:
        UserError: one is not of that form.
    """
    settings = dict(entry.partition("=")[::2] for entry in given)
    for name, value in settings.items():
        if not name or not value:
            raise UserError(f"--machine {name}: not NAME=VALUE; write for example slurm_partition=gpu")
    return settings


def submit(executor: "Executor", arguments: Sequence[str], machines: int, minutes: float) -> "list[Submitted]":
    """Starts so many jobs, each a local runner with these arguments."""
    job = Machine((sys.executable, "-m", "sweeps.local", *arguments), str(Path.cwd()), grace_of(minutes))
    return [executor.submit(job) for _ in range(machines)]


def follow(jobs: "list[Submitted]", complete: Callable[[], str]) -> list[str]:
    """Waits until all have ended; what became of those that did not end well, one line each.

    Args:
        complete: says how far the runs are; printed whenever that changes.
    """
    ended: set[str] = set()
    said, next_look = "", 0.0
    while len(ended) < len(jobs):
        if time.monotonic() >= next_look:
            if (now := complete()) != said:
                print(now, flush=True)
            said, next_look = now, time.monotonic() + REPORT
        for job in jobs:
            if job.job_id not in ended and job.done():
                ended.add(job.job_id)
                print(f"job {job.job_id} has ended: {len(ended)} of {len(jobs)}", flush=True)
        time.sleep(POLL)
    return [line for job in jobs if (line := _complaint(job))]


def _complaint(job: "Submitted") -> str:
    error = job.exception()
    if error is None:
        return ""
    last = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return f"job {job.job_id}: {last} (log: {job.paths.stderr})"
