"""What configurations are called: by what tells them from each other, in words."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from al.config import RunConfig
from sweeps.report.load import Run

WORDS = {
    ("init", "clip"): "CLIP start",
    ("init", "random"): "random start",
    ("stop", "baseline"): "until the baseline is beaten",
    ("class_weights", True): "class weights",
    ("pool_scope", "variant"): "pool: the variant",
    ("pool_scope", "full"): "pool: the whole training set",
}
SILENT = {("init", "stratified"), ("stop", "budget"), ("class_weights", False), ("budget", None)}


def differing(configs: Iterable[RunConfig]) -> set[str]:
    """Fields in which some of these configurations differ, the split seed aside."""
    seen: dict[str, set[str]] = defaultdict(set)
    for config in configs:
        for name, value in _fields(config).items():
            seen[name].add(repr(value))
    return {name for name, values in seen.items() if len(values) > 1} - {"split_seed"}


def _fields(config: RunConfig) -> dict[str, object]:
    """Every field that has an effect, those without one at their default."""
    return {name: field.default for name, field in RunConfig.model_fields.items()} | config.outcome_fields()


def told_fields(config: RunConfig, fields: Iterable[str]) -> list[tuple[str, object]]:
    """Those of `fields` that have an effect on this configuration, with their values."""
    known, read = _fields(config), config.reads()
    return [(name, known[name]) for name in sorted(fields) if name in read]


def described(config: RunConfig, fields: Iterable[str]) -> list[str]:
    """What tells a configuration from others that differ in `fields`, in words, but for what goes without saying."""
    pairs = [(name, tuple(value) if isinstance(value, list) else value) for name, value in told_fields(config, fields)]
    return [WORDS.get(pair) or assigned(*pair) for pair in pairs if pair not in SILENT]


def assigned(name: str, value: object) -> str:
    """`name=value`, in the word that `train.py --help` has for no value."""
    return f"{name}={'unset' if value is None else value}"


def files_told(run: Run, among: Iterable[Run], names: Iterable[str] | None = None) -> list[str]:
    """`features file 3f2a90c1`: the beginning of the hash of each file that is another in some run."""
    seen: dict[str, set[str]] = defaultdict(set)
    for other in among:
        for name, digest in other.sources.items():
            seen[name].add(digest)
    told = [name for name in sorted(run.sources) if len(seen[name]) > 1 and (names is None or name in names)]
    return [f"{name} file {run.sources[name][:8]}" for name in told]


def slug(title: str, taken: Counter) -> str:
    """A title as part of a file's name, numbered where another has it already."""
    short = title.lower().replace("until the baseline is beaten", "to baseline").replace("class weights", "weighted")
    short = re.sub(r"[^a-z0-9]+", "_", short).strip("_")[:80]
    taken[short] += 1
    return short if taken[short] == 1 else f"{short}_{taken[short]}"
