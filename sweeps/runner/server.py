"""Before a sweep uses W&B: is there a key, and does the server answer?"""

import os

from al.errors import UserError
from al.tracking.server import Unreachable, check_server, mode

WITHOUT_SERVER = "or run the same files without a server: make with OFFLINE=1, or python -m sweeps.local"


def need_server(remedy: str = WITHOUT_SERVER) -> None:
    """Checks in seconds what W&B's own commands find out in minutes or not at all.

    Raises:
        UserError: no API key or one that is not accepted, a WANDB_MODE that keeps runs from the server, or no answer.
    """
    chosen = mode()
    if os.environ.get("WANDB_MODE") and chosen != "online":
        given = os.environ["WANDB_MODE"]
        raise UserError(f"WANDB_MODE={given}: the server would never hear of the runs; unset it, {remedy}")
    if chosen == "offline":
        raise UserError(f"W&B: no API key; run `wandb login` or set WANDB_API_KEY, {remedy}")
    try:
        check_server()
    except Unreachable as error:
        raise UserError(f"W&B: {error}; check the network, {remedy}") from None
