"""`python -m sweeps.runner.sync`: uploads the runs that were logged offline, all fragments of a run as one history.

Every attempt of a run leaves a fragment, a folder `offline-run-<time>-<id>`. `wandb sync` joins the fragments of one
id in the order of their times. It stops at a fragment whose last record a kill cut in half, exits 0 and leaves out
what comes after; those are sent here one by one, and all their whole records arrive.

A run that was online when the server went away is not sent with `wandb sync`, which would double the rows that had
arrived: train.py is started on it again, finds it complete, and sends what the server does not have.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from al.errors import UserError
from al.storage.files import write_atomically
from al.storage.run_folder import COMPLETE
from sweeps.runner.command import environment, parameter_file
from sweeps.runner.options import exit_code_of
from sweeps.runner.runs import is_held, read_json
from sweeps.runner.server import PROJECT, need_server

CUT = "ends with an incomplete record"
AT_ONCE = 50
"""Runs given to one `wandb sync`; the length of a command line is limited."""


def fragments(results_dir: Path) -> dict[str, list[Path]]:
    """The folders of each offline run, oldest first, by W&B's id of the run."""
    found: dict[str, list[Path]] = {}
    for folder in sorted((results_dir / "wandb").glob("offline-run-*-*")):
        if any(folder.glob("run-*.wandb")):
            found.setdefault(folder.name.split("-", 3)[3], []).append(folder)
    return found


def is_synced(fragment: Path) -> bool:
    return any(fragment.glob("run-*.wandb.synced"))


def running_ids(results_dir: Path) -> set[str]:
    """W&B's ids of the runs that a process is at: their last fragment is not whole yet."""
    held = [folder for folder in results_dir.glob("*/split_seed_*") if is_held(folder)]
    return {read_json(folder / "config.json").get("wandb_run_id", "") for folder in held}


def sync(results_dir: Path) -> int:
    """Uploads what is not uploaded yet and says how much that was; the exit code."""
    runs = fragments(results_dir)
    running = running_ids(results_dir) & set(runs)
    waiting = {
        run: parts for run, parts in runs.items() if run not in running and not all(is_synced(part) for part in parts)
    }
    before = len(runs) - len(waiting) - len(running)
    online = online_runs(results_dir)
    if waiting or online:
        need_server("or try again later")
    errors = _upload(waiting, results_dir) + _complete_online(online, results_dir)
    failed = [run for run, parts in waiting.items() if not all(is_synced(part) for part in parts)]
    text = f"{len(waiting) - len(failed)} runs uploaded, {before} were already"
    print(text + (f", {len(running)} are still running" if running else ""))
    for line in errors:
        print(f"wandb sync: {line}", file=sys.stderr)
    if failed:
        print(
            f"error: {len(failed)} runs not uploaded: {', '.join(failed)}; start again to retry them", file=sys.stderr
        )
    return 1 if failed or errors else 0


def _upload(runs: dict[str, list[Path]], results_dir: Path) -> list[str]:
    """Sends runs together, then one fragment after another those that were not taken; the error lines."""
    errors = []
    names = list(runs)
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        lines = _wandb_sync((part for run in batch for part in runs[run] if not is_synced(part)), results_dir)
        errors += [line for line in lines if CUT not in line]
        for run in batch:
            errors += _upload_singly([part for part in runs[run] if not is_synced(part)], results_dir, lines)
    return errors


def _upload_singly(parts: Sequence[Path], results_dir: Path, lines: Sequence[str]) -> list[str]:
    """Sends the fragments behind a cut one; `lines` are the errors of the attempt with all of them."""
    errors = []
    for part in parts:
        cut = any(CUT in line and part.name in line for line in lines)
        if not cut:
            found = _wandb_sync([part], results_dir)
            cut = any(CUT in line for line in found)
            errors += [line for line in found if CUT not in line]
        if cut:
            _mark_synced(part)
        elif not is_synced(part):
            break  # a later fragment must not arrive before an earlier one
    return errors


