"""The state of the labelling of one folder: `al-labels/` in it, or the folder that `--state` names.

    project.json              folder of images, classes, parameters of the last proposal
    labels.jsonl              every answer that ever came in, a line each, never changed
    audit.json                images that only estimate accuracy
    proposals/round_NNN/      what was proposed; a folder that has this name is whole
    cache/                    digests, embeddings and pixels of the images; may be removed
    status.html

One process at a time writes here; whoever comes second is told who it is.
"""

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from al.errors import HeldElsewhere, UserError
from al.storage.files import RecordLines, remove_leftovers, write_json
from labelling.records import AuditReserve, LabelEvent, Proposal, Settings

STATE = "al-labels"
PROJECT, AUDIT, PROPOSAL = "project.json", "audit.json", "proposal.json"
LOCK, HOLDER = ".lock", "holder.json"
PARTIAL = ".partial-"


class Project:
    """One folder of images and what is known of it."""

    def __init__(self, state: Path, settings: Settings):
        self.state, self.settings = state, settings
        self.events = RecordLines(state / "labels.jsonl", LabelEvent)

    @classmethod
    def create(cls, data: Path, state: Path | None = None) -> "Project":
        """The project of a folder of images, made where there is none yet.

        Raises:
            UserError: no such folder, a state folder of other images, or one that cannot be written.
        """
        data = data.expanduser()
        if not data.is_dir():
            raise UserError(f"--data={data}: no such folder; name the folder with the images")
        for path in (data.absolute(), *([] if state is None else [state.absolute()])):
            if str(path) != (shown := os.fsencode(path).decode(errors="backslashreplace")):
                raise UserError(f"{shown}: a name that is not UTF-8; rename the folder")
        state = (state or data / STATE).expanduser()
        if (state / PROJECT).is_file():
            project = cls.read(state)
            if project.data.resolve() != data.resolve():
                raise UserError(
                    f"--state={state}: belongs to the images in {project.data}; use another folder, or remove it"
                )
            return project
        try:
            state.mkdir(parents=True, exist_ok=True)
            project = cls(state, Settings(data=_stored(data, state)))
            project.save(project.settings)
        except OSError as error:
            raise UserError(f"{state}: cannot be written ({error.strerror}); name another folder by --state") from None
        return project

    @classmethod
    def find(cls, data: Path | None, state: Path | None, *near: Path) -> "Project":
        """The project that a command means: the one named, or the one that a place of `near` lies in.

        Raises:
            UserError: there is none.
        """
        if data is not None or state is not None:
            folder = state or data / STATE
            return cls.read(folder.expanduser())
        for place in near:
            for folder in (place.absolute(), *place.absolute().parents):
                for candidate in (folder, folder / STATE):
                    if (candidate / PROJECT).is_file():
                        return cls.read(candidate)
        raise UserError(
            f"no {STATE} here or above; name the folder of images, --data=DIR (python -m al propose makes it)"
        )

    @classmethod
    def read(cls, state: Path) -> "Project":
        """Raises UserError where there is no project, or its file is damaged."""
        try:
            return cls(state, Settings.model_validate_json((state / PROJECT).read_bytes()))
        except OSError as error:
            raise UserError(
                f"{state / PROJECT}: cannot be read ({error.strerror}); begin with python -m al propose --data=DIR"
            ) from None
        except ValidationError:
            raise UserError(f"{state / PROJECT}: not what was written there; put it right from a copy") from None

    @cached_property
    def data(self) -> Path:
        """The folder of images; stored relative to the state where it lies above it, so that both can be moved."""
        return Path(os.path.normpath(self.state / self.settings.data))

    @property
    def cache(self) -> Path:
        return self.state / "cache"

    @property
    def proposals(self) -> Path:
        return self.state / "proposals"

    def save(self, settings: Settings) -> None:
        write_json(self.state / PROJECT, settings.written())
        self.settings = settings

    def answers(self) -> list[LabelEvent]:
        """All that was ever answered, in order.

        Raises:
            UserError: the store holds what was never written there.
        """
        try:
            return self.events.read()
        except ValueError:
            raise UserError(f"{self.events.path}: a line is no answer; put it right by hand, or from a copy") from None

    def rounds(self) -> list[Proposal]:
        """Every proposal, in order."""
        return [self.proposal(folder) for folder in sorted(self.proposals.glob("round_*")) if folder.is_dir()]

    def proposal(self, folder: Path) -> Proposal:
        try:
            return Proposal.model_validate_json((folder / PROPOSAL).read_bytes())
        except (OSError, ValidationError):
            raise UserError(f"{folder / PROPOSAL}: missing or damaged; remove {folder}") from None

    def folder_of(self, number: int) -> Path:
        return self.proposals / f"round_{number:03d}"

    def audit(self) -> AuditReserve | None:
        path = self.state / AUDIT
        if not path.exists():
            return None
        try:
            return AuditReserve.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise UserError(f"{path}: damaged; put it right from a copy") from None

    def save_audit(self, reserve: AuditReserve) -> None:
        write_json(self.state / AUDIT, reserve.written())

    @contextmanager
    def locked(self, doing: str) -> Iterator[None]:
        """Keep every other process out, sweep what a killed one left half-written, and read the settings anew.

        Raises:
            HeldElsewhere: another process is at it; says which, and since when.
            UserError: the state cannot be written, or its settings are damaged.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.state / LOCK, mode=0o666)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise HeldElsewhere(f"{self.state} is held by {self._holder()}") from None
        except OSError as error:
            raise UserError(
                f"{self.state}: cannot be written ({error.strerror}); name another folder by --state"
            ) from None
        try:
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": time.time()}
            write_json(self.state / HOLDER, holder)
            remove_leftovers(self.state)
            self.events.drop_torn_line()
            self.settings = Project.read(self.state).settings  # another process may have written them meanwhile
            for left in self.proposals.glob(f"{PARTIAL}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not self._holds(error.filename):
                raise
            raise UserError(
                f"{error.filename}: cannot be written ({error.strerror}); see who may write to {self.state}, or name "
                "another folder by --state"
            ) from None
        finally:
            with suppress(OSError):
                (self.state / HOLDER).unlink()
            lock.release()

    def _holds(self, file: str | bytes | None) -> bool:
        return file is not None and Path(os.fsdecode(file)).is_relative_to(self.state)

    def _holder(self) -> str:
        try:
            holder = json.loads((self.state / HOLDER).read_bytes())
            since = time.strftime("%H:%M:%S", time.localtime(holder["since"]))
            return f"process {holder['pid']} on {holder['host']} ({holder['doing']}, since {since})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


def _stored(data: Path, state: Path) -> str:
    inside = state.resolve().is_relative_to(data.resolve())
    return os.path.relpath(data.resolve(), state.resolve()) if inside else str(data.resolve())


def holding(events: list[LabelEvent]) -> dict[str, LabelEvent]:
    """The answer that holds for each image, by SHA-256: the latest that is not disputed."""
    return {event.sha256: event for event in events if event.kind != "disputed"}


def first_rounds(events: list[LabelEvent]) -> dict[str, int]:
    """The round in which each image was first answered, by SHA-256."""
    first: dict[str, int] = {}
    for event in events:
        if event.kind != "disputed":
            first.setdefault(event.sha256, event.round)
    return first
