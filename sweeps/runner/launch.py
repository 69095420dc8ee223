"""`python -m sweeps.launch FILE... --agents N`: sweeps on W&B, worked on by agents of this machine.

Creates each file's sweep, or finds the one it created before, starts agents, and looks at the runs' states itself,
because an agent exits 0 even when every run failed. Files are worked on in order, so a file of baselines is finished
before the strategies that are to beat them start. Given again, it retries what failed and goes on with what is left.
Other machines join with `--join ENTITY/PROJECT/SWEEP_ID`, or with plain `wandb agent`.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

from al.arguments import Parser
from al.config import RunConfig
from al.errors import UserError
from al.storage.files import write_atomically
from al.tracking.server import PROJECT, base_url
from sweeps.runner.cards import add_workers_option, advice, chosen, free_card, variables_of
from sweeps.runner.command import environment, threads_each, with_tag
from sweeps.runner.grid import SweepFile, load, load_content
from sweeps.runner.local import Job, Runner, describe, make_jobs, make_log_folders
from sweeps.runner.options import add_run_options, exit_code_of, overrides
from sweeps.runner.processes import Children
from sweeps.runner.runs import Estimate, read_json, runs_of
from sweeps.runner.server import need_server
from sweeps.runner.terminal import Display

POLL = 5.0
"""Seconds between two looks at the sweep's runs."""
TICK = 0.1
FAILURES_IN_A_ROW = 3
PATIENCE = 20
"""Looks in a row that the server may leave unanswered when there is no agent to wait for."""
BROKEN = ("failed", "crashed", "killed")
ACTIVE = ("running", "pending", "preempting", "preempted")
GRACE = ((0.0, SIGINT), (30.0, SIGINT), (60.0, SIGINT), (90.0, SIGKILL))
"""What agents are sent: the first SIGINT stops them and their runs, the second terminates a run, the third kills it."""


@dataclass(frozen=True)
class ServerRun:
    name: str
    state: str
    url: str
    config: Mapping[str, Any]

    def digest(self) -> str | None:
        """From its parameters: a run that failed early has logged no digest."""
        try:
            return RunConfig.from_mapping(
                {k: v for k, v in self.config.items() if k in RunConfig.model_fields}
            ).digest()
        except UserError:
            return None


@dataclass(eq=False)
class Sweep:
    """A sweep on the server: `path` is entity/project/id, `file` what it was made from."""

    path: str
    file: SweepFile

    @cached_property
    def url(self) -> str:
        return str(_api().sweep(self.path).url)

    @property
    def broken(self) -> tuple[str, ...]:
        """States of runs to try again; where W&B ends runs early, one that is killed has been dropped for good."""
        return tuple(state for state in BROKEN if state != "killed" or not self.file.content.get("early_terminate"))

    def exists(self) -> bool:
        with server_errors():
            try:
                return bool(self.state())
            except Exception as error:  # the library's class for this has changed with its versions
                if "find sweep" not in str(error):
                    raise
                return False

    def state(self) -> str:
        return str(_api().sweep(self.path).state).upper()

    def runs(self) -> list[ServerRun]:
        project, _, name = self.path.rpartition("/")
        listed = _api().runs(project, filters={"sweep": name}, per_page=200)
        return [ServerRun(run.id, str(run.state).lower(), run.url, run.config) for run in listed]


def _api() -> Any:
    import wandb

    return wandb.Api(timeout=30)


@contextlib.contextmanager
def server_errors() -> Iterator[None]:
    """What W&B's library raises as one line."""
    import wandb

    try:
        yield
    except (wandb.errors.Error, ValueError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"W&B: {text[0]}; see {base_url()}, or run without it: python -m sweeps.local") from None


def find_or_create(file: SweepFile, project: str, entity: str | None, memory: Path, *, new: bool) -> Sweep:
    """The sweep that this file, with these overrides, has in this project; remembered in `memory`."""
    project, entity = file.content.get("project") or project, file.content.get("entity") or entity
    with server_errors():
        entity = entity or _api().default_entity
    identity = json.dumps([file.content, base_url(), entity, project], sort_keys=True)
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    known = read_json(memory)
    if not new and key in known:
        sweep = Sweep(known[key]["sweep"], file)
        if sweep.exists():
            return sweep
        print(f"{file.name}: {sweep.path} is not on the server any more")
    sweep = Sweep(_create(file, project, entity), file)
    memory.parent.mkdir(parents=True, exist_ok=True)
    known[key] = {"sweep": sweep.path, "file": str(file.path), "url": sweep.url}
    write_atomically(memory, json.dumps(known, indent=2) + "\n")
    return sweep


def _create(file: SweepFile, project: str, entity: str) -> str:
    import wandb

    said = io.StringIO()
    with server_errors(), contextlib.redirect_stdout(said):
        name = wandb.sweep(file.content, entity=entity, project=project)
    return f"{entity}/{project}/{name}"


