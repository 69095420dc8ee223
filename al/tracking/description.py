"""What W&B knows of a run before its first epoch: its id, group, configuration and tags. Needs no wandb."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al.errors import UserError
from al.identity import Identity
from al.storage.run_folder import RunFolder
from al.tracking.server import mode

if TYPE_CHECKING:
    from al.config import RunConfig


@dataclass(frozen=True)
class Description:
    """What W&B knows of a run before its first epoch, and where its files lie."""

    folder: RunFolder
    cell: str
    parameters: Mapping[str, Any]
    digest: str
    fingerprint: str
    sources: Mapping[str, str]
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: "RunConfig", fingerprint: str) -> "Description":
        identity, folder = Identity.of(config, fingerprint), RunFolder.of(config)
        parameters = config.model_dump(mode="json")
        return cls(folder, config.cell, parameters, identity.digest, fingerprint, identity.sources, own_tags())

    @classmethod
    def read(cls, folder: RunFolder) -> "Description":
        """From the `config.json` that the run wrote.

        Raises:
            UserError: there is none, or it says something else.
        """
        try:
            known = folder.read_json("config.json")
            identity, parameters = Identity.read(known), known["config"]
            tags = tuple(known.get("wandb_tags", ()))
            missing = {"dataset", "variant", "strategy", "split_seed"} - set(parameters)
            if missing:
                raise KeyError(*missing)
            return cls(folder, known["cell"], parameters, identity.digest, identity.fingerprint, identity.sources, tags)
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{folder.path / 'config.json'}: does not say what the run is; run it again") from None

    @property
    def results_dir(self) -> Path:
        return self.folder.path.parent.parent

    @property
    def config(self) -> dict[str, object]:
        """`run.config` on W&B."""
        known = {"digest": self.digest, "cell": self.cell, "fingerprint": self.fingerprint}
        return dict(self.parameters) | known | ({"sources": dict(self.sources)} if self.sources else {})


def own_tags() -> tuple[str, ...]:
    """`WANDB_TAGS`, where the local runner puts the sweep's name."""
    return tuple(tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag.strip())


def id_of_run(known: str | None) -> str:
    """W&B's id for this run: the agent's, else the one it had before, else a new one; empty where W&B is off."""
    if mode() == "disabled":
        return ""
    return os.environ.get("WANDB_RUN_ID") or known or secrets.token_hex(4)
