"""What W&B's agent does to start a run: its parameter file, its command line, its environment."""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

MACROS = (
    *("env", "interpreter", "program", "args", "args_no_hyphens", "args_append_hydra", "args_override_hydra"),
    *("args_no_equals", "args_no_boolean_flags", "args_json", "args_json_file"),
)
ENVIRONMENT_MACRO = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def parameter_file(parameters: Mapping[str, Any]) -> str:
    """The YAML text that `WANDB_SWEEP_PARAM_PATH` names: {name: {value: v}}, as the agent writes it."""
    content = {name: {"value": value} for name, value in parameters.items()}
    return "wandb_version: 1\n\n" + yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


def command_line(command: Sequence[str], program: str, parameters: Mapping[str, Any], json_file: str) -> list[str]:
    """A sweep's `command` with its macros filled in, as the agent fills them in: an argument list, no shell.

    Args:
        json_file: what `${args_json_file}` becomes; the caller writes the file where the command has that macro.
    """
    values = _macros(parameters) | {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [program],
        "args_json_file": [json_file],
    }
    filled = []
    for part in command:
        part = ENVIRONMENT_MACRO.sub(lambda match: os.environ.get(match[1], match[1]), part)
        filled += values.get(part[2:-1], []) if part.startswith("${") and part.endswith("}") else [part]
    return filled


def _macros(parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    plain = [f"{name}={value}" for name, value in parameters.items()]
    switches = [
        name if value is True else f"{name}={value}" for name, value in parameters.items() if value is not False
    ]
    return {
        "args": [f"--{text}" for text in plain],
        "args_no_hyphens": plain,
        "args_append_hydra": [f"+{text}" for text in plain],
        "args_override_hydra": [f"++{text}" for text in plain],
        "args_no_equals": [word for name, value in parameters.items() for word in (f"--{name}", str(value))],
        "args_no_boolean_flags": [f"--{text}" for text in switches],
        "args_json": [json.dumps(dict(parameters))],
    }


def environment(threads: int) -> dict[str, str]:
    """This process's environment for a run or an agent: the same Python first on PATH, the cores divided.

    Thread numbers that the user has set are kept.
    """
    variables = dict(os.environ)
    # A run inside another run's or agent's environment would report to that one.
    for name in ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID", "WANDB_SERVICE"):
        variables.pop(name, None)
    variables.setdefault("OMP_NUM_THREADS", str(threads))
    here = str(Path(sys.executable).parent)
    if shutil.which("python", path=here):
        variables["PATH"] = os.pathsep.join([here, variables.get("PATH", os.defpath)])
    return variables


def with_tag(sweep: str) -> dict[str, str]:
    """`WANDB_TAGS` with the sweep's name after what the user has put there."""
    own = os.environ.get("WANDB_TAGS", "")
    return {"WANDB_TAGS": ",".join(filter(None, [own, sweep.replace(",", " ")]))} if sweep else {}


def cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(jobs: int) -> int:
    """Cores of this machine for each of `jobs` processes, at least one."""
    return max(1, cores() // jobs)
