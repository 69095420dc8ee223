"""`python -m sweeps.runner.launch FILE... --agents N`: sweeps on W&B, worked on by agents of this machine.

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
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from al.config import RunConfig
from al.errors import UserError
from al.storage.files import write_atomically
from sweeps.runner import terminal as display
from sweeps.runner.command import environment, threads_each
from sweeps.runner.grid import SweepFile, load, load_content, parse_overrides
from sweeps.runner.local import PREEMPTED, Job, Runner
from sweeps.runner.runs import Estimate, read_json, runs_of
from sweeps.runner.server import PROJECT, base_url, need_server

POLL = 5.0
"""Seconds between two looks at the sweep's runs."""
TICK = 0.1
FAILURES_IN_A_ROW = 3
PATIENCE = 20
"""Looks in a row that the server may leave unanswered when there is no agent to wait for."""
BROKEN = ("failed", "crashed", "killed")
ACTIVE = ("running", "pending", "preempting", "preempted")
STEPS = (0.0, 30.0, 60.0, 90.0)
"""Seconds after which an agent is told to stop, to terminate its run, to kill it, and is killed itself."""
IMPATIENCE = 30.0
"""How many times faster that goes after a second Ctrl-C."""


@dataclass(frozen=True)
class ServerRun:
    name: str
    state: str
    url: str


@dataclass(eq=False)
class Sweep:
    """A sweep on the server: `path` is entity/project/id, `file` what it was made from."""

    path: str
    file: SweepFile

    @cached_property
    def url(self) -> str:
        return str(_api().sweep(self.path).url)

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
        return [ServerRun(run.id, str(run.state).lower(), run.url) for run in self._listed()]

    def _listed(self) -> Iterator[Any]:
        project, _, name = self.path.rpartition("/")
        return iter(_api().runs(project, filters={"sweep": name}, per_page=200))

    def broken_jobs(self) -> list[tuple[str, Job]]:
        """The runs that failed, each with the job that does again what its agent did, under the same W&B id."""
        by_digest = {run.digest: run for run in runs_of(self.file)}
        found = []
        for listed in self._listed():
            run = by_digest.get(_digest(listed.config)) if str(listed.state).lower() in BROKEN else None
            if run is not None:
                found.append((listed.id, Job(run)))
        return found


def _api() -> Any:
    import wandb

    return wandb.Api(timeout=30)


def _digest(config: dict[str, Any]) -> str | None:
    """The digest of a run on the server, from its parameters: one that failed early has logged no digest."""
    parameters = {name: value for name, value in config.items() if name in RunConfig.model_fields}
    try:
        return RunConfig.from_mapping(parameters).digest()
    except UserError:
        return None


@contextlib.contextmanager
def server_errors() -> Iterator[None]:
    """What W&B's library raises as one line."""
    import wandb

    try:
        yield
    except (wandb.errors.Error, ValueError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"W&B: {text[0]}; see {base_url()}, or run without it: python -m sweeps.runner.local") from None


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


