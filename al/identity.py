"""Local files that a configuration names by path: their content is part of what a run is."""

import hashlib
from pathlib import Path
from typing import Any

FILE = "file:"
"""A `clip_model` that starts so is a CSV file of zero-shot outputs, not a model; `features` likewise of embeddings."""


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def local_sources(config: Any) -> dict[str, str]:
    """SHA-256 by field, of the weights file and the folders of models that a `RunConfig` takes from this machine.

    The same path can hold other weights tomorrow; a run that was made from these is not gone on with from those.
    """
    named = {"model": config.model, "weights": config.weights}
    if config.init == "clip" and not config.method.baseline:
        named["clip_model"] = config.clip_model.removeprefix(FILE)
    if config.uses_embeddings:
        named["features"] = config.features.removeprefix(FILE)
    return {field: digest for field, value in named.items() if (digest := _digest(Path(value)))}


def _digest(path: Path) -> str | None:
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        return None
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


Identity = dict[str, Any]
"""What must be the same for two runs to be one: the keys of `IDENTITY`."""

IDENTITY = {
    "digest": "of another configuration",
    "fingerprint": "on other images",
    "sources": "from other weights or zero-shot outputs",
}


def identity_of(config_json: dict[str, Any]) -> Identity:
    """The identity that a run wrote into its `config.json`."""
    return {
        "digest": config_json["digest"],
        "fingerprint": config_json["data"]["fingerprint"],
        "sources": config_json.get("sources", {}),
    }
