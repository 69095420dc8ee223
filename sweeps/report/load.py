"""Reads runs from results folders into one tidy form, and says what it left out and why.

A run counts when it is complete and consistent. Whatever is unfinished, damaged or not what its folder claims is
named with a reason, and with the command that would make it; it is never part of a mean.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.config import RunConfig
from al.errors import UserError
from al.identity import identity_of

PHASES = ("train", "evaluate", "score", "select", "cluster")
"""Phases of a run's time; `cluster` lies inside `select`."""

SPLITS = ("train", "val", "test")
SCALARS = ("epoch", "round", "labels", "human_labels", "train_size", "val_size", "pool_size", "lr")
METRICS = ("loss", "accuracy", "precision", "recall", "f1-score", "balanced_accuracy", "ece")


class Damaged(Exception):
    """A run's files cannot be used; the text says why."""


class Data(NamedTuple):
    """The data set a run saw. Runs on different fingerprints never belong together."""

    name: str
    fingerprint: str
    train: int
    test: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """What one acquisition labelled; round 0 is the initial pool."""

    round: int
    epoch: int
    labels: int
    human_labels: int
    wrong_labels: int
    rows: NDArray[np.int32]
    """[k] rows of the training set."""
    true: NDArray[np.int16]
    """[k] class indices."""


@dataclass(frozen=True)
class Run:
    """One complete run."""

    config: RunConfig
    digest: str
    data: Data
    source: str
    """Folder or W&B path it was read from."""
    epochs: Mapping[str, NDArray[np.float64]]
    """Columns of [E] values, one an epoch, named like `labels`, `test/accuracy`, `seconds/train`; NaN: not recorded."""
    rounds: tuple[Round, ...]
    metrics: Mapping[str, Any]
    """performance_metrics.json."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the local files it was made from, by the parameter that names each."""

    @property
    def seed(self) -> int:
        return self.config.split_seed

    @property
    def test(self) -> Mapping[str, Any]:
        """Test metrics of the best epoch."""
        return self.metrics["test_metrics"]

    @property
    def seconds(self) -> float:
        return float(self.metrics["training_time_seconds"])

    @property
    def labels(self) -> int:
        return int(self.metrics["labels_used"])

    @property
    def human_labels(self) -> int:
        return int(self.metrics.get("human_labels_used", self.metrics["labels_used"]))

    @property
    def machine(self) -> tuple[str, str]:
        """Device and threads, which its times depend on; a run that does not say is like no other."""
        environment = self.metrics.get("environment") or {}
        return str(environment.get("device", f"unknown: {self.source}")), str(environment.get("threads", ""))


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
    command: str = ""
    """Makes everything that is missing."""


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


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} cannot be read ({type(error).__name__})") from None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(b"[" + b",".join(line for line in path.read_bytes().splitlines() if line.strip()) + b"]")
    except FileNotFoundError:
        raise Damaged(f"{path.name} is missing") from None
    except (OSError, ValueError):
        raise Damaged(f"{path.name} holds a line that is not JSON") from None


def _read_config(folder: Path) -> tuple[RunConfig, dict[str, Any]]:
    recorded = _json(folder / "config.json")
    try:
        config = RunConfig.from_mapping(recorded["config"])
    except (UserError, KeyError, TypeError) as error:
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


def _read_run(folder: Path, source: str, config: RunConfig, recorded: dict[str, Any]) -> Run:
    metrics = _json(folder / "performance_metrics.json")
    if not isinstance(metrics, dict) or metrics.get("digest") != recorded["digest"]:
        raise Damaged("performance_metrics.json has another digest than config.json: files of different runs")
    data = _data(recorded)
    if "data" in metrics and _data(metrics) != data:
        raise Damaged("performance_metrics.json names other data than config.json: files of different runs")
    rows = _json_lines(folder / "epochs.jsonl")
    if len(rows) != metrics.get("total_epochs", len(rows)):
        raise Damaged(f"epochs.jsonl has {len(rows)} rows where {metrics['total_epochs']} epochs were trained")
    rounds = folder / "rounds.jsonl"
    return checked(
        Run(
            config,
            recorded["digest"],
            data,
            source,
            columns(rows),
            tuple(_round(row) for row in _json_lines(rounds)) if rounds.exists() else (),
            metrics,
            identity_of(recorded)["sources"],
        )
    )


def checked(run: Run) -> Run:
    """The run, if it holds the numbers that everything else relies on.

    Raises:
        Damaged: a metric is missing or not a number.
    """
    try:
        numbers = [run.test["accuracy"], run.test["loss"], run.seconds, run.labels, run.human_labels]
        if not all(np.isfinite(float(number)) for number in numbers):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise Damaged("performance_metrics.json lacks test accuracy, loss, seconds or labels") from None
    return run


def _data(recorded: Mapping[str, Any]) -> Data:
    try:
        data = recorded["data"]
        return Data(data["name"], data["fingerprint"], int(data["train"]), int(data["test"]), tuple(data["classes"]))
    except (KeyError, TypeError, ValueError):
        raise Damaged("the data set's name or fingerprint is not recorded") from None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def columns(rows: list[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Rows of epochs.jsonl as columns of numbers; per-class values stay on disk."""
    table = {name: np.array([_number(row.get(name)) for row in rows]) for name in SCALARS}
    for split in SPLITS:
        groups = [row.get(split) or {} for row in rows]
        for name in METRICS:
            table[f"{split}/{name}"] = np.array([_number(group.get(name)) for group in groups])
    groups = [row.get("seconds") or {} for row in rows]
    for name in (*PHASES, "round"):
        table[f"seconds/{name}"] = np.array([_number(group.get(name, 0.0)) for group in groups])
    table["best"] = np.array([_number(bool(row.get("best"))) for row in rows])
    return table


def _round(row: Mapping[str, Any]) -> Round:
    try:
        return Round(
            int(row["round"]),
            int(row["epoch"]),
            int(row["labels"]),
            int(row.get("human_labels", row["labels"])),
            int(row.get("wrong_labels", 0)),
            np.array(row["rows"], np.int32),
            np.array(row["true"], np.int16),
        )
    except (KeyError, TypeError, ValueError):
        raise Damaged("rounds.jsonl holds a row without its picks") from None


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
    command = shlex.join(["python", "-m", "sweeps.runner.local", *sweeps, *options]) if missing else ""
    return Results(runs, results.left_out, missing, results.notes + notes, len(planned), files, command)
