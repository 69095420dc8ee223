"""What belongs together: runs -> cells -> settings -> families.

- A cell is one configuration on one data set (by fingerprint): its runs differ in the split seed only.
- A setting holds the cells that may be compared: same data, variant, training and acquisition schedule, one cell a
  strategy, and the stratified baseline with the same training.
- A family holds the settings that share a figure: they differ in variant, class weights, start and stopping rule only.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.config import RunConfig
from al.strategies import REGISTRY
from sweeps.report.load import LeftOut, Results, Run

WITHIN_FAMILY = (
    *("variant", "minority_classes", "class_weights", "stop", "budget"),
    *("init", "clip_model", "clip_prompt", "init_cleaning"),
)
"""Fields in which the settings of one family may differ."""

BASELINE = "stratified"


@dataclass(frozen=True)
class Cell:
    """The runs of one configuration, by ascending split seed."""

    name: str
    label: str
    runs: tuple[Run, ...]

    @property
    def config(self) -> RunConfig:
        return self.runs[0].config

    @property
    def strategy(self) -> str:
        return self.config.strategy

    @cached_property
    def by_seed(self) -> dict[int, Run]:
        return {run.seed: run for run in self.runs}

    def values(self, value: Callable[[Run], float]) -> NDArray[np.float64]:
        """[n] one number a seed."""
        return np.array([value(run) for run in self.runs], float)

    @property
    def machines(self) -> set[tuple[str, str]]:
        return {run.machine for run in self.runs}


@dataclass(frozen=True)
class Setting:
    """Cells that may be compared with each other."""

    title: str
    slug: str
    cells: tuple[Cell, ...]
    """Strategies that acquire, in the registry's order."""
    baseline: Cell | None

    def cell(self, strategy: str) -> Cell | None:
        """The first cell of a strategy, or the baseline."""
        if strategy == BASELINE:
            return self.baseline
        return next((cell for cell in self.cells if cell.strategy == strategy), None)

    @property
    def everyone(self) -> tuple[Cell, ...]:
        return ((self.baseline,) if self.baseline else ()) + self.cells

    @property
    def config(self) -> RunConfig:
        return self.everyone[0].config if not self.cells else self.cells[0].config

    @property
    def same_machine(self) -> bool:
        """Whether seconds may be compared: everything ran on one kind of device with as many threads."""
        return len(set().union(*(cell.machines for cell in self.everyone))) == 1


@dataclass(frozen=True)
class Family:
    """Settings that share a figure."""

    title: str
    slug: str
    settings: tuple[Setting, ...]
    baselines: tuple[Cell, ...]
    """Every baseline with the family's training, also of variants that no strategy ran on."""

    def find(self, **fields: Any) -> list[Setting]:
        """Settings whose configuration has these values; `balanced=True` asks the variant."""
        balanced = fields.pop("balanced", None)
        return [
            setting
            for setting in self.settings
            if all(getattr(setting.config, name) == value for name, value in fields.items())
            and balanced in (None, setting.config.shares.balanced)
        ]

    @property
    def everyone(self) -> tuple[Cell, ...]:
        return self.baselines + tuple(cell for setting in self.settings for cell in setting.cells)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.everyone[0].runs[0].data.classes

    @property
    def images(self) -> int:
        """In the training set."""
        return self.everyone[0].runs[0].data.train


