"""What belongs together: runs -> cells -> settings -> families.

- A cell is one configuration on one data set (by fingerprint), made from the same local files (by hash): its runs
  differ in the split seed only.
- A setting holds the cells that may be compared: same data, variant, training and acquisition schedule, one cell a
  strategy, and the stratified baseline with the same training.
- A family holds the settings that share a figure: they differ in variant, class weights, start and stopping rule only.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.config import RunConfig
from al.strategies import REGISTRY, strategy_names
from sweeps.report.load import UNKNOWN_DEVICE, LeftOut, Results, Run
from sweeps.report.titles import assigned, described, differing, files_told, slug, told_fields

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

    @property
    def conditions(self) -> dict[str, set[str]]:
        """Values of what moves accuracies beside the configuration, of the runs that recorded it."""
        recorded = [conditions_of(run) for run in self.runs]
        return {field: {found[field] for found in recorded if field in found} for field in CONDITIONS}


CONDITIONS = ("device", "precision", "version of torch")


def conditions_of(run: Run) -> dict[str, str]:
    """What moves a run's accuracy beside its configuration, as far as it was recorded: a value for each field."""
    made_by = run.result.environment
    found = {"device": made_by.device.partition(",")[0], "precision": made_by.precision}
    if found["device"] == UNKNOWN_DEVICE:
        del found["device"]
    return found | ({"version of torch": str(made_by.torch)} if hasattr(made_by, "torch") else {})


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
    def has_free_labels(self) -> bool:
        """Whether some labels were given by a machine, and cost nobody any work."""
        return any(run.labels > run.human_labels for cell in self.cells for run in cell.runs)

    @property
    def different_conditions(self) -> str:
        """In what the runs differ that their seconds depend on, in words; empty where seconds may be compared."""
        devices, threads = map(set, zip(*set().union(*(cell.machines for cell in self.everyone))))
        if any(device.startswith(UNKNOWN_DEVICE) for device in devices):
            return "conditions that were not recorded"
        told = [("device", devices), ("number of threads", threads)]
        return " and ".join(f"{name} ({', '.join(sorted(found))})" for name, found in told if len(found) > 1)


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
        return tuple(self.everyone[0].runs[0].data.classes)

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

    Runs that cannot be compared with the rest of their setting move from `results.runs` to `results.left_out`; what a
    reader should know is added to `results.notes`.
    """
    groups: dict[tuple, list[Run]] = defaultdict(list)
    for run in results.runs:
        groups[_setting_key(run)].append(run)
    families: dict[tuple, list[list[Run]]] = defaultdict(list)
    for runs in groups.values():
        if not runs[0].config.method.baseline:
            families[_family_key(runs[0])].append(_same_start(runs, results))
    out = {item.source for item in results.left_out}
    results.runs = [run for run in results.runs if run.source not in out]
    baselines = [cell for runs in groups.values() if runs[0].config.method.baseline for cell in _cells(runs)]
    _note_mixed(results)
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
    wanted = runs[0].config.baseline_of().digest(split_seed=False)
    match = [cell for cell in baselines if cell.config.digest(split_seed=False) == wanted]
    return tuple(_cells(runs)), (match[0] if match else None)


def _without_strategy(config: RunConfig) -> RunConfig:
    """What the strategies of a setting share: all that matters to random sampling, its start's options among it."""
    return config if config.method.baseline else config.model_copy(update={"strategy": "random"})


def _key(run: Run, config: RunConfig, hidden: Iterable[str] = ()) -> tuple:
    """Data, files and fields that matter to `config`, but for those hidden."""
    fields = {name: repr(value) for name, value in config.outcome_fields().items()}
    known = sorted(_files(run, config).items()), sorted(fields.items())
    hidden = {"split_seed", *hidden}
    return run.data.fingerprint, *(tuple(pair for pair in pairs if pair[0] not in hidden) for pairs in known)


def _files(run: Run, config: RunConfig) -> dict[str, str]:
    """Hashes of the run's local files that `config` reads too."""
    read = config.reads()
    return {name: digest for name, digest in run.sources.items() if name in read}


def _setting_key(run: Run) -> tuple:
    config = _without_strategy(run.config)
    return config.method.baseline, *_key(run, config)


def _family_key(run: Run) -> tuple:
    return _key(run, _without_strategy(run.config), ("strategy", *WITHIN_FAMILY))


def _training_key(run: Run) -> tuple:
    """What a run shares with its baseline: the acquisition has no effect there."""
    return _key(run, run.config.baseline_of(), ("strategy", *WITHIN_FAMILY))


