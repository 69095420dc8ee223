"""What makes two runs the same run: configuration, images, and the local files that it names.

The same path can hold other weights or other images tomorrow. Results of other files are never resumed, never passed
over as complete, and never averaged with these.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al.config import RunConfig

REVISION = "@revision"
FILE = "file:"
"""A `clip_model` that starts so is a CSV file of zero-shot outputs, not a model; `features` likewise of embeddings."""
SEAL = "complete.json"
"""A folder with this file is known by it: it has checksums of what lies beside it, which may be hundreds of GB."""


@dataclass(frozen=True)
class Identity:
    """What two runs must have in common to be the same run."""

    digest: str
    """Of the configuration: every field that can change the outcome."""
    fingerprint: str
    """Of the images and their labels."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by parameter, of the local files and folders that the configuration names; of models of the Hub the
    revision, under the parameter's name with `REVISION`."""

    @classmethod
    def of(cls, config: "RunConfig", fingerprint: str) -> "Identity":
        return cls(config.digest(), fingerprint, local_sources(config))

    @classmethod
    def read(cls, config_json: Mapping) -> "Identity":
        """The identity that a run wrote into its `config.json`."""
        data = config_json["data"]
        return cls(config_json["digest"], data["fingerprint"], config_json.get("sources", {}))

    def differs(self, other: "Identity") -> str | None:
        """What differs from `other`, in words; None where nothing does."""
        if self.digest != other.digest:
            return "of another configuration"
        if self.fingerprint != other.fingerprint:
            return "on other images"
        return None if self._sources_match(other) else "from other weights or zero-shot outputs"

    def _sources_match(self, other: "Identity") -> bool:
        """Whether the files are the same; a revision of the Hub that only one of them recorded is not compared."""
        of_one = {*self.sources} ^ {*other.sources}
        unknown = {name for name in of_one if name.endswith(REVISION)}
        names = {*self.sources, *other.sources} - unknown
        return all(self.sources.get(name) == other.sources.get(name) for name in names)

    def written(self) -> dict:
        return asdict(self)


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def local_sources(config: "RunConfig") -> dict[str, str]:
    """What lies behind the names that a run takes its split, models and embeddings from: see `Identity.sources`."""
    named = {"model": config.model, "weights": config.weights}
    if config.init == "clip" and not config.method.baseline:
        named["clip_model"] = config.clip_model.removeprefix(FILE)
    if config.uses_embeddings:
        named["features"] = config.features.removeprefix(FILE)
    if "split_file" in config.outcome_fields():
        named["split_file"] = config.split_file
    found = {name: _content(Path(value)) for name, value in named.items()}
    found |= {name + REVISION: hub_revision(value) for name, value in named.items() if not found[name]}
    return {name: digest for name, digest in found.items() if digest}


def hub_revision(model: str) -> str | None:
    """The commit of a model of the Hugging Face Hub that its cache has; None where there is none."""
    name, _, revision = model.partition("@")
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    if name.count("/") != 1:
        return None
    try:
        return (cache / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")).read_text().strip()
    except (OSError, ValueError):
        return None


def _content(path: Path) -> str | None:
    """Of a file, or of the files of a folder; None where there is neither."""
    if path.is_file():
        return _unchanged(path, *_stamp(path))
    if not path.is_dir():
        return None
    if (path / SEAL).is_file():
        return _content(path / SEAL)
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    listing = "".join(f"{file.name} {_unchanged(file, *_stamp(file))}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@cache
def _unchanged(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, taken once a process while its size and time of change stay the same."""
    return sha256(file)
