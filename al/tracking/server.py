"""Which W&B server is meant, whether one is wanted and answers, and where its files lie here. Needs no wandb."""

import base64
import configparser
import contextlib
import json
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from al.errors import UserError, first_line

PUBLIC = "https://api.wandb.ai"
PROJECT = "active-learning"
"""W&B project where WANDB_PROJECT names none."""
PATIENCE = 10.0
"""Seconds that a server may take to say who is asking."""
FINISH_TIMEOUT = "20"
"""Seconds that the end of a run waits for the server; what has not arrived is sent by the next start or `make sync`."""


class Unreachable(Exception):
    """The server gives no answer, or none that helps; the text is one line."""


def mode() -> Literal["online", "offline", "disabled"]:
    """`WANDB_MODE`; where it is unset, online with an API key or under an agent, and offline otherwise.

    Raises:
        UserError: not a mode, or online without a key.
    """
    chosen = os.environ.get("WANDB_MODE") or ("online" if has_key() or "WANDB_SWEEP_ID" in os.environ else "offline")
    known = {"online": "online", "shared": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    if chosen not in known:
        raise UserError(f"WANDB_MODE={chosen}: not a mode of W&B; use online, offline or disabled")
    if known[chosen] == "online" and not has_key():
        raise UserError(f"WANDB_MODE={chosen}: no API key; run `wandb login`, set WANDB_API_KEY, or WANDB_MODE=offline")
    return known[chosen]


def project() -> str:
    return os.environ.get("WANDB_PROJECT") or PROJECT


def base_url() -> str:
    """The server: `WANDB_BASE_URL`, or what `wandb login --host` wrote down."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url.rstrip("/")
    settings = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    with contextlib.suppress(configparser.Error, OSError):
        settings.read([folder / "settings", Path("wandb") / "settings"])
    return settings.get("default", "base_url", fallback=PUBLIC).rstrip("/")


def has_key() -> bool:
    return bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or _api_key())


def _api_key() -> str | None:
    """`WANDB_API_KEY`, or what `wandb login` wrote down for this server."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    host = urlparse(base_url()).hostname or ""
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if path and (found := netrc.netrc(Path(path).expanduser()).authenticators(host)):
                return found[2]
    return None


def keep_files_in(results_dir: str | Path) -> None:
    """W&B's files lie with the results, unless the user said where; what a sync needs is then in one place.

    W&B reads this once, the first time that anything of it is used.
    """
    folder = Path(results_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_DIR", str(folder))
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb" / "data"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
    os.environ.setdefault("WANDB__TRANSACTION_LOG_FLUSH_INTERVAL", "1")  # a kill loses a second of rows, not 15
    os.environ.setdefault("WANDB_FINISH_TIMEOUT", FINISH_TIMEOUT)


def check_server() -> None:
    """Ask the server who we are: W&B's own client tries for minutes where nobody answers.

    Raises:
        UserError: it does not accept the API key.
        Unreachable: no answer within `PATIENCE` seconds, or another than the one asked for.
    """
    outcome: list[Exception | None] = []
    # a thread, as nothing else bounds the look-up of a name and an answer that comes byte by byte
    asking = threading.Thread(target=lambda: outcome.append(_ask()), daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not outcome:
        raise Unreachable(f"no answer from {base_url()} in {PATIENCE:.0f} seconds")
    if outcome[0] is not None:
        raise outcome[0]


def _ask() -> Exception | None:
    """What is wrong with the server's answer, None where nothing is."""
    key = _api_key()
    question = {"operationName": "Viewer", "query": "query Viewer { viewer { id } }", "variables": {}}
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    proxies = {scheme: os.environ.get(f"WANDB_{scheme.upper()}_PROXY") for scheme in ("http", "https")}
    own = urllib.request.ProxyHandler({scheme: proxy for scheme, proxy in proxies.items() if proxy})
    opener = urllib.request.build_opener(*([own] if own.proxies else []))
    try:
        request = urllib.request.Request(f"{base_url()}/graphql", json.dumps(question).encode(), headers)
        with opener.open(request, timeout=PATIENCE) as answer:
            json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403) and key:
            return UserError(
                f"W&B does not accept the API key ({base_url()} answers {error.code}); run `wandb login --relogin`, "
                "set WANDB_API_KEY or WANDB_MODE=offline"
            )
        return None if error.code in (401, 403) else Unreachable(f"{base_url()} answers {error.code}")
    except Exception as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # W&B's client has its own certificates and settings
            return None
        reason = reason if isinstance(reason, BaseException) else error
        return Unreachable(f"no answer from {base_url()}: {first_line(reason)}")
    return None