@dataclass(eq=False)
class Crew:
    """The agents of one sweep on this machine."""

    sweep: Sweep
    size: int
    results_dir: Path
    agents: list[subprocess.Popen] = field(default_factory=list)
    stop_signal: int | None = None
    stop_time: float = 0.0
    haste: float = 1.0
    barren: int = 0
    _step: int = 0
    _silent: int = 0
    _lingering: bool = False
    _finished: int = 0
    _hired: int = 0
    _said: str = ""

    def go(self) -> None:
        """Keeps agents at work until the sweep's runs have all ended, agents fail in a row, or a signal comes."""
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            while self._work():
                self._wait(POLL)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _work(self) -> bool:
        """One look at the agents and the runs; whether there is more to wait for."""
        ended = [agent for agent in self.agents if agent.poll() is not None]
        self.agents = [agent for agent in self.agents if agent.poll() is None]
        if self.stop_signal is not None:
            return bool(self.agents)
        try:
            with server_errors():
                runs, state = self.sweep.runs(), self.sweep.state()
        except UserError as error:
            return self._unheard(error)
        self._silent = 0
        self._report(runs)
        states = Counter(run.state for run in runs)
        self.barren = 0 if states["finished"] > self._finished else self.barren + len(ended)
        self._finished = states["finished"]
        handed_out = len(runs) >= len(self.sweep.file.runs) and not states["preempted"]
        if state not in ("PENDING", "RUNNING") or self.barren >= max(FAILURES_IN_A_ROW, self.size):
            return bool(self.agents)
        if not handed_out:
            self._hire()
        active = sum(states[name] for name in ACTIVE)
        if active and not self.agents and not self._lingering:
            self._lingering = True
            print(
                f"waiting for {active} runs of other machines, or that W&B has not missed yet; Ctrl-C leaves them",
                flush=True,
            )
        return bool(self.agents or active)

    def _unheard(self, error: UserError) -> bool:
        """The server did not answer: agents that are at work go on, and are waited for.

        Raises:
            UserError: it has been silent for long, and no agent is left.
        """
        self._silent += 1
        if not self.agents and self._silent >= PATIENCE:
            raise error
        if self._silent == 1:
            print(f"{time.strftime('%H:%M:%S')} {error}; looking again", flush=True)
        return True

    def _hire(self) -> None:
        variables = environment(threads_each(self.size))
        # An agent left to itself writes to the folder it is started in.
        variables["WANDB_DIR"] = str(self.results_dir.resolve())
        variables["WANDB_DATA_DIR"] = str((self.results_dir / "wandb" / "data").resolve())
        logs = self.results_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        while len(self.agents) < self.size:
            self._hired += 1
            name = f"agent-{self.sweep.path.rpartition('/')[2]}-{os.getpid()}-{self._hired}.log"
            with (logs / name).open("ab") as log:
                agent = subprocess.Popen(
                    agent_command(self.sweep.path),
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            self.agents.append(agent)

    def _wait(self, seconds: float) -> None:
        """Until an agent ends, a signal comes, or the time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and all(agent.poll() is None for agent in self.agents):
            if self.stop_signal is not None:
                self._pass_on()
            time.sleep(TICK)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is None:
            self.stop_signal, self.stop_time = number, time.monotonic()
        else:
            self.haste = IMPATIENCE

    def _pass_on(self) -> None:
        """Sends the agents the next step's signal once its time has come.

        An agent forwards what it gets to its run. At the first SIGINT it waits for the run, at the second it
        terminates it, at the third it kills it.
        """
        waited = (time.monotonic() - self.stop_time) * self.haste
        while self._step < len(STEPS) and waited >= STEPS[self._step]:
            number = signal.SIGINT if self._step < len(STEPS) - 1 else signal.SIGKILL
            if self._step == 0:
                print(f"stopping {len(self.agents)} agents; again to kill them", flush=True)
                number = signal.SIGUSR1 if self.stop_signal == signal.SIGUSR1 else number
            for agent in self.agents:
                agent.send_signal(number)
            self._step += 1

    def _report(self, runs: Sequence[ServerRun]) -> None:
        counts = Counter(run.state for run in runs)
        text = ", ".join(f"{counts[state]} {state}" for state in ("finished", "running", *BROKEN) if counts[state])
        text = f"{self.sweep.file.name}: {len(self.sweep.file.runs)} runs: {text or 'none started'}"
        if text != self._said:
            self._said = text
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def retry(sweep: Sweep, limit: int) -> int | None:
    """Runs again, as their agents did, the runs that failed, crashed or were stopped; the signal that ended it."""
    with server_errors():
        broken = sweep.broken_jobs()
    if not broken:
        return None
    print(f"{sweep.file.name}: trying {len(broken)} failed runs again")
    entity, project, name = sweep.path.split("/")
    for run_id, job in broken:
        job.variables = {"WANDB_ENTITY": entity, "WANDB_PROJECT": project}
        job.variables |= {"WANDB_SWEEP_ID": name, "WANDB_RUN_ID": run_id}
        job.log.parent.mkdir(parents=True, exist_ok=True)
    jobs = [job for _, job in broken]
    with display.make_display() as view:
        runner = Runner(jobs, limit, view, Estimate({job.run.config.results_dir for job in jobs}), again=True)
        runner.go()
    return signal.SIGUSR1 if runner.preempted else runner.stop_signal


def work_on(sweep: Sweep, agents: int, results_dir: Path) -> tuple[list[str], int | None]:
    """Takes one sweep to its end; what is wrong with it, a line each, and the signal that ended it early."""
    print(f"{sweep.file.name}: {sweep.url}", flush=True)
    print(f"other machines join with: python -m sweeps.runner.launch --join {sweep.path}", flush=True)
    stopped = retry(sweep, agents)
    if stopped is None:
        crew = Crew(sweep, agents, results_dir)
        crew.go()
        stopped = crew.stop_signal
    with server_errors():
        runs, state = sweep.runs(), sweep.state()
    problems = [f"{run.name}: {run.state} ({run.url})" for run in runs if run.state != "finished"]
    missing = len(sweep.file.runs) - len(runs)
    if missing > 0 and state in ("PENDING", "RUNNING"):
        problems.append(f"{missing} runs were not started ({sweep.url}, agents' logs: {results_dir / 'logs'})")
    elif missing > 0:
        remedy = "resume it on its page" if state == "PAUSED" else "make another with --new"
        problems.append(f"{missing} runs were not started and the sweep is {state.lower()}: {remedy} ({sweep.url})")
    return problems, stopped


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps.runner.launch", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="sweep files, worked on in this order")
    parser.add_argument("--join", metavar="ENTITY/PROJECT/SWEEP_ID", help="work on a sweep made elsewhere")
    parser.add_argument(
        "--agents", type=int, default=1, help="agents on this machine; they share its cores (default 1)"
    )
    parser.add_argument("--project", default=os.environ.get("WANDB_PROJECT", PROJECT))
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"))
    parser.add_argument("--new", action="store_true", help="make new sweeps, even if the files have theirs already")
    parser.add_argument("--results-dir", help="folder that gets the results (default: the files', or results)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="parameters for every run"
    )
    return parser


def _files(options: argparse.Namespace) -> list[SweepFile]:
    if options.agents < 1:
        raise UserError(f"--agents {options.agents}: runs nothing; use 1 or more")
    if bool(options.files) == bool(options.join):
        raise UserError("give sweep files, or --join ENTITY/PROJECT/SWEEP_ID")
    if options.join and (options.set or options.results_dir):
        raise UserError("--join: the sweep has its parameters already; leave out --set and --results-dir")
    overrides = parse_overrides(options.set)
    if options.results_dir:
        overrides["results_dir"] = options.results_dir
    return [load(path, overrides) for path in options.files]


def _joined(path: str) -> Sweep:
    if path.count("/") != 2:
        raise UserError(f"--join {path}: not the path of a sweep; use ENTITY/PROJECT/SWEEP_ID")
    with server_errors():
        content = _api().sweep(path).config
    return Sweep(path, load_content(Path(path), content))


def _launch(options: argparse.Namespace) -> int:
    files = _files(options)
    need_server()
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
        problems, stopped = work_on(sweep, options.agents, folder)
        for problem in problems:
            print(f"{'left' if stopped else 'failed'}: {problem}", file=sys.stderr)
        if stopped:
            print("stopped; start again to go on", file=sys.stderr)
            return PREEMPTED if stopped == signal.SIGUSR1 else 128 + stopped
        failed += len(problems)
    if failed:
        print("error: not all runs finished; start again to retry them", file=sys.stderr)
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _launch(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
