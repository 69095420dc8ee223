"""The runs of sweep files as they stand in a results folder: complete, held, under way, and how long they take."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from operator import eq
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock, Timeout

from al.config import RunConfig
from al.errors import UserError
from al.identity import Identity
from al.records import RunResult
from al.storage.run_folder import COMPLETE, RunFolder
from sweeps.runner.grid import SweepFile

TAIL = 262_144
"""Bytes read from the end of epochs.jsonl: more than a row of it with a thousand classes."""

SETTING = ("model", "dataset", "variant", "strategy", "init", "stop", "schedule", "class_weights", "image_size")
"""Fields that say how long a run takes, for estimates."""


@dataclass(frozen=True)
class Run:
    """One run of a sweep: the parameters an agent would pass, and where its results go."""

    parameters: Mapping[str, Any]
    config: RunConfig
    program: str
    command: tuple[str, ...]
    sweep: str = ""
    """Name of the sweep, which W&B shows as a tag."""

    @cached_property
    def folder(self) -> Path:
        return RunFolder.of(self.config).path

    @cached_property
    def name(self) -> str:
        return f"{self.folder.parent.name}-{self.config.split_seed}"

    @cached_property
    def digest(self) -> str:
        return self.config.digest()

    @cached_property
    def baseline(self) -> Path | None:
        """Folder of the run that this one is to beat; None where it has no such goal."""
        if self.config.method.baseline or self.config.stop != "baseline":
            return None
        return RunFolder.of(self.config.baseline_of()).path

    def is_complete(self) -> bool:
        """Whether its results are there, whole, and made from this configuration, data folder and source files.

        Whether the images are still the same only train.py can tell, which reads every one.
        """
        try:
            made = RunFolder(self.folder).read_json("config.json")
            identity = Identity.read(made)
            same = identity.differs(Identity.of(self.config, identity.fingerprint)) is None
            return same and made["config"]["data_dir"] == self.config.data_dir and self.result() is not None
        except (UserError, OSError, KeyError, TypeError, AttributeError):
            return False

    def result(self) -> RunResult | None:
        """What it found; None where there is no such file, or not a whole one."""
        try:
            return RunFolder(self.folder).result() if (self.folder / COMPLETE).is_file() else None
        except (UserError, OSError, TypeError):
            return None

    def set_damaged_results_aside(self) -> Path | None:
        """Moves results that cannot be read out of the way, so that the run is made again; where to, None if none."""
        results = self.folder / COMPLETE
        if not results.is_file() or self.result() is not None or self.is_held():
            return None
        return results.rename(results.with_suffix(".damaged"))

    def is_held(self) -> bool:
        return is_held(self.folder)

    def last_epoch(self) -> "EpochSeen | None":
        """Of the last whole row of epochs.jsonl; None before the first."""
        try:
            with (self.folder / "epochs.jsonl").open("rb") as rows:
                rows.seek(max(0, rows.seek(0, os.SEEK_END) - TAIL))
                lines = rows.read().split(b"\n")
        except OSError:
            return None
        for line in reversed(lines[:-1]):
            try:
                row = json.loads(line)
                return EpochSeen(row["epoch"], row["round"], row["labels"], row["test"]["accuracy"])
            except (ValueError, KeyError, TypeError):
                continue
        return None


@dataclass(frozen=True)
class EpochSeen:
    """How far a run is, as its progress shows it."""

    epoch: int
    round: int
    labels: int
    accuracy: float

    def __str__(self) -> str:
        return f"epoch {self.epoch}, round {self.round}, {self.labels} labels, {self.accuracy:.1f} %"


def runs_of(sweep: SweepFile) -> list[Run]:
    """Every run that the file fixes; none where W&B's server chooses them."""
    pairs = zip(sweep.runs, sweep.configs, strict=bool(sweep.runs))
    return [Run(parameters, config, sweep.program, sweep.command, sweep.name) for parameters, config in pairs]


def is_held(folder: Path) -> bool:
    """Whether a process, on this machine or another that shares the folder, is at the run in it."""
    lock = folder / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # of another user: who may not open it cannot be told apart from who has it
        return False


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file; {} where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Estimate:
    """Seconds that runs will take, from those already done: the mean of the runs most alike."""

    def __init__(self, results_dirs: Iterable[str | Path] = ()) -> None:
        self._known: dict[tuple, list[float]] = {}
        for folder in sorted({Path(folder) for folder in results_dirs}):
            for path in sorted(folder.glob(f"*/split_seed_*/{COMPLETE}")):
                metrics = read_json(path)
                self.add(metrics.get("config"), metrics.get("training_time_seconds"))

    def add(self, config: object, seconds: object) -> None:
        """Count a run that is done; what is no configuration or no time, as in a damaged file, counts for nothing."""
        if not (isinstance(config, Mapping) and config and isinstance(seconds, int | float) and isfinite(seconds)):
            return
        setting = tuple(config.get(name) for name in SETTING)
        if not any(isinstance(value, list | dict) for value in setting):
            self._known.setdefault(setting, []).append(float(seconds))

    def seconds(self, config: RunConfig) -> float | None:
        """None where no run of this model and data set has been done."""
        alike = self.alike(config)
        return fmean(alike) if alike else None

    def has_done(self, config: RunConfig) -> bool:
        """Whether a run has been done that is the same in all that says how long it takes."""
        return tuple(getattr(config, name) for name in SETTING) in self._known

    def alike(self, config: RunConfig) -> list[float]:
        """Seconds of the runs of this model and data set that are most alike."""
        wanted = tuple(getattr(config, name) for name in SETTING)
        alike: dict[int, list[float]] = {}
        for known, times in self._known.items():
            if known[:2] == wanted[:2]:
                alike.setdefault(sum(map(eq, known, wanted)), []).extend(times)
        return alike[max(alike)] if alike else []
