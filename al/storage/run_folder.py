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
from pathlib import Path
from typing import Any

from al.errors import UserError
from al.identity import IDENTITY, Identity, identity_of
from al.labels import Labelled
from al.learning.early_stopping import Plateau
from al.run_state import RunState
from al.storage.files import JsonLines, remove_leftovers

UNREADABLE = (
    *(RuntimeError, OSError, ValueError, EOFError, LookupError, TypeError),
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading a damaged checkpoint raises."""

COMPLETE = "performance_metrics.json"
"""Written last: a run is complete if and only if its folder has it."""


class HeldElsewhere(Exception):
    """Another process works on this run."""


class CorruptCheckpoint(Exception):
    """A checkpoint that cannot be read, now out of the way at the path that is its argument."""


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