def _cells(runs: list[Run]) -> list[Cell]:
    """One cell a configuration and its files; where a strategy has several, the label says in what they differ."""
    groups: dict[tuple, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.seed):
        groups[run.config.digest(split_seed=False), *sorted(run.sources.items())].append(run)
    alike: dict[str, list[Run]] = defaultdict(list)
    for group in groups.values():
        alike[group[0].config.strategy].append(group[0])
    place = {name: number for number, name in enumerate(REGISTRY)}  # a schedule follows the strategy it begins with
    cells = [Cell(group[0].config.cell, _label(group[0], alike), tuple(group)) for group in groups.values()]
    return sorted(cells, key=lambda cell: ([place[name] for name in strategy_names(cell.strategy)], cell.label))


def _label(run: Run, alike: Mapping[str, list[Run]]) -> str:
    others = alike[run.config.strategy]
    fields = differing(other.config for other in others)
    told = [assigned(*field) for field in told_fields(run.config, fields)] + files_told(run, others)
    return run.config.strategy_title + (f" ({', '.join(told)})" if told else "")


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


def _note_mixed(results: Results) -> None:
    """Says where one name stands for several things: data sets, or files that the runs were made from."""
    prints: dict[str, set[str]] = defaultdict(set)
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in results.runs:
        prints[run.data.name].add(run.data.fingerprint)
        for name, digest in run.sources.items():
            files[name, str(getattr(run.config, name))].add(digest)
    for name, found in prints.items():
        if len(found) > 1:
            results.notes.append(
                f"{name}: the runs saw {len(found)} different data sets under this name (other images, labels or "
                "sizes); they are shown apart and never averaged together."
            )
    for (name, value), found in files.items():
        if len(found) > 1:
            results.notes.append(
                f"{name}={value}: the runs were made from {len(found)} different files of this name; they are shown "
                "apart and never averaged together."
            )


# Names


def _named(made: list) -> list[Family]:
    # A strategy's run speaks for its family: a baseline's acquisition fields are all at their defaults.
    speakers = [(_strategy_cells(parts) or baselines)[0].runs[0] for parts, baselines in made]
    fields = differing(_without_strategy(run.config) for run in speakers) - {"strategy", "dataset", *WITHIN_FAMILY}
    prints = _fingerprints(speakers)
    families, slugs, setting_slugs = [], Counter(), Counter()
    for run, (parts, baselines) in zip(speakers, made):
        shared = _without_strategy(run.config)
        extra = described(shared, fields)
        extra += [f"data {run.data.fingerprint[:8]}"] if prints[run.data.name] > 1 else []
        extra += files_told(run, speakers, _files(run, shared).keys() - set(WITHIN_FAMILY))
        title = ", ".join([run.config.data_name, *extra])
        settings = _named_settings(parts, extra, setting_slugs)
        families.append(Family(title, slug(title, slugs), settings, tuple(_by_size(baselines))))
    return families


def _strategy_cells(parts: list) -> list[Cell]:
    return [cell for cells, _ in parts for cell in cells]


def _by_size(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: (cell.runs[0].labels, cell.config.class_weights))


def _named_settings(parts: list, family: list[str], slugs: Counter) -> tuple[Setting, ...]:
    fields = differing(_without_strategy(cells[0].config) for cells, _ in parts) - {"strategy"}
    speakers = [cells[0].runs[0] for cells, _ in parts]
    settings = []
    for cells, baseline in sorted(parts, key=lambda part: _order(part[0][0].config)):
        config = cells[0].config
        extra = described(config, fields - {"variant"} | ({"class_weights"} if config.class_weights else set()))
        files = files_told(cells[0].runs[0], speakers, WITHIN_FAMILY)
        title = ", ".join([f"{config.data_name} {_size(config, fields)}", *extra, *files, *family])
        settings.append(Setting(title, slug(title, slugs), cells, baseline))
    return tuple(settings)


def _size(config: RunConfig, fields: set[str]) -> str:
    """The variant, or the budget that stands in for its size; the variant too where another is beside it."""
    if config.budget is None:
        return config.variant
    return f"{config.variant} " * ("variant" in fields) + f"up to {config.budget:,} labels"


def _order(config: RunConfig) -> tuple:
    shares = config.shares
    return not shares.balanced, config.init != "stratified", -shares.majority, config.class_weights, config.stop


def _fingerprints(runs: list[Run]) -> Counter:
    return Counter(name for name, _ in {(run.data.name, run.data.fingerprint) for run in runs})
