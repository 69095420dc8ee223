"""`proposals/round_NNN/`: a table, Label Studio's tasks, folders of links, a contact sheet; all or nothing."""

import csv
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from al.errors import NoRoom
from al.storage.files import FULL
from labelling.contact_sheet import contact_sheet
from labelling.formats import NONE_OF_THEM, UNSORTED
from labelling.project import PARTIAL, PROPOSAL, Project
from labelling.records import Pick, Proposal
from labelling.small_copies import small_copy

COLUMNS = ("path", "rank", "score", "predicted", "probability", "nearest", "nearest_label", "audit", "sha256")
TO_FILL = ("label", "skip")
TASK_SIDE = 1024
"""Pixels of the longer side of an image that is put into a task."""
PREDICTIONS = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """What the model of a round makes of images, known by content."""

    sha256: NDArray[np.uint8]
    """[n, 32]"""
    predicted: NDArray[np.int32]
    """[n] indices into the proposal's classes."""
    probability: NDArray[np.float32]
    """[n] of that class."""

    @classmethod
    def of(cls, digests: Sequence[str], probs: Sequence[NDArray[np.float32]]) -> "Predictions":
        """From probabilities [n, C] in parts."""
        packed = np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(len(digests), 32)
        best = [part.argmax(1) for part in probs]
        top = [part.max(1) for part in probs]
        return cls(packed, np.concatenate(best).astype(np.int32), np.concatenate(top).astype(np.float32))

    @classmethod
    def read(cls, folder: Path) -> "Predictions | None":
        """Those of a round; None for a cold start."""
        path = folder / PREDICTIONS
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            return cls(file["sha256"], file["predicted"], file["probability"])

    def by_image(self) -> dict[str, int]:
        return {bytes(digest).hex(): int(found) for digest, found in zip(self.sha256, self.predicted)}

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, sha256=self.sha256, predicted=self.predicted, probability=self.probability)


def write_proposal(project: Project, proposal: Proposal, predictions: Predictions | None, image_url: str) -> Path:
    """Write everything into a folder beside the round's and rename it: what has the round's name is whole.

    Raises:
        NoRoom: the disk is full.
    """
    final = project.folder_of(proposal.round)
    partial = project.proposals / f"{PARTIAL}{final.name}"
    try:
        partial.mkdir(parents=True)
        texts = {
            PROPOSAL: json.dumps(proposal.written(), indent=1, allow_nan=False) + "\n",
            "next.csv": table(proposal),
            "label_studio.json": json.dumps(tasks(project.data, proposal, image_url), indent=1),
            "label_studio.xml": label_config(proposal.classes),
            "contact_sheet.html": contact_sheet(project.data, proposal),
        }
        for name, text in texts.items():
            (partial / name).write_bytes(text.encode())  # UTF-8, as `accept` reads it, in every locale
        link_by_class(project.data, proposal, partial / "by_class")
        if predictions is not None:
            predictions.write(partial / PREDICTIONS)
        _to_disk(partial)
        partial.rename(final)
        _sync(project.proposals)
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom(final) from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _to_disk(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def table(proposal: Proposal) -> str:
    """`next.csv`: a line for each pick, and the columns `label` and `skip` to be filled in."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, *TO_FILL])
    for pick in proposal.picks:
        cells = pick.written() | {"audit": "audit" if pick.audit else ""}
        if pick.probability is not None:
            cells["probability"] = f"{pick.probability:.4f}"
        writer.writerow([*("" if cells[name] is None else cells[name] for name in COLUMNS), "", ""])
    return out.getvalue()


def tasks(data: Path, proposal: Proposal, image_url: str) -> list[dict[str, object]]:
    """Label Studio's tasks in order of rank, each with the model's prediction, whose score is its probability."""
    found = []
    for pick in proposal.picks:
        known = {"path": pick.path, "sha256": pick.sha256, "round": proposal.round, "rank": pick.rank}
        known |= {"audit": pick.audit, "acquisition_score": pick.score, "nearest": pick.nearest}
        task: dict[str, object] = {"data": {"image": _address(data, pick, image_url), **known}}
        if pick.predicted is not None:
            result = {"from_name": "label", "to_name": "image", "type": "choices"}
            result |= {"value": {"choices": [pick.predicted]}}
            made_by = {"model_version": f"round {proposal.round}", "score": pick.probability, "result": [result]}
            task["predictions"] = [made_by]
        found.append(task)
    return found


def _address(data: Path, pick: Pick, image_url: str) -> str:
    return small_copy(data / pick.path, TASK_SIDE) if image_url == "data" else image_url + quote(pick.path)


def label_config(classes: Sequence[str]) -> str:
    """The labelling interface of a Label Studio project for these tasks."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in (*classes, NONE_OF_THEM))
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <Choices name="label" toName="image" choice="single" showInLine="true">\n{choices}  </Choices>\n</View>\n'
    )


def link_by_class(data: Path, proposal: Proposal, folder: Path) -> None:
    """`<predicted class>/NNNN_<file>`: links to be moved to the right class by hand; `unsorted` has the audit's."""
    names = [name for name in proposal.classes if _is_folder_name(name)]
    for name in (*names, NONE_OF_THEM, UNSORTED[0]):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, pick in enumerate(proposal.picks, 1):
        place = pick.predicted if pick.predicted in names else UNSORTED[0]
        link = folder / place / f"{number:04d}_{_short(pick.path.rpartition('/')[2])}"
        original = (data / pick.path).resolve()
        try:
            link.symlink_to(original)
        except OSError:  # a file system without links
            shutil.copyfile(original, link)


def _short(name: str) -> str:
    path = Path(name)
    return path.stem.encode()[:200].decode(errors="ignore") + path.suffix


def _is_folder_name(name: str) -> bool:
    plain = "/" not in name and "\0" not in name and not name.startswith(".") and name not in UNSORTED
    return plain and 0 < len(name.encode()) <= 255
