"""The sweep file of a comparison: what `sweeps.local` runs here, and `wandb agent` anywhere."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from al.errors import UserError
from al.storage.files import write_atomically
from sweeps.compare.choosing import Choice, Images

NAME = "compare.yaml"
COMMAND = ["${env}", "${interpreter}", "${program}", "${args}"]


def sweep_content(images: Images, choice: Choice, seeds: Sequence[int], results_dir: Path) -> dict[str, object]:
    """The sweep as W&B is given it: the strategies times the seeds, with all else the same."""
    constants = dict(choice.parameters) | {"results_dir": str(results_dir)}
    parameters = {name: {"value": value} for name, value in constants.items()}
    parameters["strategy"] = {"values": list(choice.strategies)}
    parameters["split_seed"] = {"values": list(seeds)}
    return {
        "program": "train.py",
        "name": f"compare {images.folder.name}",
        "description": f"Which strategy saves labels on {images.folder.name}",
        "method": "grid",
        "metric": {"name": "test/accuracy", "goal": "maximize"},
        "command": COMMAND,
        "parameters": parameters,
    }


def write_sweep(path: Path, content: dict[str, object], choice: Choice) -> None:
    """Write the sweep, its reasons on top; a file that says the same already stays as it is."""
    reasons = "".join(f"# {reason.what}: {reason.chosen}: {reason.why}\n" for reason in choice.reasons)
    head = "# Written by `python -m sweeps.compare`, and run by it; `wandb sweep` and `wandb agent` run it too.\n"
    text = head + reasons + yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def check_same_folder(path: Path, folder: Path) -> None:
    """Refuse a results folder that holds the comparison of other images.

    Raises:
        UserError: its sweep file names another data folder.
    """
    earlier = earlier_value(path, "data_dir")
    if earlier not in (None, str(folder)):
        raise UserError(f"{path.parent}: holds a comparison on {earlier}; name another folder with --results-dir")


def earlier_value(path: Path, name: str) -> str | None:
    """A parameter that the sweep file of an earlier comparison gives all runs; None where there is none."""
    try:
        return str(yaml.safe_load(path.read_text(encoding="utf-8"))["parameters"][name]["value"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return None