def agent_command(sweep: str) -> list[str]:
    """An agent that forwards signals to its run and ends after a failed one, so that this program decides what next."""
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", "--max-consecutive-failed-runs", "1"]
    return [*command, sweep]


class Crew:
    """The agents of one sweep on this machine."""

    def __init__(self, sweep: Sweep, size: int, results_dir: Path) -> None:
        self.sweep, self.size, self.results_dir = sweep, size, results_dir
        self.children = Children(GRACE, groups=False)
        self._hired = 0
        self._barren = 0
        """Agents that have ended since a run last finished."""
        self._finished = 0
        self._silent = 0
        self._said: set[str] = set()
        self._cards: dict[int, str] = {}
        """The graphics card of each agent, by its process id, where agents are spread over several."""

    def go(self) -> None:
        """Keeps agents at work until the sweep's runs have all ended, agents fail in a row, or a signal comes."""
        with self.children.heeding_signals():
            while self._work():
                self._wait(POLL)

    def _work(self) -> bool:
        """One look at the agents and the runs; whether there is more to wait for."""
        ended, agents = len(self.children.ended()), self.children.alive
        if self.children.stop_signal:
            return bool(agents)
        try:
            with server_errors():
                runs, state = self.sweep.runs(), self.sweep.state()
        except UserError as error:
            return self._unheard(error)
        self._silent = 0
        states, count = Counter(run.state for run in runs), self.sweep.file.count
        text = ", ".join(f"{states[name]} {name}" for name in ("finished", "running", *BROKEN) if states[name])
        self._say_once(f"{self.sweep.file.name}: {count or 'any number of'} runs: {text or 'none started'}")
        self._barren = 0 if states["finished"] > self._finished else self._barren + ended
        self._finished = states["finished"]
        if state not in ("PENDING", "RUNNING") or self._barren >= max(FAILURES_IN_A_ROW, self.size):
            return bool(agents)
        if count is None or len(runs) < count or states["preempted"]:
            self._hire()
        active = sum(states[name] for name in ACTIVE)
        if active and not agents:
            self._say_once("waiting for runs of other machines, or that W&B has not missed yet; Ctrl-C leaves them")
        return bool(agents or active)

    def _unheard(self, error: UserError) -> bool:
        """The server did not answer: agents that are at work go on, and are waited for.

        Raises:
            UserError: it has been silent for long, and no agent is left.
        """
        self._silent += 1
        if not self.children.alive and self._silent >= PATIENCE:
            raise error
        if self._silent == 1:
            print(f"{time.strftime('%H:%M:%S')} {error}; looking again", flush=True)
        return True

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def _hire(self) -> None:
        variables = environment(threads_each(self.size)) | with_tag(self.sweep.file.name)
        # An agent left to itself writes to the folder it is started in.
        variables["WANDB_DIR"] = str(self.results_dir.resolve())
        variables["WANDB_DATA_DIR"] = str((self.results_dir / "wandb" / "data").resolve())
        logs = self.results_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        while len(self.children.alive) < self.size:
            self._hired += 1
            name = f"agent-{self.sweep.path.rpartition('/')[2]}-{os.getpid()}-{self._hired}.log"
            devices = [config.device for config in self.sweep.file.configs]
            card = free_card((self._cards[agent.pid] for agent in self.children.alive), devices)
            with (logs / name).open("ab") as log:
                agent = self.children.start(agent_command(self.sweep.path), variables | variables_of(card), log)
            self._cards[agent.pid] = card

    def _wait(self, seconds: float) -> None:
        """Until an agent ends, a signal comes, or the time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and all(agent.poll() is None for agent in self.children.alive):
            if self.children.stop_signal and self.children.pass_on():
                print(f"stopping {len(self.children.alive)} agents; again to kill them", flush=True)
            time.sleep(TICK)


def retry(sweep: Sweep, limit: int) -> int:
    """Runs again, as their agents did, the runs that failed, crashed or were stopped.

    Returns:
        the exit code where a signal ended it, 0 otherwise.
    """
    with server_errors():
        broken = [run for run in sweep.runs() if run.state in sweep.broken]
    by_digest = {run.digest: run for run in runs_of(sweep.file)}
    entity, project, name = sweep.path.split("/")
    known = {"WANDB_ENTITY": entity, "WANDB_PROJECT": project, "WANDB_SWEEP_ID": name}
    jobs = [
        Job(by_digest[digest], known | {"WANDB_RUN_ID": run.name})
        for run in broken
        if (digest := run.digest()) in by_digest
    ]
    if not jobs:
        return 0
    print(f"{sweep.file.name}: trying {len(jobs)} failed runs again")
    make_log_folders(jobs)
    runner = Runner(jobs, limit, Display(), Estimate({job.run.config.results_dir for job in jobs}), again=True)
    runner.go()
    return runner.children.exit_code


def work_on(sweep: Sweep, agents: int, results_dir: Path) -> tuple[list[str], int]:
    """Takes one sweep to its end; what is wrong with it, a line each, and the exit code where a signal ended it."""
    print(f"{sweep.file.name}: {sweep.url}", flush=True)
    print(f"other machines join with: python -m sweeps.launch --join {sweep.path}", flush=True)
    stopped = retry(sweep, agents)
    if not stopped:
        crew = Crew(sweep, agents, results_dir)
        crew.go()
        stopped = crew.children.exit_code
    with server_errors():
        runs, state = sweep.runs(), sweep.state()
    well = ("finished", *set(BROKEN).difference(sweep.broken))
    problems = [f"{run.name}: {run.state} ({run.url})" for run in runs if run.state not in well]
    missing = (sweep.file.count or 0) - len(runs)
    if missing > 0 and state in ("PENDING", "RUNNING"):
        problems.append(f"{missing} runs were not started ({sweep.url}, agents' logs: {results_dir / 'logs'})")
    elif missing > 0:
        remedy = "resume it on its page" if state == "PAUSED" else "make another with --new"
        problems.append(f"{missing} runs were not started and the sweep is {state.lower()}: {remedy} ({sweep.url})")
    return problems, stopped


def _files(options: argparse.Namespace) -> list[SweepFile]:
    if bool(options.files) == bool(options.join):
        raise UserError("give sweep files, or --join ENTITY/PROJECT/SWEEP_ID")
    if options.join and (options.set or options.results_dir or options.dry_run):
        raise UserError("--join: the sweep is made already; leave out --set, --results-dir and --dry-run")
    return [load(path, overrides(options), on_server=True) for path in options.files]


def _joined(path: str) -> Sweep:
    if path.count("/") != 2:
        raise UserError(f"--join {path}: not the path of a sweep; use ENTITY/PROJECT/SWEEP_ID")
    with server_errors():
        content = _api().sweep(path).config
    return Sweep(path, load_content(Path(path), content, on_server=True))


def _describe(files: Sequence[SweepFile], agents: int) -> None:
    """Prints what would run, starting nothing."""
    for file in files:
        if not file.runs:
            most = f"up to {file.count}" if file.count else "any number of"
            print(f"{file.path}: {most} runs, whose parameters W&B's server chooses as it goes")
    if fixed := [file for file in files if file.runs]:
        jobs, of_file = make_jobs(fixed)
        describe(of_file, Estimate(job.run.config.results_dir for job in jobs), agents, "agents")


def _launch(options: argparse.Namespace) -> int:
    agents = chosen(options.agents, "agents", Path(options.results_dir or "results"))
    files = _files(options)
    if options.dry_run:
        _describe(files, agents)
        return 0
    need_server()
    if note := advice(agents):
        print(note, file=sys.stderr)
    if options.join:
        sweeps: Iterator[Sweep] = iter([_joined(options.join)])
    else:
        memory = Path(files[0].configs[0].results_dir) / "sweeps.json"
        sweeps = (find_or_create(file, options.project, options.entity, memory, new=options.new) for file in files)
    failed = 0
    for sweep in sweeps:
        if failed and any(config.stop == "baseline" for config in sweep.file.configs):
            print(f"error: {sweep.file.name} not started: its baselines may be among the failed runs", file=sys.stderr)
            break
        folder = Path(sweep.file.configs[0].results_dir)
        problems, stopped = work_on(sweep, agents, folder)
        for problem in problems:
            print(f"{'left' if stopped else 'failed'}: {problem}", file=sys.stderr)
        if stopped:
            print("stopped; start again to go on", file=sys.stderr)
            return stopped
        failed += len(problems)
    if failed:
        print("error: not all runs finished; start again to retry them", file=sys.stderr)
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m sweeps.launch", description="Make sweeps on W&B and start agents for them here.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="sweep files, done in this order")
    parser.add_argument("--join", metavar="ENTITY/PROJECT/SWEEP_ID", help="work on a sweep made elsewhere")
    add_workers_option(parser, "agents", "agents on this machine")
    parser.add_argument(
        "--project", default=os.environ.get("WANDB_PROJECT", PROJECT), help="W&B project (default: %(default)s)"
    )
    parser.add_argument(
        "--entity", default=os.environ.get("WANDB_ENTITY"), help="W&B user or team (default: $WANDB_ENTITY)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would run; needs no account")
    parser.add_argument("--new", action="store_true", help="make new sweeps, even where the files have theirs already")
    add_run_options(parser)
    return exit_code_of(_launch, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
