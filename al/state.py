"""What a run cannot recompute, saved so that killing it at any moment loses at most one epoch.

A run folder belongs to one process at a time. The lines of `epochs.jsonl` and `rounds.jsonl` are the record of
the run; the checkpoint says how many of them count, so a half-done epoch is taken back and done again.
"""

import fcntl
import json
import os
import pickle
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from al.plateau import Plateau

Row = dict[str, Any]

UNREADABLE = (
    *(RuntimeError, OSError, ValueError, EOFError, LookupError, TypeError),
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading a damaged checkpoint raises."""

COMPLETE = "performance_metrics.json"
"""Written last: a run is complete if and only if its folder has it."""


Identity = dict[str, Any]
"""What must be the same for two runs to be one: the keys of `IDENTITY`."""

IDENTITY = {
    "digest": "of another configuration",
    "fingerprint": "on other images",
    "sources": "from other weights or zero-shot outputs",
}


def identity_of(config_json: Row) -> Identity:
    """The identity that a run wrote into its `config.json`."""
    return {
        "digest": config_json["digest"],
        "fingerprint": config_json["data"]["fingerprint"],
        "sources": config_json.get("sources", {}),
    }


class HeldElsewhere(Exception):
    """Another process works on this run."""


class CorruptCheckpoint(Exception):
    """A checkpoint that cannot be read, now out of the way at the path that is its argument."""


def write_atomically(path: Path, data: bytes | str) -> None:
    """The file holds the old contents or all of the new, whenever the process dies."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing; for the process that has the folder to itself."""
    for leftover in folder.glob(".*.*[0-9]"):
        leftover.unlink(missing_ok=True)


class JsonLines:
    """An append-only file of one JSON object a line, each on disk before the next begins."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, row: Row) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """All whole lines; what a killed process left of its last one is passed over."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def keep(self, count: int) -> list[Row]:
        """Cuts the file to its first `count` rows and returns them."""
        rows = self.rows()[:count]
        write_atomically(self.path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        return rows


@dataclass
class Labelled:
    """Which training-set rows are labelled, for what use, and with which label. Rows are in order of acquisition."""

    train: NDArray[np.int64]
    """[n] rows trained on."""
    val: NDArray[np.int64]
    """[m] rows held out for validation."""
    given: NDArray[np.int64]
    """[N] label of every labelled row as training believes it, -1 where unlabelled."""
    free: NDArray[np.int64]
    """[f] rows whose label is a machine's, not a person's."""

    @classmethod
    def none(cls, size: int) -> "Labelled":
        """No label yet for any of `size` images."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, np.full(size, -1), nothing)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[N] True where labelled."""
        return self.given >= 0

    @property
    def count(self) -> int:
        return len(self.train) + len(self.val)

    def counts_by_class(self, classes: int) -> NDArray[np.int64]:
        """[C] labels of each class, as given."""
        return np.bincount(self.given[self.mask], minlength=classes)


@dataclass
class RunState:
    """Everything that changes while a run goes on, but for the model itself."""

    labelled: Labelled
    epoch: int = 0
    """Epochs done."""
    round: int = 0
    """Acquisitions done."""
    fit_epoch: int = 0
    """Epochs done since the labelled set last changed."""
    plateau: Plateau | None = None
    """Early stopping and learning rate of the present fit."""
    best: Row | None = None
    """Metrics of the best epoch of the present fit."""
    stands: Row | None = None
    """Test metrics of the best epoch of the latest fit: its point on the learning curve."""
    finished: bool = False
    seconds: float = 0.0
    """Seconds of all epochs and rounds so far, over all attempts."""


class RunFolder:
    """`results/<cell>/split_seed_<s>/`: the files of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.epochs = JsonLines(path / "epochs.jsonl")
        self.rounds = JsonLines(path / "rounds.jsonl")
        self.checkpoint_path = path / "checkpoint.pt"

    @classmethod
    def of(cls, config: Any) -> "RunFolder":
        return cls(Path(config.results_dir) / config.cell / f"split_seed_{config.split_seed}")

    @property
    def complete(self) -> bool:
        return (self.path / COMPLETE).is_file()

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file of the run, None where there is none.

        Raises:
            UserError: the file is not JSON.
        """
        path = self.path / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error}); remove {self.path} and start again") from None

    def check_identity(self, identity: Identity) -> None:
        """Refuses to go on with, or to use, what was made otherwise.

        Raises:
            UserError: the folder holds a run of another configuration, on other images or from other weights.
        """
        made_by = self.read_json("config.json")
        if made_by is None:
            return
        found = identity_of(made_by)
        for name, what in IDENTITY.items():
            if found[name] != identity[name]:
                raise UserError(f"{self.path}: holds a run {what}; use another results_dir or remove it")

    def check_writable(self) -> None:
        """Raises UserError where the folder can be neither made nor written; makes nothing itself."""
        place = self.path
        while not place.exists() and place != place.parent:
            place = place.parent
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise UserError(f"results_dir: {self.path} cannot be written; name another results_dir")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps every other process out of it.

        Raises:
            HeldElsewhere: another process is in it; names its host and process id.
            UserError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("a+")
        except OSError as error:
            raise UserError(
                f"results_dir: {self.path} cannot be written ({error.strerror}); name another results_dir"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise HeldElsewhere(f"{self.path} is held by {_holder(lock.read())}") from None
            lock.seek(0)
            lock.truncate()
            json.dump({"pid": os.getpid(), "host": socket.gethostname()}, lock)
            lock.flush()
            remove_leftovers(self.path)
            yield

    def save_checkpoint(self, state: RunState, learner: Any, identity: Identity) -> None:
        """Replaces the checkpoint in one step. Safe against a kill; after a power cut the run may start again.

        Args:
            learner: anything with `state_dict()` of tensors and plain values.
            identity: what must be the same where it is loaded.
        """
        import torch

        progress = {name: value for name, value in vars(state).items() if name not in ("labelled", "plateau")}
        contents = {
            "identity": identity,
            "labelled": {name: torch.from_numpy(array) for name, array in vars(state.labelled).items()},
            "plateau": vars(state.plateau),
            "progress": progress,
            "learner": learner.state_dict(),
        }
        temporary = self.path / f".checkpoint.{os.getpid()}"
        try:
            torch.save(contents, temporary)
            temporary.replace(self.checkpoint_path)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, learner: Any, identity: Identity) -> RunState | None:
        """Puts the learner back to the checkpoint and returns the state beside it; None where there is none.

        Nothing in the file is executed.

        Raises:
            CorruptCheckpoint: it cannot be read; it is set aside first.
            UserError: it is of another configuration or of other images.
        """
        import torch

        if not self.checkpoint_path.exists():
            return None
        try:
            with zipfile.ZipFile(self.checkpoint_path) as archive:  # torch does not look at the checksums
                if damaged := archive.testzip():
                    raise ValueError(damaged)
            contents = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
            labelled = Labelled(**{name: tensor.numpy() for name, tensor in contents["labelled"].items()})
            state = RunState(labelled, plateau=Plateau(**contents["plateau"]), **contents["progress"])
        except UNREADABLE:
            aside = self.path / "checkpoint.corrupt"
            self.checkpoint_path.replace(aside)
            raise CorruptCheckpoint(aside) from None
        if contents["identity"] != identity:
            raise UserError(f"{self.path}: made by another configuration; use another results_dir or remove it")
        learner.load_state_dict(contents["learner"])
        return state


def _holder(lock_text: str) -> str:
    try:
        holder = json.loads(lock_text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "another process"
