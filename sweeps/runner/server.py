"""What sweeps ask of W&B before they use it: whether there is a key, and whether anybody answers."""

import os
import urllib.error
import urllib.request

from al.errors import UserError
from al.tracking.wandb import mode

PROJECT = "active-learning"
"""W&B project of runs and sweeps where WANDB_PROJECT says nothing else."""
TIMEOUT = 10.0
WITHOUT_SERVER = "or run the same files without a server: python -m sweeps.runner.local"


def base_url() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def need_server(remedy: str = WITHOUT_SERVER) -> None:
    """Checks in seconds what W&B's own commands find out in minutes or not at all.

    Raises:
        UserError: no API key, a WANDB_MODE that keeps runs from the server, or no answer from it.
    """
    chosen = mode()
    if os.environ.get("WANDB_MODE") and chosen not in ("online", "shared"):
        raise UserError(f"WANDB_MODE={chosen}: the server would never hear of the runs; unset it, {remedy}")
    if chosen == "offline":
        raise UserError(f"W&B: no API key; run `wandb login` or set WANDB_API_KEY, {remedy}")
    try:
        urllib.request.urlopen(base_url(), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return  # an answer, if only that there is no page
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"W&B: no answer from {base_url()} ({reason}); check the network, {remedy}") from None
