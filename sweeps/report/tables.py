"""Tables of what was found, as CSV and Markdown."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sweeps.report.analysis import (
    Analysis,
    accuracy,
    class_recalls,
    compare_accuracy,
    curve_areas,
    known_interval,
    optional,
    time_ratio,
    worst_class,
)
from sweeps.report.cells import BASELINE, Cell, Family, Setting, organise, paired
from sweeps.report.curves import accuracy_at
from sweeps.report.decision import COLUMNS, Decision, saved, span
from sweeps.report.load import PHASES, load_results
from sweeps.report.statistics import NAN, holm, mean_interval, paired_test, penalties


class SummaryRow(NamedTuple):
    """One cell in a line; accuracy in percent, mean and sample standard deviation (NaN from one seed)."""

    strategy: str
    labels: float
    accuracy: float
    accuracy_std: float
    seconds: float
    seeds: int


def summary_table(results_dir: str | Path, cells: Iterable[str] | None = None) -> list[SummaryRow]:
    """Rows of complete runs by cell, baseline first; `cells` restricts it to these folder names."""
    return [_summary(cell) for cell in cells_of(results_dir, cells)]


def cells_of(results_dir: str | Path, names: Iterable[str] | None = None) -> list[Cell]:
    """The cells under a results folder, every one once, in the order of the report."""
    wanted = None if names is None else set(names)
    found = {}
    for family in organise(load_results(results_dir)):
        for cell in family.everyone:
            if wanted is None or cell.name in wanted:
                found.setdefault((cell.name, cell.runs[0].data.fingerprint), cell)
    return list(found.values())


def _summary(cell: Cell) -> SummaryRow:
    reached = mean_interval(cell.values(accuracy))
    return SummaryRow(
        cell.label, mean_of(cell, "labels"), reached.mean, reached.std, mean_of(cell, "seconds"), len(cell.runs)
    )


def mean_of(cell: Cell, name: str) -> float:
    return float(cell.values(lambda run: getattr(run, name)).mean())


class Table(NamedTuple):
    """A table; cells are text or numbers, NaN and None show as nothing."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""
    folded: bool = False
    """Whether the page shows it only when asked."""

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=list(self.columns), dtype=object)

    def csv(self) -> str:
        """All digits, for other programs."""
        return self.frame().to_csv(index=False, lineterminator="\n")

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([shown(value) for value in row] for row in self.rows)]
        body = "\n".join("| " + " | ".join(escaped(value) for value in line) + " |" for line in lines)
        return f"**{escaped(self.title)}**\n\n{body}\n" + (f"\n{self.note}\n" if self.note else "")

    def without_empty_columns(self) -> "Table":
        """Columns in which nothing is known take no room on the page; the files keep them."""
        kept = [k for k in range(len(self.columns)) if any(not empty(row[k]) and row[k] != "" for row in self.rows)]
        columns, *rows = [tuple(row[k] for k in kept) for row in (self.columns, *self.rows)]
        return self._replace(columns=columns, rows=rows)


def escaped(value: str) -> str:
    """Text that neither ends a Markdown cell nor becomes HTML."""
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return value.replace("|", "\\|").replace("\n", " ")


def empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def shown(value: Any) -> str:
    """A number as a reader wants it; p values and the like carry their own text."""
    if empty(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        if value.is_integer() or size >= 100:
            return f"{value:,.0f}"
        return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
    return str(value)


def p_value(p: float) -> str:
    return "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def safe_mean(cell: Cell, value) -> float:
    """The mean over the seeds; NaN where a run lacks the value."""
    try:
        return float(cell.values(value).mean())
    except (KeyError, TypeError):
        return NAN


def decision_table(decisions: Sequence[Decision]) -> Table:
    """The short answers, a setting a row."""
    rows = [
        decision.row or (decision.setting, decision.headline) + (None,) * (len(COLUMNS) - 2) for decision in decisions
    ]
    return Table("in_short", "Which strategy needs the fewest labels", COLUMNS, rows, "Means with 95 % intervals.")


def needs_table(analyses: Sequence[Analysis]) -> Table:
    """Labels needed, shares saved, and what they cost in time."""
    columns = (
        "setting",
        "strategy",
        "target (%)",
        "seeds",
        "reached in",
        "labels needed",
        "saved against stratified (%)",
    )
    columns += ("saved against random (%)", "area under the curve (%)", "seconds", "time / baseline", "time / random")
    rows = []
    for analysis in analyses:
        areas, setting = curve_areas(analysis.setting), analysis.setting
        target = float(np.mean(list(analysis.targets.values()))) if analysis.targets else NAN
        for need in analysis.needs:
            cell = need.cell
            ratios = [span(time_ratio(cell, setting.cell(name)), 2) for name in (BASELINE, "random")]
            shares = [saved(analysis.saved_against_stratified(need)), saved(analysis.saved_against_random(need))]
            values = (target, len(need.labels), need.reached, span(need.interval, 0), *shares)
            seconds = mean_interval(cell.values(lambda run: run.seconds))
            rows.append((setting.title, cell.label, *values, span(areas.get(cell.label)), span(seconds), *ratios))
    note = (
        "Means over split seeds with 95 % intervals. Labels needed: human labels at which the never-falling fit of the "
    )
    note += (
        "learning curve first reaches the target; empty where a seed never does. Area: mean accuracy along the curve."
    )
    return Table("labels_needed", "Labels needed, share saved, cost", columns, rows, note)


def quality_table(families: Sequence[Family]) -> Table:
    """Final test metrics of every cell with intervals."""
    columns = (
        "setting",
        "strategy",
        "seeds",
        "labels",
        "human labels",
        "test acc. (%)",
        "balanced acc. (%)",
        "macro F1",
    )
    columns += ("worst class, recall (%)", "calibration error", "loss")
    rows = []
    for title, cell in titled(families):
        values = [span(mean_interval(cell.values(accuracy))), span(known_interval(cell, optional("balanced_accuracy")))]
        values += [span(known_interval(cell, optional("f1-score")), 3), span(known_interval(cell, worst_class))]
        values += [span(known_interval(cell, optional(name)), 3) for name in ("ece", "loss")]
        rows.append(
            (title, cell.label, len(cell.runs), mean_of(cell, "labels"), mean_of(cell, "human_labels"), *values)
        )
    return Table("test_metrics", "Test metrics of the best epoch", columns, rows, "Means with 95 % intervals.")


def titled(families: Sequence[Family]) -> list[tuple[str, Cell]]:
    """Every cell once, with a title that names its setting."""
    rows = []
    for family in families:
        rows += [
            (f"{family.title} {cell.config.variant}" + (", class weights" * cell.config.class_weights), cell)
            for cell in family.baselines
        ]
        rows += [(setting.title, cell) for setting in family.settings for cell in setting.cells]
    return rows


def comparison_table(families: Sequence[Family]) -> Table:
    """Final accuracy: every strategy against the baseline, and all pairs of strategies, by setting."""
    columns = ("setting", "a", "b", "seeds", "a - b (points)", "p, paired t", "p, Wilcoxon", "p, Holm")
    rows = []
    for setting in (setting for family in families for setting in family.settings):
        rows += [
            _comparison(setting, label, BASELINE, test, adjusted)
            for label, (test, adjusted) in compare_accuracy(setting).items()
        ]
        rows += _pairs(setting)
    note = "Paired by split seed. Holm's correction over the comparisons of a setting with its baseline, and over its "
    note += "pairs. Wilcoxon's test needs six seeds to be able to reach 0.05."
    return Table("comparisons", "Accuracy at the end, compared", columns, rows, note, folded=True)


CURVE_POINTS = 4
"""Label counts along a curve at which strategies are compared with random sampling."""


def curve_table(families: Sequence[Family]) -> Table:
    """Accuracy along the learning curves: every strategy against random sampling at the same label counts."""
    columns = ("setting", "labels", "strategy", "seeds", "accuracy (%)", "minus random (points)", "p, paired t")
    settings = [setting for family in families for setting in family.settings]
    rows = [row for setting in settings for row in _along_the_curve(setting)]
    note = (
        f"At {CURVE_POINTS} label counts that all runs share, evenly spaced among these, paired by split seed. Holm's "
    )
    note += "correction over the strategies of a setting at one count."
    return Table("curves", "Accuracy along the curve, against random", (*columns, "p, Holm"), rows, note, folded=True)


def _along_the_curve(setting: Setting) -> list[tuple]:
    known = accuracy_at(setting.cells)
    if "random" not in known or len(known) < 2:
        return []
    shared = sorted(set.intersection(*(set(curve) for seeds in known.values() for curve in seeds.values())))
    chosen = {round(k) for k in np.linspace(0, len(shared) - 1, CURVE_POINTS + 1)[1:]} if shared else set()
    return [row for k in sorted(chosen) for row in _against_random(setting, known, shared[k])]


def _against_random(setting: Setting, known: dict[str, dict[int, dict[int, float]]], labels: int) -> list[tuple]:
    """One row a strategy at one label count, the most accurate first."""
    at = {label: {seed: curve[labels] for seed, curve in seeds.items()} for label, seeds in known.items()}
    random = at.pop("random")
    tests = {
        label: paired_test(*zip(*[(values[seed], random[seed]) for seed in values if seed in random]))
        for label, values in at.items()
        if set(values) & set(random)
    }
    adjusted = dict(zip(tests, holm([test.p for test in tests.values()])))
    rows = [(setting.title, labels, "random", len(random), span(mean_interval(list(random.values()))), "", "", "")]
    for label in sorted(tests, key=lambda label: -np.mean(list(at[label].values()))):
        test, mean = tests[label], span(mean_interval(list(at[label].values())))
        compared = (span(test.difference), p_value(test.p), p_value(adjusted[label]))
        rows.append((setting.title, labels, label, test.difference.n, mean, *compared))
    return rows


def _comparison(setting: Setting, a: str, b: str, test, adjusted: float) -> tuple:
    values = (test.difference.n, span(test.difference, 2), p_value(test.p), p_value(test.wilcoxon), p_value(adjusted))
    return (setting.title, a, b, *values)


def _pairs(setting: Setting) -> list[tuple]:
    tests = []
    for a, b in combinations(setting.cells, 2):
        values = paired(a, b, accuracy)
        if len(values[0]):
            tests.append((a.label, b.label, paired_test(*values)))
    adjusted = holm([test.p for *_, test in tests])
    return [_comparison(setting, a, b, test, p) for (a, b, test), p in zip(tests, adjusted)]


def penalty_table(family: Family) -> Table:
    """Pairwise penalties summed over the family's settings; a column's mean says how often a strategy is beaten."""
    total: dict[tuple[str, str], float] = {}
    names: list[str] = []
    used = 0
    for setting in family.settings:
        labels, matrix, budgets = penalties(accuracy_at(setting.cells))
        used += budgets > 0 and len(labels) > 1
        names += [label for label in labels if label not in names]
        for i, a in enumerate(labels):
            for j, b in enumerate(labels):
                total[a, b] = total.get((a, b), 0.0) + float(matrix[i, j])
    rows: list[tuple] = [(a, *(round(total.get((a, b), 0.0), 2) for b in names)) for a in names]
    rows.append(
        ("mean of the column", *(round(sum(total.get((a, b), 0.0) for a in names) / len(names), 2) for b in names))
    )
    note = f"Row beats column: summed over {used} settings, in each the share of budgets where the row's accuracy is "
    note += "significantly higher (paired t-test, 5 %, not corrected). Lower column means are better. Ash et al. 2020."
    return Table("penalties", "Pairwise penalty matrix", ("", *names), rows if used else [], note)


def time_table(families: Sequence[Family]) -> Table:
    """Seconds by phase of every cell."""
    columns = (
        "setting",
        "strategy",
        "seeds",
        "whole run (s)",
        *(f"{phase} (s)" for phase in PHASES),
        "memory (MB)",
        "device",
    )
    rows = []
    for title, cell in titled(families):
        parts = [phase_seconds(cell, phase) for phase in PHASES]
        memory = safe_mean(cell, lambda run: run.metrics.get("peak_memory_mb", NAN))
        machines = ", ".join(sorted({device.split(":")[0] for device, _ in cell.machines}))
        rows.append((title, cell.label, len(cell.runs), mean_of(cell, "seconds"), *parts, memory, machines))
    return Table(
        "seconds",
        "Seconds by phase",
        columns,
        rows,
        "Means over the seeds; clustering is part of selection.",
        folded=True,
    )


def phase_seconds(cell: Cell, phase: str) -> float:
    """Mean seconds of a run spent in a phase."""
    return float(np.mean([np.nansum(run.epochs[f"seconds/{phase}"]) for run in cell.runs]))


def class_tables(families: Sequence[Family]) -> list[Table]:
    """Recall by class, one table a family."""
    tables = []
    note = "Percent of a class's test images that are recognised; means over the seeds."
    for number, family in enumerate(families):
        rows = []
        for title, cell in titled([family]):
            means = class_recalls(cell)
            rows.append((title, cell.label, *(means.get(name, NAN) for name in family.classes)))
        name = "recall_by_class" + (f"_{family.slug}" if number else "")
        columns = ("setting", "strategy", *family.classes)
        tables.append(Table(name, f"Recall by class on the test set (%), {family.title}", columns, rows, note))
    return tables


def runs_table(families: Sequence[Family]) -> Table:
    """Every run that the report rests on."""
    columns = (
        "run",
        "setting",
        "strategy",
        "split seed",
        "labels",
        "human labels",
        "test acc. (%)",
        "seconds",
        "digest",
    )
    rows = [
        (run.source, title, cell.label, run.seed, run.labels, run.human_labels, accuracy(run), run.seconds, run.digest)
        for title, cell in titled(families)
        for run in cell.runs
    ]
    return Table("runs", "All runs", columns, rows, folded=True)


# What was picked


def overlap(setting: Setting) -> tuple[list[str], np.ndarray]:
    """Names, and [S, S] Jaccard overlap of what two strategies acquired, mean over shared seeds."""
    cells = [cell for cell in setting.cells if all(run.rounds for run in cell.runs)]
    picks = [{run.seed: picked(run) for run in cell.runs} for cell in cells]
    matrix = np.full((len(cells), len(cells)), NAN)
    for i, a in enumerate(picks):
        for j, b in enumerate(picks):
            values = [jaccard(a[seed], b[seed]) for seed in a if seed in b]
            matrix[i, j] = np.mean(values) if values else NAN
    return [cell.label for cell in cells], matrix


def picked(run) -> np.ndarray:
    """Rows that a run acquired after its initial pool."""
    rows = [round_.rows for round_ in run.rounds if round_.round > 0]
    return np.unique(np.concatenate(rows)) if rows else np.array([], np.int32)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared rows over all rows of two sets; NaN where both are empty."""
    union = len(np.union1d(a, b))
    return len(np.intersect1d(a, b)) / union if union else NAN


def wanted_table(settings: Sequence[Setting], classes: Sequence[str], most: int = 20) -> Table:
    """Images that the most strategies and seeds of a setting picked: their rows in the training set."""
    columns = ("setting", "training-set row", "class", "picked by strategies", "picked in runs", "of runs")
    rows = []
    for setting in settings:
        rows += [(setting.title, *row) for row in most_wanted(setting, classes, most)]
    note = f"Up to {most} images of each setting, those that most strategies pick, then most runs."
    return Table("wanted_by_all", "Images that every strategy wants", columns, rows, note, folded=True)


def most_wanted(setting: Setting, classes: Sequence[str], most: int) -> list[tuple]:
    """(row, class, strategies, runs, of runs), the most wanted first; `random` is no opinion and does not count."""
    cells = [cell for cell in setting.cells if cell.strategy != "random" and all(run.rounds for run in cell.runs)]
    if len(cells) < 2:
        return []
    each = [np.concatenate([picked(run) for run in cell.runs]) for cell in cells]
    rows, in_runs = np.unique(np.concatenate(each), return_counts=True)
    by = sum(np.isin(rows, group).astype(int) for group in each)
    order = np.lexsort((rows, -in_runs, -by))[:most]
    true = _true_classes(cells)
    total = sum(len(cell.runs) for cell in cells)
    return [
        (int(rows[k]), classes[true[int(rows[k])]], f"{by[k]} of {len(cells)}", int(in_runs[k]), total) for k in order
    ]


def _true_classes(cells: Sequence[Cell]) -> dict[int, int]:
    return {
        int(row): int(label)
        for cell in cells
        for run in cell.runs
        for round_ in run.rounds
        for row, label in zip(round_.rows, round_.true)
    }