def paired(a: Cell, b: Cell, value: Callable[[Run], float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of two cells on the split seeds that both have: [n], [n]."""
    seeds = [seed for seed in a.by_seed if seed in b.by_seed]
    return (
        np.array([value(a.by_seed[seed]) for seed in seeds], float),
        np.array([value(b.by_seed[seed]) for seed in seeds], float),
    )


def organise(results: Results) -> list[Family]:
    """Families of everything that was loaded, the largest first.

    Runs that cannot be compared with the rest of their setting move to `results.left_out`; what a reader should know
    is added to `results.notes`.
    """
    groups: dict[tuple, list[Run]] = defaultdict(list)
    for run in results.runs:
        groups[_setting_key(run)].append(run)
    families: dict[tuple, list[list[Run]]] = defaultdict(list)
    for runs in groups.values():
        if not runs[0].config.method.baseline:
            families[_family_key(runs[0])].append(_same_start(runs, results))
    baselines = [cell for runs in groups.values() if runs[0].config.method.baseline for cell in _cells(runs)]
    _note_mixed_data(results)
    return _families(families, baselines)


def _families(families: Mapping[tuple, list[list[Run]]], baselines: list[Cell]) -> list[Family]:
    trained = {_training_key(groups[0][0]) for groups in families.values()}
    alone = {_training_key(cell.runs[0]) for cell in baselines} - trained
    made = []
    for groups in families.values():
        mine = [cell for cell in baselines if _training_key(cell.runs[0]) == _training_key(groups[0][0])]
        made.append(([_setting_parts(runs, mine) for runs in groups], mine))
    made += [([], [cell for cell in baselines if _training_key(cell.runs[0]) == key]) for key in sorted(alone)]
    made.sort(key=lambda family: -sum(len(cell.runs) for cell in _everyone(*family)))
    return _named(made)


def _everyone(parts: list, baselines: list[Cell]) -> list[Cell]:
    return baselines + _strategy_cells(parts)


def _setting_parts(runs: list[Run], baselines: list[Cell]) -> tuple[tuple[Cell, ...], Cell | None]:
    wanted = (runs[0].config.baseline_of().digest(split_seed=False), runs[0].data.fingerprint)
    match = [cell for cell in baselines if (cell.config.digest(split_seed=False), _print(cell)) == wanted]
    return tuple(_cells(runs)), (match[0] if match else None)


def _print(cell: Cell) -> str:
    return cell.runs[0].data.fingerprint


def _strategy_options() -> set[str]:
    return {option for strategy in REGISTRY.values() for option in strategy.options}


def _freeze(fields: Mapping[str, Any]) -> tuple:
    return tuple((name, repr(value)) for name, value in sorted(fields.items()))


def _setting_key(run: Run) -> tuple:
    hidden = {"strategy", "split_seed"} | _strategy_options()
    fields = {name: value for name, value in run.config.outcome_fields().items() if name not in hidden}
    return (run.data.fingerprint, run.config.method.baseline, *_freeze(fields))


def _family_key(run: Run) -> tuple:
    hidden = {"strategy", "split_seed", *WITHIN_FAMILY} | _strategy_options()
    fields = {name: value for name, value in run.config.outcome_fields().items() if name not in hidden}
    return (run.data.fingerprint, *_freeze(fields))


def _training_key(run: Run) -> tuple:
    """What a run shares with its baseline: the acquisition has no effect there."""
    hidden = {"strategy", "split_seed", *WITHIN_FAMILY} | _strategy_options()
    fields = {name: value for name, value in run.config.baseline_of().outcome_fields().items() if name not in hidden}
    return (run.data.fingerprint, *_freeze(fields))


def _cells(runs: list[Run]) -> list[Cell]:
    """One cell a configuration; a strategy run with several options carries them in its label."""
    by_digest: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_digest[run.config.digest(split_seed=False)].append(run)
    groups = [sorted(group, key=lambda run: run.seed) for group in by_digest.values()]
    often = Counter(group[0].config.strategy for group in groups)
    order = list(REGISTRY)
    groups.sort(key=lambda group: (order.index(group[0].config.strategy), _options(group[0])))
    return [
        Cell(
            group[0].config.cell,
            group[0].config.strategy + (f" ({_options(group[0])})" if often[group[0].config.strategy] > 1 else ""),
            tuple(group),
        )
        for group in groups
    ]


def _options(run: Run) -> str:
    fields = _fields(run.config)
    return ", ".join(f"{name}={fields[name]}" for name in run.config.method.options)


def _same_start(runs: list[Run], results: Results) -> list[Run]:
    """Those runs of a setting that start, per split seed, from the pool that most strategies start from."""
    kept = []
    by_seed: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_seed[run.seed].append(run)
    for seed, group in by_seed.items():
        starts = Counter(start for run in group if (start := _start(run)))
        usual = starts.most_common(1)[0][0] if starts else None
        for run in group:
            if _start(run) in (None, usual):
                kept.append(run)
            else:
                reason = f"its initial pool differs from the other strategies' at split seed {seed}: not comparable"
                results.left_out.append(LeftOut(run.source, reason))
    return kept


def _start(run: Run) -> bytes | None:
    return np.sort(run.rounds[0].rows).tobytes() if run.rounds else None


def _note_mixed_data(results: Results) -> None:
    prints: dict[str, set[str]] = defaultdict(set)
    for run in results.runs:
        prints[run.data.name].add(run.data.fingerprint)
    for name, found in prints.items():
        if len(found) > 1:
            results.notes.append(
                f"{name}: the runs saw {len(found)} different data sets under this name (other images, labels or "
                "sizes); they are shown apart and never averaged together."
            )


# Names


def _named(made: list) -> list[Family]:
    # A strategy's run speaks for its family: a baseline's acquisition fields are all at their defaults.
    speakers = [(_strategy_cells(parts) or baselines)[0].runs[0] for parts, baselines in made]
    differing = _differing(run.config for run in speakers) - {"strategy", "dataset", *WITHIN_FAMILY}
    prints = _fingerprints(speakers)
    families, slugs, setting_slugs = [], Counter(), Counter()
    for run, (parts, baselines) in zip(speakers, made):
        extra = _described(run.config, differing)
        extra += [f"data {run.data.fingerprint[:8]}"] if prints[run.data.name] > 1 else []
        title = ", ".join([run.config.dataset, *extra])
        settings = _named_settings(parts, extra, setting_slugs)
        families.append(Family(title, _slug(title, slugs), settings, tuple(_by_size(baselines))))
    return families


def _strategy_cells(parts: list) -> list[Cell]:
    return [cell for cells, _ in parts for cell in cells]


def _by_size(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: (cell.runs[0].labels, cell.config.class_weights))


def _named_settings(parts: list, family: list[str], slugs: Counter) -> tuple[Setting, ...]:
    differing = _differing(cells[0].config for cells, _ in parts) - {"strategy", "split_seed"}
    settings = []
    for cells, baseline in sorted(parts, key=lambda part: _order(part[0][0].config)):
        config = cells[0].config
        extra = _described(config, differing - {"variant"} | ({"class_weights"} if config.class_weights else set()))
        title = ", ".join([f"{config.dataset} {config.variant}", *extra, *family])
        settings.append(Setting(title, _slug(title, slugs), cells, baseline))
    return tuple(settings)


def _order(config: RunConfig) -> tuple:
    shares = config.shares
    return not shares.balanced, config.init != "stratified", -shares.majority, config.class_weights, config.stop


def _differing(configs: Iterable[RunConfig]) -> set[str]:
    seen: dict[str, set[str]] = defaultdict(set)
    for config in configs:
        for name, value in _fields(config).items():
            seen[name].add(repr(value))
    return {name for name, values in seen.items() if len(values) > 1} - _strategy_options() - {"split_seed"}


def _fields(config: RunConfig) -> dict[str, Any]:
    """Every field that has an effect, those without one at their default."""
    return {name: field.default for name, field in RunConfig.model_fields.items()} | config.outcome_fields()


WORDS = {
    ("init", "clip"): "CLIP start",
    ("init", "random"): "random start",
    ("stop", "baseline"): "until the baseline is beaten",
    ("class_weights", True): "class weights",
    ("pool_scope", "variant"): "pool: the variant",
    ("pool_scope", "full"): "pool: the whole training set",
}
SILENT = {("init", "stratified"), ("stop", "budget"), ("class_weights", False), ("budget", None)}


def _described(config: RunConfig, fields: Iterable[str]) -> list[str]:
    known = _fields(config)
    shown = [(name, known[name]) for name in sorted(fields)]
    return [
        WORDS.get(pair) or f"{pair[0]}={pair[1]}"
        for pair in ((name, tuple(value) if isinstance(value, list) else value) for name, value in shown)
        if pair not in SILENT
    ]


def _fingerprints(runs: list[Run]) -> Counter:
    return Counter(name for name, _ in {(run.data.name, run.data.fingerprint) for run in runs})


def _slug(title: str, taken: Counter) -> str:
    short = title.lower().replace("until the baseline is beaten", "to baseline").replace("class weights", "weighted")
    slug = re.sub(r"[^a-z0-9]+", "_", short).strip("_")[:80]
    taken[slug] += 1
    return slug if taken[slug] == 1 else f"{slug}_{taken[slug]}"
