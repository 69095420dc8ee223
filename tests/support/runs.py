"""What tests read from the folders of runs, and when two runs count as the same."""

import json
from pathlib import Path
from typing import Any

TIMES = {"seconds", "time", "training_time_seconds", "peak_memory_mb"}
PLACES = {"files", "results_dir", "data_dir", "wandb_run_id", "git_commit", "checkpoint_seconds", "images_on"}


def only_run(results: Path) -> Path:
    """The one run folder in a results folder."""
    (folder,) = results.glob("*/split_seed_*")
    return folder


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def without(value: Any, names: set[str]) -> Any:
    """A JSON value without those keys, at any depth."""
    if isinstance(value, dict):
        return {key: without(entry, names) for key, entry in value.items() if key not in names}
    return [without(entry, names) for entry in value] if isinstance(value, list) else value


def assert_same(folder: Path, reference: Path) -> None:
    """Two finished runs have the same files with the same contents, bit for bit but for times and places.

    Pictures are compared by name only.
    """
    assert files(folder) == files(reference)
    for name in sorted(files(reference)):
        if name.endswith(".jsonl"):
            found, expected = read_lines(folder / name), read_lines(reference / name)
        elif name.endswith(".json"):
            found, expected = read_json(folder / name), read_json(reference / name)
        elif name.endswith(".safetensors"):
            found, expected = (folder / name).read_bytes(), (reference / name).read_bytes()
        else:
            continue
        assert without(found, TIMES | PLACES) == without(expected, TIMES | PLACES), name


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder: files with their contents, and folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in folder.rglob("*")
    }
