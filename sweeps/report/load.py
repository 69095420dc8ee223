"""Reads runs from results folders into one tidy form, and says what it left out and why.

A run counts when it is complete and consistent. Whatever is unfinished, damaged or not what its folder claims is
named with a reason, and with the command that would make it; it is never part of a mean.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from al.config import RunConfig
from al.errors import UserError
from al.identity import Identity
from al.records import DataDescription, EpochRecord, RoundRecord, RunResult

UNKNOWN_DEVICE = "unknown"
"""Beginning of the device's name for a run that does not record it."""
UNKNOWN_TIME = 0.0
"""When an epoch ended, where that is not recorded."""

Read = TypeVar("Read")


class Damaged(Exception):
    """A run's files cannot be used; the text says why."""


@dataclass(frozen=True)
class Run:
    """One complete run."""

    config: RunConfig
    identity: Identity
    data: DataDescription
    """Runs on different fingerprints never belong together."""
    source: str
    """Folder or W&B path it was read from."""
    epochs: tuple[EpochRecord, ...]
    rounds: tuple[RoundRecord, ...]
    """What each query labelled; the first one is the initial pool. Empty where it is not recorded."""
    result: RunResult

    @property
    def digest(self) -> str:
        return self.identity.digest

    @property
    def sources(self) -> Mapping[str, str]:
        """SHA-256 of the local files it was made from, by the parameter that names each."""
        return self.identity.sources

    @property
    def seed(self) -> int:
        return self.config.split_seed

    @property
    def test(self) -> Mapping[str, float]:
        """Test metrics of the best epoch."""
        return self.result.test

    @property
    def per_class(self) -> Mapping[str, Mapping[str, float]]:
        """Test metrics of the best epoch by class; empty where they are not recorded."""
        return self.result.best.splits["test"].per_class

    @property
    def seconds(self) -> float:
        """What the run would have taken alone: its own time, and the embeddings that it may have found in the cache."""
        return self.result.training_time_seconds + self.embed_seconds

    @property
    def embed_seconds(self) -> float:
        """What computing the embeddings took; 0 where there are none, or their time is not recorded."""
        return float(self.phase("embed").sum())

    @property
    def labels(self) -> int:
        return self.result.labels_used

    @property
    def human_labels(self) -> int:
        return self.result.human_labels_used

    @property
    def machine(self) -> tuple[str, str]:
        """Device and threads, which its times depend on; a run that does not say is like no other."""
        environment = self.result.environment
        device = environment.device.partition(",")[0]  # a processor's name goes on with its threads
        return f"{UNKNOWN_DEVICE}: {self.source}" if device == UNKNOWN_DEVICE else device, str(environment.threads)

    def column(self, split: str, metric: str) -> NDArray[np.float64]:
        """[E] a metric by epoch; NaN: not recorded."""
        return np.array([epoch.scores(split).get(metric, np.nan) for epoch in self.epochs], float)

    def phase(self, name: str) -> NDArray[np.float64]:
        """[E] seconds that each epoch spent in a phase."""
        return np.array([epoch.seconds.get(name, 0.0) for epoch in self.epochs], float)

    def spent(self, name: str) -> float:
        """Seconds of the whole run in a phase, with what came after the last epoch where that was recorded."""
        return float(self.result.seconds.get(name, self.phase(name).sum()))

    @property
    def queried(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[k] rows of the training set that were labelled after the initial pool, and [k] their true classes."""
        later = self.rounds[1:]
        rows = [row for query in later for row in query.rows]
        return np.array(rows, np.int64), np.array([true for query in later for true in query.true], np.int64)


class LeftOut(NamedTuple):
    """Something that was found and not used."""

    source: str
    reason: str
    command: str | None = None


class Missing(NamedTuple):
    """A run that a sweep file asks for and the results do not hold."""

    sweep: str
    config: RunConfig
    command: str


@dataclass
class Results:
    """Everything that a report is made of."""

    runs: list[Run] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    planned: int = 0
    """Runs that the sweep files ask for; 0 where there are none."""
    sweeps: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    """Parameters that every run was given besides, as `--set` takes them."""
    command: str = ""
    """Makes everything that is missing."""
    read_from: tuple[str, ...] = ()
    """The report's option that names where the runs were read from, and its value; empty for the results folder."""
    folder: Path | None = None
    """Where tables of zero-shot labels lie beside published runs; None: in the results folder."""


def load_results(results_dir: str | Path) -> Results:
    """All runs under `results_dir`, as `<cell>/split_seed_<s>/`.

    Raises:
        UserError: no such folder.
    """
    root = Path(results_dir)
    if not root.is_dir():
        raise UserError(f"results-dir={str(root)!r}: no such folder; run a sweep first, for example `make demo`")
    results = Results()
    for folder in sorted(root.glob("*/split_seed_*")):
        if folder.is_dir():
            _load_into(results, folder, root)
    drop_twins(results)
    return results


def _load_into(results: Results, folder: Path, root: Path) -> None:
    source = str(folder.relative_to(root))
    try:
        config, recorded = _read_config(folder)
    except Damaged as error:
        results.left_out.append(LeftOut(source, str(error)))
        return
    command = command_for(config, root)
    try:
        if not (folder / "performance_metrics.json").exists():
            results.left_out.append(LeftOut(source, _progress(folder), command))
        else:
            results.runs.append(_read_run(folder, source, config, recorded))
    except Damaged as error:
        results.left_out.append(LeftOut(source, f"{error}; move the folder away and run it again", command))


def command_for(config: RunConfig, results_dir: str | Path) -> str:
    """The command that makes, or continues, this run where the report looks for it."""
    return config.model_copy(update={"results_dir": str(results_dir)}).command()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} cannot be read ({type(error).__name__})") from None


