"""`python -m sweeps.sync`: brings W&B's server up to date with the results on disk.

A run's own files hold everything that W&B shows of it, so what the server lacks is sent from there, under the run's
id and after the last epoch that the server has: whether the run was online or offline, killed, cut or complete. What
W&B itself wrote of it offline is not needed. `wandb sync` sends only what belongs to no run of the loop.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import track

from al.arguments import Parser, folder_name
from al.errors import UserError
from al.storage.files import write_atomically
from al.storage.run_folder import RunFolder
from al.tracking.mirroring import mirror
from al.tracking.server import Unreachable, base_url, project
from al.tracking.wandb import ServerState, states_on_server
from sweeps.runner.command import environment
from sweeps.runner.options import exit_code_of
from sweeps.runner.runs import is_held, read_json
from sweeps.runner.server import need_server

CUT = "ends with an incomplete record"
FAILURES_IN_A_ROW = 3
"""Runs that did not arrive, one after another, after which the server is left alone."""
FINISH_TIMEOUT = "120"
"""Seconds that the last of a run may take to arrive: nothing else waits here, and models are large."""
SYNC_TIMEOUT = 300
"""Seconds that one `wandb sync` may take."""


@dataclass(frozen=True)
class TrackedRun:
    """A run on disk that W&B knows, or is to know, under `run_id`."""

    run_id: str
    folder: RunFolder

    @property
    def extent(self) -> str:
        """How much of it there is: changes with every epoch, and when it is complete."""
        size = (self.folder.path / "epochs.jsonl").stat().st_size
        return f"{size} bytes, {'complete' if self.folder.complete else 'under way'}"

    def is_whole(self, state: ServerState | None) -> bool:
        return state is not None and self.folder.complete and state.has_all_of(self.folder.result())


class Memory:
    """What this results folder has sent, and to which project of which server: asked again is only what has changed."""

    def __init__(self, results_dir: Path) -> None:
        self.path = results_dir / "wandb" / "synced.json"
        self.content = read_json(self.path)
        place = f"{base_url()}/{os.environ.get('WANDB_ENTITY', '')}/{project()}"
        self.sent: dict[str, str] = self.content.setdefault(place, {})

    def note(self, run: TrackedRun, extent: str) -> None:
        """Remember that so much of a run has been sent."""
        self.sent[run.run_id] = extent
        for log in self.path.parent.glob(f"*run-*-{run.run_id}/run-*.wandb"):
            log.with_name(f"{log.name}.synced").touch()  # W&B's own mark: `wandb sync` would double the rows
        self.path.parent.mkdir(exist_ok=True)
        write_atomically(self.path, json.dumps(self.content, indent=2) + "\n")


def tracked_runs(results_dir: Path) -> tuple[list[TrackedRun], set[str]]:
    """The runs on disk that W&B was told of, and the ids of those that a process is at."""
    runs, running = [], set()
    for folder in sorted(results_dir.glob("*/split_seed_*")):
        run_id = read_json(folder / "config.json").get("wandb_run_id")
        if run_id and is_held(folder):
            running.add(run_id)
        elif run_id and (folder / "epochs.jsonl").is_file():
            runs.append(TrackedRun(run_id, RunFolder(folder)))
    return runs, running


@contextmanager
def alone(results_dir: Path) -> Iterator[None]:
    """Keep other processes from sending the same runs meanwhile: two at once would send an epoch twice.

    Raises:
        UserError: one is at it, or nothing can be written there.
    """
    lock = FileLock(results_dir / "wandb" / "sync.lock", blocking=False)
    try:
        (results_dir / "wandb").mkdir(exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"--results-dir {results_dir}: another process is sending its runs; leave it to that") from None
    except OSError as error:
        said = f"--results-dir {results_dir}: wandb/, where it is noted what was sent, cannot be written to"
        raise UserError(f"{said} ({error.strerror}); make that possible first") from None
    try:
        yield
    finally:
        lock.release()


def sync(results_dir: Path) -> int:
    """Sends what has not been sent yet and says how much that was; the exit code."""
    memory = Memory(results_dir)
    runs, running = tracked_runs(results_dir)
    waiting = [run for run in runs if memory.sent.get(run.run_id) != run.extent]
    known = running | {run.run_id for run in runs}
    loose = {run: parts for run, parts in fragments(results_dir).items() if run not in known}
    open_loose = {run: parts for run, parts in loose.items() if not all(map(is_synced, parts))}
    if waiting or open_loose:
        need_server("or try again later")
    errors = _send_from_files(waiting, memory, results_dir) | _sync_loose(open_loose, results_dir)
    sent = len(waiting) + len(open_loose) - len(errors)
    before = len(runs) + len(loose) - len(waiting) - len(open_loose)
    print(f"{sent} runs uploaded, {before} were already" + (f", {len(running)} are still running" if running else ""))
    for run, error in errors.items():
        print(f"wandb sync: {error} (run {run})", file=sys.stderr)
    if errors:
        print(
            f"error: {len(errors)} runs not uploaded: {', '.join(errors)}; start again to retry them", file=sys.stderr
        )
    return 1 if errors else 0


def _send_from_files(waiting: Sequence[TrackedRun], memory: Memory, results_dir: Path) -> dict[str, str]:
    """Sends runs one by one; what went wrong, by id. What W&B's client writes meanwhile goes when it is done."""
    if not waiting:
        return {}
    with tempfile.TemporaryDirectory(dir=results_dir / "wandb", prefix="sync-", ignore_cleanup_errors=True) as scratch:
        os.environ["WANDB_DIR"] = os.environ["WANDB_DATA_DIR"] = os.environ["WANDB_CACHE_DIR"] = scratch
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", FINISH_TIMEOUT)
        return _send(waiting, memory)