def online_runs(results_dir: Path) -> dict[str, Path]:
    """Folders of the complete runs that were logged online, by W&B's id, but for those known to have arrived."""
    found = {}
    for folder in sorted(results_dir.glob("*/split_seed_*")):
        run = read_json(folder / "config.json").get("wandb_run_id", "")
        parts = list((results_dir / "wandb").glob(f"run-*-{run}")) if run else []
        if (folder / COMPLETE).is_file() and not is_held(folder) and not all(is_synced(part) for part in parts):
            found[run] = folder
    return found


def _complete_online(online: dict[str, Path], results_dir: Path) -> list[str]:
    """Sends the rest of those that did not end on the server; the error lines."""
    errors = []
    finished = _finished_on_server(list(online)) if online else set()
    for run, folder in online.items():
        if run not in finished:
            code = _start_again(run, folder, results_dir)
            errors += [f"{folder}: train.py exits {code}"] if code else []
        if run in finished or not code:
            for part in (results_dir / "wandb").glob(f"run-*-{run}"):
                _mark_synced(part)
    return errors


def _finished_on_server(names: list[str]) -> set[str]:
    import wandb

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    listed = wandb.Api(timeout=30).runs(project, filters={"name": {"$in": names}}, per_page=200)
    try:
        return {run.id for run in listed if str(run.state).lower() == "finished"}
    except (wandb.errors.Error, ValueError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise UserError(
            f"W&B: cannot list the runs of {project} ({reason}); set WANDB_PROJECT and WANDB_ENTITY"
        ) from None


def _start_again(run: str, folder: Path, results_dir: Path) -> int:
    """Starts train.py on a complete run, under its W&B id; the exit code."""
    parameters = read_json(folder / "config.json")["config"] | {"results_dir": str(results_dir)}
    path = results_dir / "logs" / f"{folder.parent.name}-{folder.name}.sync.yaml"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, parameter_file(parameters))
    variables = environment(threads=1) | {"WANDB_SWEEP_PARAM_PATH": str(path.resolve()), "WANDB_RUN_ID": run}
    command = [sys.executable, "train.py"]
    return subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode


def _mark_synced(fragment: Path) -> None:
    """W&B's own mark, for a fragment of which all that is whole has arrived: a second time would double it."""
    for log in fragment.glob("run-*.wandb"):
        log.with_name(f"{log.name}.synced").touch()


def _wandb_sync(parts: Iterable[Path], results_dir: Path) -> list[str]:
    """Runs `wandb sync` and returns the lines that report an error; its exit code does not tell."""
    # The marks tell what is synced; W&B's settings for other runs must not leak in.
    variables = environment(threads=1) | {"WANDB_DATA_DIR": str((results_dir / "wandb" / "data").resolve())}
    variables["WANDB_DIR"] = str(results_dir.resolve())
    if not (names := [str(part) for part in parts]):
        return []
    command = [sys.executable, "-m", "wandb", "sync", *names]
    done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = [line.removeprefix("wandb: ").strip() for line in (done.stdout + done.stderr).splitlines()]
    errors = [line for line in lines if "ERROR" in line]
    if done.returncode and not errors:
        errors.append(lines[-1] if lines else f"exit code {done.returncode}")
    return errors


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeps.runner.sync", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--results-dir",
        type=Path,
        default=Path(os.environ.get("WANDB_DIR", "results")),
        help="folder with the runs' wandb/ (default: WANDB_DIR, or results)",
    )
    return exit_code_of(_sync, parser.parse_args(arguments))


def _sync(options: argparse.Namespace) -> int:
    if not options.results_dir.is_dir():
        raise UserError(f"--results-dir {options.results_dir}: no such folder; name the one that the runs wrote to")
    return sync(options.results_dir)


if __name__ == "__main__":
    sys.exit(main())
