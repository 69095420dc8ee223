"""`results/<cell>/split_seed_<s>/`: the files of one run, which belongs to one process at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from al.errors import HeldElsewhere, UserError, first_line
from al.identity import Identity, sha256
from al.records import EpochRecord, RoundRecord, RunResult
from al.storage.files import RecordLines, remove_leftovers, writing

if TYPE_CHECKING:
    from al.config import RunConfig

BESIDE = ("best_model.safetensors", "al_tracking.json", "epochs.jsonl", "rounds.jsonl")
"""Files that a complete run has beside its results."""
COMPLETE = "performance_metrics.json"
"""Written last: a run is complete if and only if its folder has it."""


class RunFolder:
    """Where the files of one run lie, read and guarded."""

    def __init__(self, path: Path):
        self.path = path
        self.epochs = RecordLines(path / "epochs.jsonl", EpochRecord)
        self.rounds = RecordLines(path / "rounds.jsonl", RoundRecord)

    @classmethod
    def of(cls, config: "RunConfig") -> "RunFolder":
        return cls(Path(config.results_dir) / config.cell / f"split_seed_{config.split_seed}")

    @property
    def complete(self) -> bool:
        return (self.path / COMPLETE).is_file()

    def result(self) -> RunResult:
        """What a complete run found.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            return RunResult.read(self.read_json(COMPLETE))
        except ValueError:
            raise UserError(f"{self.path / COMPLETE}: damaged; remove {self.path} and start again") from None

    def damage(self) -> str | None:
        """What is wrong with the files of a complete run, in words; None where nothing is."""
        try:
            result = RunResult.read(self.read_json(COMPLETE))
            if len(self.epochs.read()) != result.total_epochs:
                return "epochs.jsonl has other lines than it was finished with"
            self.rounds.read()
        except UserError as error:
            return str(error).partition(";")[0]
        except ValueError as error:
            return first_line(error)
        for name in BESIDE:
            file = self.path / name
            if not file.is_file():
                return f"{name} is missing"
            if result.files.get(name) not in (None, sha256(file)):
                return f"{name} is not what the run wrote"
        return None

    def set_results_aside(self) -> Path:
        """Make the run incomplete again; its results stay beside it under another name, which is returned."""
        aside = self.path / f"{COMPLETE}.damaged"
        with suppress(FileNotFoundError):  # another process, started at the same time, was quicker
            (self.path / COMPLETE).replace(aside)
        return aside

    def read_json(self, name: str) -> Mapping | None:
        """The contents of a JSON file of the run, None where there is none.

        Raises:
            UserError: the file does not hold a JSON object.
        """
        path = self.path / name
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error}); remove {self.path} and start again") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: not what a run writes there; remove {self.path} and start again")
        return content

    def identity(self) -> Identity | None:
        """What the run in it is, as its `config.json` says; None where there is none.

        Raises:
            UserError: the file is damaged.
        """
        made_by = self.read_json("config.json")
        if made_by is None:
            return None
        try:
            return Identity.read(made_by)
        except (KeyError, TypeError, AttributeError):
            raise UserError(
                f"{self.path / 'config.json'}: does not say what the run is; remove {self.path} and start again"
            ) from None

    def check_identity(self, identity: Identity) -> None:
        """Refuse to go on with, or to use, what was made otherwise.

        Raises:
            UserError: the folder holds a run of another configuration, on other images or from other weights.
        """
        made_by = self.identity()
        if made_by is None:
            if self.complete:
                raise UserError(f"{self.path}: results without config.json; remove {self.path} and start again")
            return
        if what := identity.differs(made_by):
            raise UserError(f"{self.path}: holds a run {what}; use another results_dir or remove it")

    def check_writable(self) -> None:
        """Raises UserError where the folder can be neither made nor written; makes nothing itself."""
        place = self.path
        while not place.exists() and place != place.parent:
            place = place.parent
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise UserError(f"results_dir: {self.path} cannot be written; name another results_dir")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep every other process out of it.

        The lock is the kernel's, on a file that says who holds it: it goes with its process, however that ends.

        Raises:
            HeldElsewhere: another process is in it; names its host and process id.
            UserError: the folder cannot be written.
            NoRoom: the disk is full.
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
            with writing(self.path):
                yield


def _holder(lock_text: str) -> str:
    try:
        holder = json.loads(lock_text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "another process"