def _send(waiting: Sequence[TrackedRun], memory: Memory) -> dict[str, str]:
    states = states_on_server([run.run_id for run in waiting])
    errors: dict[str, str] = {}
    in_a_row = 0
    for run in track(waiting, "sending runs", disable=not sys.stdout.isatty(), transient=True):
        said: list[str] = []
        if in_a_row >= FAILURES_IN_A_ROW:
            errors[run.run_id] = "not tried: the server took none of the runs before it"
            continue
        extent = run.extent  # before it is read: a process may go on with the run while it is sent
        try:
            arrived = run.is_whole(states.get(run.run_id)) or mirror(run.folder, run.run_id, said.append)
        except (UserError, ValueError, Unreachable) as error:
            arrived = False
            said.append(" ".join(str(error).split()))
        if arrived:
            memory.note(run, extent)
            print(f"sent {run.folder.path}", flush=True)
        else:
            errors[run.run_id] = said[-1] if said else f"{run.folder.path} has not arrived"
        in_a_row = 0 if arrived else in_a_row + 1
    return errors


def fragments(results_dir: Path) -> dict[str, list[Path]]:
    """What W&B wrote of each offline run, oldest first, by W&B's id of the run."""
    found: dict[str, list[Path]] = {}
    for folder in sorted((results_dir / "wandb").glob("offline-run-*-*")):
        if any(folder.glob("run-*.wandb")):
            found.setdefault(folder.name.split("-", 3)[3], []).append(folder)
    return found


def is_synced(fragment: Path) -> bool:
    return any(fragment.glob("run-*.wandb.synced"))


def _sync_loose(runs: dict[str, list[Path]], results_dir: Path) -> dict[str, str]:
    """Sends with `wandb sync` the tables and pictures that belong to no run of the loop; what went wrong, by id.

    A fragment whose last record a kill cut in half arrives without it, and is then marked as sent: a second time
    would double the rest.
    """
    errors: dict[str, str] = {}
    for run, parts in track(runs.items(), "sending tables", disable=not sys.stdout.isatty(), transient=True):
        for part in (part for part in parts if not is_synced(part)):
            lines = _wandb_sync(part, results_dir)
            if any(CUT in line for line in lines):
                for log in part.glob("run-*.wandb"):
                    log.with_name(f"{log.name}.synced").touch()
            if not is_synced(part):
                errors[run] = lines[0] if lines else "W&B did not take it"
                break  # a later fragment must not arrive before an earlier one
    return errors


def _wandb_sync(part: Path, results_dir: Path) -> list[str]:
    """Runs `wandb sync` and returns the lines that report an error; its exit code does not tell."""
    # W&B's settings for other runs must not leak in
    variables = environment(threads=1) | {"WANDB_DATA_DIR": str((results_dir / "wandb" / "data").resolve())}
    variables["WANDB_DIR"] = str(results_dir.resolve())
    command = [sys.executable, "-m", "wandb", "sync", str(part)]
    try:
        done = subprocess.run(
            command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SYNC_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return [f"ERROR no end after {SYNC_TIMEOUT} seconds"]
    lines = [line.removeprefix("wandb: ").strip() for line in (done.stdout + done.stderr).splitlines()]
    errors = [line for line in lines if "ERROR" in line]
    return errors or ([lines[-1] if lines else f"exit code {done.returncode}"] if done.returncode else [])


def _sync(options: argparse.Namespace) -> int:
    if not options.results_dir.is_dir():
        raise UserError(f"--results-dir {options.results_dir}: no such folder; name the one that the runs wrote to")
    with alone(options.results_dir):
        return sync(options.results_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m sweeps.sync", description="Bring W&B's server up to date with the results on disk.")
    parser.add_argument(
        "--results-dir",
        metavar="DIR",
        type=lambda text: Path(folder_name(text)),
        default=Path(os.environ.get("WANDB_DIR", "results")),
        help="results folder of the runs (default: $WANDB_DIR, or results)",
    )
    return exit_code_of(_sync, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
