"""The parameters of a run that a proposal takes, and what it makes of them. Imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path

from al.config import OWN_FEATURES, STARTERS, RunConfig
from al.errors import UserError, nearest
from al.identity import FILE

DECIDED_HERE: Mapping[str, object] = {"dataset": "imagefolder", "variant": "balanced_100", "schedule": "converge"}
"""Parameters of a run that are not the user's here; a network starts each round from the weights of the first."""
NOT_HERE = frozenset(
    {"dataset", "data_dir", "results_dir", "strict", "variant", "minority_classes", "pool_scope", "budget", "stop"}
    | {"initial_fraction", "initial_min", "batch_fraction", "batch_growth", "init_cleaning", "schedule", "warm_start"}
    | {"clip_model", "clip_prompt"}
)
OPTIONS = tuple(name for name in RunConfig.model_fields if name not in NOT_HERE)
"""Parameters of a run that a proposal takes."""
FROZEN_DEFAULTS = {"model": "frozen", "features": "facebook/dinov2-small", "strategy": "margin"}
COLD_START = "typiclust_typical"
SHOWN_DEFAULTS: Mapping[str, str] = {**FROZEN_DEFAULTS, "init": f"{COLD_START}; without features: random"}
OTHER_TEXTS: Mapping[str, str] = {
    "init": f"how the first images are chosen: random, or on the embeddings that features names: {', '.join(STARTERS)}"
}
"""What help says of parameters that have other defaults, or take fewer values, than in a run."""


def configuration(data: str, options: Mapping[str, str]) -> RunConfig:
    """The run that a proposal is one round of.

    Raises:
        UserError: a parameter that a proposal does not have, or a value against its rule.
    """
    for name in options:
        if name not in OPTIONS:
            raise UserError(f"{name}={options[name]}: no parameter of a proposal; {nearest(name, OPTIONS)}")
    found: dict[str, object] = {**FROZEN_DEFAULTS, **options}
    if "model" in options and options["model"] != "frozen":
        found["features"] = options.get("features", OWN_FEATURES)
    if "init" not in options:
        found["init"] = "random" if found["features"] == OWN_FEATURES else COLD_START
    config = RunConfig.from_mapping({**found, **DECIDED_HERE, "warm_start": False, "data_dir": data})
    if config.features.startswith(FILE):
        _check_knows_contents(Path(config.features.removeprefix(FILE)))
    if config.init not in (*STARTERS, "random"):
        raise UserError(f"init={config.init}: needs labels to begin with; use random or one of {', '.join(STARTERS)}")
    if config.method.baseline:
        raise UserError(f"strategy={config.strategy}: chooses nothing; use another, such as margin or random")
    return config


def _check_knows_contents(path: Path) -> None:
    from data_prep.sharded.reading import is_sharded

    if not is_sharded(path):
        raise UserError(
            f"features={FILE}{path}: embeddings in a file are known by position, images here by content; name a model, "
            "its folder, or a folder made by `python -m data_prep embed`, which knows contents"
        )
