"""Tables: what was found by cell, the study's tables with the published values beside them; as CSV and Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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
from sweeps.report.load import PHASES, Run, load_results
from sweeps.report.statistics import NAN, holm, mean_interval, paired_test, penalties
from sweeps.study.claims import Claim
from sweeps.study.published import VARIANTS, Key, ZeroShot, key_of, published, published_zero_shot, table2


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
        cell.label, _mean(cell, "labels"), reached.mean, reached.std, _mean(cell, "seconds"), len(cell.runs)
    )


def _mean(cell: Cell, name: str) -> float:
    return float(cell.values(lambda run: getattr(run, name)).mean())


class Table(NamedTuple):
    """A table; cells are text or numbers, NaN and None show as nothing."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""

    def csv(self) -> str:
        """All digits, for other programs."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([["" if empty(value) else value for value in row] for row in self.rows])
        return out.getvalue()

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([shown(value) for value in row] for row in self.rows)]
        body = "\n".join("| " + " | ".join(escaped(value) for value in line) + " |" for line in lines)
        return f"**{escaped(self.title)}**\n\n{body}\n" + (f"\n{self.note}\n" if self.note else "")


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


# The study's tables


def variants_table(family: Family) -> Table:
    """Table 1: images of each variant."""
    own: dict[str, tuple[float, int]] = {}
    for cell in family.baselines:
        own[cell.config.variant] = (_mean(cell, "labels"), len(cell.runs))
    names = list(VARIANTS) if family.study_data else []
    names += [name for name in own if name not in names]
    rows = []
    for name in names:
        percent, images, distribution = VARIANTS[name] if family.study_data and name in VARIANTS else (None,) * 3
        mine, runs = own.get(name, (None, 0))
        difference = mine - images if images is not None and mine is not None else None
        rows.append((name, percent, distribution, images, mine, difference, runs))
    columns = (
        "variant",
        "share (%)",
        "distribution",
        "images, published",
        "images, own",
        "difference",
        "baseline runs",
    )
    return Table("table1_variants", "Table 1. Variants of the training set", columns, rows)


def _validation_accuracy(run: Run) -> float:
    """In percent; NaN where nothing was held out."""
    accuracy = (run.metrics["validation_metrics_for_best_epoch"] or {}).get("accuracy")
    return float("nan") if accuracy is None else float(accuracy)


MEASURES = (
    ("labels", "labels_used", lambda run: float(run.labels)),
    ("seconds", "training_time_s", lambda run: run.seconds),
    ("train acc. (%)", "train_accuracy", lambda run: run.metrics["training_metrics_for_best_epoch"]["accuracy"]),
    ("val acc. (%)", "val_accuracy", _validation_accuracy),
    ("test acc. (%)", "test_accuracy_mean", accuracy),
    ("precision", "test_precision_mean", optional("precision")),
    ("recall", "test_recall_mean", optional("recall")),
    ("F1", "test_f1_mean", optional("f1-score")),
)


def results_table(family: Family) -> Table:
    """Table 2: every configuration, own mean, published mean, difference; test accuracy with both deviations."""
    cells = {key_of(cell.config): cell for cell in family.everyone if published(cell.runs[0])}
    keys: list[tuple[Key, Cell | None]] = [(key, cells.get(key)) for key in table2()] if family.study_data else []
    keys += [(key_of(cell.config), cell) for cell in family.everyone if cell not in cells.values()]
    columns = ["variant", "strategy", "CLIP start", "class weights", "seeds"]
    for name, *_ in MEASURES:
        columns += [name, "published", "difference"]
    columns += ["test acc. std", "published"]
    note = (
        "Own values are means over the seeds; std is the sample standard deviation. Empty: not run, or not published."
    )
    rows = [_result_row(key, cell) for key, cell in keys]
    return Table("table2_results", "Table 2. All configurations", tuple(columns), rows, note)


def _result_row(key: Key, cell: Cell | None) -> tuple:
    paper = table2().get(key, {}) if cell is None or published(cell.runs[0]) else {}
    strategy = key.strategy if cell is None else cell.label
    row: list[Any] = [key.variant, strategy, key.clip, key.weights, len(cell.runs) if cell else 0]
    for _, column, value in MEASURES:
        mine, theirs = (_safe_mean(cell, value) if cell else NAN), paper.get(column, NAN)
        row += [mine, theirs, mine - theirs]
    std = mean_interval(cell.values(accuracy)).std if cell else NAN
    return (*row, std, paper.get("test_accuracy_std", NAN))


def _safe_mean(cell: Cell, value) -> float:
    try:
        return float(cell.values(value).mean())
    except (KeyError, TypeError):
        return NAN


def claims_table(claims: Sequence[Claim]) -> Table:
    columns = ("", "claim", "verdict", "found here", "published", "test", "seeds")
    rows = [(c.id, c.claim, c.verdict, c.found, c.published, c.test, c.seeds) for c in claims]
    return Table("claims", "Claims C1-C8 on this data", columns, rows)


def zero_shot_table(own: Sequence[ZeroShot]) -> Table:
    """The table of figure 6: one's own labels, set by set, and the published ones."""
    columns = ("labels", "class", "original", "predicted", "changed", "changed (%)", "mean confidence")
    rows = [row for number, labels in enumerate(own, 1) for row in _zero_shot_rows(f"own, set {number}", labels)]
    rows += _zero_shot_rows("published", published_zero_shot())
    return Table("figure6_zero_shot", "Zero-shot labels by class", columns, rows)


def _zero_shot_rows(name: str, labels: ZeroShot) -> list[tuple]:
    matrix = np.array(labels.confusion)
    rows = []
    for k, title in enumerate(labels.classes):
        size, changed = int(matrix[k].sum()), int(matrix[k].sum() - matrix[k, k])
        confidence = labels.confidence[k] if labels.confidence else NAN
        rows.append((name, title, size, int(matrix[:, k].sum()), changed, 100 * changed / max(size, 1), confidence))
    return rows


# What goes beyond the study


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
        rows.append((title, cell.label, len(cell.runs), _mean(cell, "labels"), _mean(cell, "human_labels"), *values))
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
    return Table("comparisons", "Accuracy at the end, compared", columns, rows, note)


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
    return Table("curves", "Accuracy along the curve, against random", (*columns, "p, Holm"), rows, note)


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
        memory = _safe_mean(cell, lambda run: run.metrics.get("peak_memory_mb", NAN))
        machines = ", ".join(sorted({device.split(":")[0] for device, _ in cell.machines}))
        rows.append((title, cell.label, len(cell.runs), _mean(cell, "seconds"), *parts, memory, machines))
    return Table("seconds", "Seconds by phase", columns, rows, "Means over the seeds; clustering is part of selection.")


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
    return Table("runs", "All runs", columns, rows)


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
    return Table("wanted_by_all", "Images that every strategy wants", columns, rows, note)


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
