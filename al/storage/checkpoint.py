"""What a run cannot recompute, saved so that killing it at any moment loses little: see `checkpoint_seconds`.

The lines of `epochs.jsonl` and `rounds.jsonl` are the record of the run; the checkpoint says how many of them count,
so epochs after it are taken back and done again, with the same outcome.
"""

import math
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al.errors import UserError
from al.identity import Identity
from al.labels import LabelledSet
from al.learning.early_stopping import EarlyStopping
from al.records import BestEpoch
from al.run_state import RunState
from al.storage.files import writing
from al.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from al.learning.learner import Learner, StateDict

LABELLED = {"train": "train", "val": "val", "given": "assigned_labels", "free": "machine_labelled"}
"""Name in the file -> field of the labelled set."""
PROGRESS = {
    **{name: name for name in ("epoch", "round", "fit_epoch", "finished", "seconds", "not_repeatable")},
    "stands": "curve_point",
}
"""Name in the file -> field of the run's state."""

ALIGNED = 8
"""Bytes that every tensor in a checkpoint begins at a multiple of: the widest number's."""

UNREADABLE = (
    *(RuntimeError, OSError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading a damaged checkpoint raises."""


class CorruptCheckpoint(Exception):
    """A checkpoint that a run cannot resume from; says why, and where the file is now."""


class Checkpoint:
    """`checkpoint.pt` of a run folder."""

    def __init__(self, folder: Path):
        self.path, self.folder = folder / "checkpoint.pt", RunFolder(folder)

    def save(self, state: RunState, learner: "Learner", identity: Identity) -> None:
        """Replace the checkpoint in one step. Safe against a kill; after a power cut the run may start again.

        Args:
            identity: what must be the same where it is loaded.

        Raises:
            NoRoom: the disk is full.
        """
        import torch

        labelled = {name: torch.from_numpy(getattr(state.labelled, field)) for name, field in LABELLED.items()}
        progress = {name: getattr(state, field) for name, field in PROGRESS.items()}
        contents = {
            "identity": identity.written(),
            "labelled": labelled,
            "plateau": vars(state.early_stopping),
            "progress": progress | {"best": state.best and state.best.written()},
            "records": self._records(state.epoch, state.round),
            "learner": packed(learner.state_dict()),
        }
        temporary = self.path.with_name(f".checkpoint.{os.getpid()}")
        before = self.path.stat().st_size if self.path.exists() else 0
        with writing(self.path, before):
            try:
                torch.save(contents, temporary)
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)

    def load(self, learner: "Learner", identity: Identity) -> RunState | None:
        """Put the learner back to the checkpoint and return the state beside it; None where there is none.

        Nothing in the file is executed.

        Raises:
            CorruptCheckpoint: it cannot be read, or the records that it counts are not there as they were; it is set
                aside first.
            UserError: it is of another configuration or of other images.
        """
        import torch

        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch does not look at the checksums
                if damaged := archive.testzip():
                    raise ValueError(damaged)
            contents = torch.load(self.path, map_location="cpu", weights_only=True)
            state, made_by = _state(contents), Identity(**contents["identity"])
            weights = unpacked(contents["learner"])
        except UNREADABLE:
            raise self._set_aside("the checkpoint cannot be read") from None
        if identity.differs(made_by):
            raise UserError(f"{self.path.parent}: made by another configuration; use another results_dir or remove it")
        saved = contents.get("records")  # the first versions did not save them
        if saved and saved != self._records(state.epoch, state.round):
            raise self._set_aside("lines of epochs.jsonl or rounds.jsonl were lost or changed")
        learner.load_state_dict(weights)
        return state

    def _records(self, epochs: int, rounds: int) -> dict[str, str | None]:
        """Digests of the lines that the checkpoint counts."""
        return {"epochs": self.folder.epochs.digest(epochs), "rounds": self.folder.rounds.digest(rounds + 1)}

    def _set_aside(self, reason: str) -> "CorruptCheckpoint":
        aside = self.path.with_name("checkpoint.corrupt")
        self.path.replace(aside)
        return CorruptCheckpoint(f"{reason}: set aside as {aside}")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def packed(state: "StateDict") -> dict:
    """A state whose tensors are the bytes of one array; in the place of each is its type, shape and offset in there.

    A network's state has over a thousand tensors: this is one copy from the device in place of one for each.
    """
    import torch

    tensors = list(_tensors(state))
    places: dict[int, tuple] = {}
    arrays, end = [], 0
    for device in dict.fromkeys(tensor.device for tensor in tensors):
        # wide numbers first: so each tensor begins at a multiple of its numbers' width
        there = sorted((t for t in tensors if t.device == device), key=lambda tensor: -tensor.element_size())
        for tensor in there:
            places[id(tensor)] = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), end)
            end += tensor.nbytes
        arrays.append(torch.cat([tensor.detach().reshape(-1).view(torch.uint8) for tensor in there]).cpu())
        if gap := -end % ALIGNED:
            arrays.append(torch.zeros(gap, dtype=torch.uint8))
            end += gap
    return {
        "places": _mapped(state, lambda tensor: places[id(tensor)], torch.Tensor),
        "bytes": arrays[0] if len(arrays) == 1 else torch.cat([torch.empty(0, dtype=torch.uint8), *arrays]),
    }


def unpacked(saved: dict) -> "StateDict":
    """The state that `packed` was given; one that is not packed, as earlier versions saved it, is returned as it is."""
    import torch

    if saved.keys() != {"places", "bytes"}:
        return saved

    def tensor(place: tuple[str, tuple[int, ...], int]) -> torch.Tensor:
        kind, shape, start = place
        dtype = getattr(torch, kind)
        taken = saved["bytes"][start : start + math.prod(shape) * dtype.itemsize]
        return taken.view(dtype).view(shape)

    return _mapped(saved["places"], tensor, tuple)


def _tensors(state: "StateDict") -> Iterator["torch.Tensor"]:
    """All tensors of a state; one that is in several places comes once."""
    import torch

    found: dict[int, torch.Tensor] = {}
    _mapped(state, lambda tensor: found.setdefault(id(tensor), tensor), torch.Tensor)
    return iter(found.values())


def _mapped(state: "StateDict", change: Callable[[Any], Any], kind: type) -> "StateDict":
    """The same nested state with `change` made to every value of `kind`."""
    return {
        name: change(value)
        if isinstance(value, kind)
        else _mapped(value, change, kind)
        if isinstance(value, dict)
        else value
        for name, value in state.items()
    }


def _state(contents: dict) -> RunState:
    labelled = LabelledSet(**{field: contents["labelled"][name].numpy() for name, field in LABELLED.items()})
    saved = {"not_repeatable": [], **contents["progress"]}  # which the first versions did not note
    progress = {field: saved.pop(name) for name, field in PROGRESS.items()}
    best = saved.pop("best")
    if saved:
        raise ValueError(f"fields of another version: {', '.join(saved)}")
    return RunState(
        labelled, EarlyStopping(**contents["plateau"]), best=None if best is None else BestEpoch.read(best), **progress
    )
