"""What a W&B sweep, or the local runner in its place, tells a run: its parameters. Imports no wandb."""

import os
from pathlib import Path

import yaml

from al.errors import UserError

SWEEP_PARAMETERS = "WANDB_SWEEP_PARAM_PATH"


def under_sweep() -> bool:
    """Whether an agent, or the local runner in its place, started this process."""
    return SWEEP_PARAMETERS in os.environ or "WANDB_SWEEP_ID" in os.environ


def sweep_parameters() -> dict[str, object]:
    """The parameters that a sweep set for this run: the same file that `wandb.init` puts into `run.config`.

    Raises:
        UserError: the file is missing or is not {name: {value: ...}}.
    """
    path = os.environ.get(SWEEP_PARAMETERS)
    if not path:
        return {}
    try:
        entries = yaml.safe_load(Path(path).read_text()) or {}
        own = {"wandb_version", "_wandb"}  # what the agent adds, the second to the parameters of a resumed run
        return {name: entry["value"] for name, entry in entries.items() if name not in own}
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{SWEEP_PARAMETERS}={path}: not a sweep's parameters ({reason}); unset it") from None