def _json(path: Path) -> dict:
    """The object in a file.

    Raises:
        Damaged: it is missing, unreadable or holds something else.
    """
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise Damaged(f"{path.name} cannot be read (no JSON object)")
    return found


def _records(path: Path, kind: Callable[[object], Read]) -> tuple[Read, ...]:
    """The records of a file, one a line.

    Raises:
        Damaged: a line is no JSON, or not such a record.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    try:
        found = json.loads(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        raise Damaged(f"{path.name} holds a line that is not JSON") from None
    try:
        return tuple(map(kind, found))
    except ValidationError as error:
        raise Damaged(f"{path.name} holds a line that is no record of a run ({_first(error)})") from None


def _first(error: ValidationError) -> str:
    """The first complaint in a line: the field and what is wrong with it."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}"


def _read_config(folder: Path) -> tuple[RunConfig, dict]:
    recorded = _json(folder / "config.json")
    try:
        config = RunConfig.from_mapping(recorded["config"])
    except (UserError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Damaged(f"config.json does not describe a run of this version: {error}") from None
    if config.digest() != recorded.get("digest"):
        raise Damaged(
            "the digest in config.json is not that of its parameters: another version of the suite, or edited"
        )
    return config, recorded


def _progress(folder: Path) -> str:
    """How far an unfinished run got; a line cut off by a crash does not count."""
    try:
        lines = (folder / "epochs.jsonl").read_bytes().splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        try:
            row = json.loads(line)
            return f"unfinished: epoch {row['epoch']}, {row['labels']} labels so far"
        except (ValueError, KeyError, TypeError):
            continue
    return "unfinished: no epoch yet"


def _read_run(folder: Path, source: str, config: RunConfig, recorded: dict) -> Run:
    found = _json(folder / "performance_metrics.json")
    if found.get("digest") != recorded["digest"]:
        raise Damaged("performance_metrics.json has another digest than config.json: files of different runs")
    data, identity = _data(recorded), _identity(recorded)
    if "data" in found and _data(found) != data:
        raise Damaged("performance_metrics.json names other data than config.json: files of different runs")
    epochs = _records(folder / "epochs.jsonl", EpochRecord.model_validate)
    result = read_result({"environment": {"device": UNKNOWN_DEVICE}, **found, "data": data})
    if len(epochs) != result.total_epochs:
        raise Damaged(f"epochs.jsonl has {len(epochs)} rows where {result.total_epochs} epochs were trained")
    path = folder / "rounds.jsonl"
    rounds = _records(path, RoundRecord.model_validate) if path.exists() else ()
    return Run(config, identity, data, source, epochs, rounds, result)


def read_result(found: Mapping) -> RunResult:
    """The results of a run, if they hold the numbers that everything else relies on.

    Raises:
        Damaged: one is missing or not a number.
    """
    try:
        result = RunResult.read(found)
        numbers = [result.test["accuracy"], result.test["loss"], result.training_time_seconds]
    except (ValueError, KeyError, TypeError):
        raise Damaged("performance_metrics.json lacks test accuracy, loss, seconds or labels") from None
    if not np.isfinite(numbers).all():
        raise Damaged("performance_metrics.json holds a test accuracy, loss or seconds that are no finite number")
    return result


def _data(recorded: Mapping) -> DataDescription:
    try:
        return DataDescription.model_validate(recorded["data"])
    except (KeyError, ValidationError):
        raise Damaged("the data set's name or fingerprint is not recorded") from None


def _identity(recorded: Mapping) -> Identity:
    try:
        identity = Identity.read(recorded)
        return Identity(identity.digest, identity.fingerprint, {str(k): str(v) for k, v in identity.sources.items()})
    except AttributeError:
        raise Damaged("config.json does not say which files the run was made from; sources is no mapping") from None


def drop_twins(results: Results) -> None:
    """One run in two folders counts once."""
    seen: dict[tuple, Run] = {}
    for run in results.runs:
        twin = seen.setdefault((run.digest, run.data.fingerprint, *sorted(run.sources.items())), run)
        if twin is not run:
            results.left_out.append(LeftOut(run.source, f"the same run as {twin.source}"))
    results.runs = list(seen.values())


def plan(files: Iterable[str | Path], assignments: Sequence[str] = ()) -> list[tuple[str, RunConfig]]:
    """Every run that the sweep files ask for, with the file that asks first; `assignments` as in `--set`.

    Raises:
        UserError: a file is not a sweep, or asks for a parameter that does not exist.
    """
    from sweeps.runner.grid import expand, parse_overrides

    overrides = parse_overrides(assignments)
    planned: dict[str, tuple[str, RunConfig]] = {}
    for file in files:
        for parameters in expand(file, overrides):
            config = RunConfig.from_mapping(parameters)
            planned.setdefault(config.digest(), (str(file), config))
    return list(planned.values())


def select(
    results: Results, files: Iterable[str | Path], results_dir: str | Path, assignments: Sequence[str] = ()
) -> Results:
    """The runs that the sweep files ask for, and what is missing of them.

    Baselines of wanted runs are taken along. Without files everything stays.
    """
    files = tuple(str(file) for file in files)
    if not files:
        return results
    planned = plan(files, assignments)
    wanted = {config.digest() for _, config in planned}
    wanted |= {config.baseline_of().digest() for _, config in planned}
    found = {run.digest for run in results.runs}
    runs = [run for run in results.runs if run.digest in wanted]
    missing = [
        Missing(file, config, command_for(config, results_dir))
        for file, config in planned
        if config.digest() not in found
    ]
    others = len(results.runs) - len(runs)
    notes = [f"{others} complete runs in the folder belong to no sweep file given and are not shown."] if others else []
    options = ["--results-dir", str(results_dir)] if str(results_dir) != "results" else []
    options += ["--set", *assignments] if assignments else []
    sweeps = dict.fromkeys(item.sweep for item in missing)
    command = shlex.join(["python", "-m", "sweeps.local", *sweeps, *options]) if missing else ""
    found = Results(runs, results.left_out, missing, results.notes + notes, len(planned), files, tuple(assignments))
    return replace(found, command=command, folder=results.folder, read_from=results.read_from)
