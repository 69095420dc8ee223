"""The tables of a report: what was found, what it cost, what it was made by."""

from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np

from al.records import METRICS, PHASES, Metric
from sweeps.report.analysis import (
    CONTROL,
    Analysis,
    accuracies,
    accuracy,
    class_recalls,
    optional,
    time_ratio,
    worst_class,
)
from sweeps.report.cells import BASELINE, Cell, Family, Setting
from sweeps.report.comparisons import MIN_SEEDS, Estimate, accuracy_interval
from sweeps.report.curves import accuracy_at
from sweeps.report.decision import COLUMNS, Decision
from sweeps.report.label_savings import BASELINE as BASELINE_CURVE
from sweeps.report.label_savings import TargetKind, TargetResult
from sweeps.report.load import Run
from sweeps.report.saving_words import in_a_cell
from sweeps.report.statistics import NAN, Interval, mean_interval, penalties
from sweeps.report.table import Table, p_value
from sweeps.report.verdict_words import difference
from sweeps.report.wording import called, count, join, number, span


def mean_of(cell: Cell, name: str) -> float:
    return float(cell.values(attrgetter(name)).mean())


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
    note = (
        "Points are of what the strategies are compared by, with simultaneous 95 % intervals; see the sections below."
    )
    return Table("in_short", "Which strategy to use", COLUMNS, rows, note)


def verdict_table(analyses: Sequence[Analysis]) -> Table:
    """What the strategies are compared by, and how each stands against the reference and the leader."""
    columns = ("setting", "strategy", "seeds", "mean (%)", "ahead of the reference (points)", "p, corrected")
    columns += ("standing", "behind the leader (points)", "compared by")
    rows = []
    for analysis in analyses:
        verdict, setting = analysis.verdict, analysis.setting
        for name, mean in verdict.estimates.items():
            first = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
            behind = verdict.comparisons.of(verdict.leader, name) if verdict.leader else None
            standing = first.standing.value if first else "the reference" if name == verdict.reference else ""
            values = (difference(first), p_value(first.p if first else NAN), standing, difference(behind))
            rows.append((setting.title, called(name), mean.n, span(mean), *values, verdict.measure.value))
    note = (
        "Means with 95 % intervals. Differences are paired by split seed. Their intervals and p values are corrected "
        "for all comparisons of the setting together; see how it was computed."
    )
    return Table("verdict", "The strategies compared", columns, rows, note, folded=len(analyses) > FEW_SETTINGS)


FEW_SETTINGS = 3
"""Settings up to which the table of all their strategies stands open."""
LONG_TABLE = 8
"""Rows from which a table that a chart stands for starts folded."""
EMBEDDINGS_NOTE = (
    "Embeddings are computed once and cached; each run that uses them is counted what computing them took, as if it "
    "had been alone."
)


def cost_table(analyses: Sequence[Analysis]) -> Table:
    """What a whole run of each strategy takes, and how that compares with stratified and random sampling."""
    columns = ("setting", "strategy", "seconds", "embeddings among them (s)", "time / baseline", "time / random")
    rows = []
    for analysis in analyses:
        setting = analysis.setting
        for cell in setting.everyone:
            seconds = _from_three(mean_interval(cell.values(lambda run: run.seconds)), least=0.0)
            embeddings = mean_of(cell, "embed_seconds") or None
            ratios = (span(time_ratio(cell, setting.cell(other)), 2) for other in (BASELINE, CONTROL))
            rows.append((setting.title, cell.label, span(seconds), embeddings, *ratios))
    note = (
        "Means and, of ratios, geometric means over split seeds with 95 % intervals; empty where conditions differ. "
        f"{EMBEDDINGS_NOTE}"
    )
    return Table("cost", "Time of a whole run", columns, rows, note)


def _from_three(found: Interval, least: float = -np.inf) -> Estimate:
    """Without its interval below three seeds, which would reach anywhere; the interval not below `least`."""
    known = found.n >= MIN_SEEDS
    low, high = (max(least, found.low), found.high) if known else (NAN, NAN)
    return Estimate(found.mean, low, high, found.std, found.n)


def needs_table(analyses: Sequence[Analysis]) -> Table:
    """Labels needed for each target and the shares saved, for the accuracy alone and with the loss."""
    columns = ("setting", "target", "accuracy (%)", "loss", "to be reached", "strategy", "seeds", "reached in")
    columns += ("by the first labels in", "labels needed", "saved against random (%)", "saved against stratified (%)")
    rows = []
    for analysis in analyses:
        for result in analysis.verdict.targets:
            rows += [(analysis.setting.title, *row) for row in _target_rows(analysis, result)]
    note = (
        "Labels needed: human labels at which the never-falling fit of the learning curve first reaches the target, "
        "mean over split seeds; for the baseline's accuracy and loss, what the run's own rule found where it stops "
        "there. A seed that does not get there needs more than it used: its labels count as a bound, and so does the "
        "saving. Savings are geometric means of the paired ratios with simultaneous 95 % intervals. What defines a "
        "target is not ranked by it; a target that the first labels reach is no strategy's merit."
    )
    folded = len(rows) > LONG_TABLE
    return Table("labels_needed", "Labels needed and share saved, by target", columns, rows, note, folded)


def _target_rows(analysis: Analysis, result: TargetResult) -> Iterator[tuple]:
    target = result.target
    accuracy = float(np.mean(list(target.accuracy.values())))
    loss = float(np.mean(list(target.loss.values()))) if target.loss else NAN
    for need in result.needs:
        for with_loss, reaches in ((False, need.accuracy), (True, need.with_loss)):
            if reaches is None or (target.kind is TargetKind.CONTROL and need.strategy == analysis.control):
                continue
            rule = "accuracy and loss" if with_loss else "accuracy"
            reached = sum(not reach.censored for reach in reaches.values())
            first = sum(reach.by_first_labels for reach in reaches.values())
            labels = float(np.mean([reach.labels for reach in reaches.values()]))
            needed = count(labels) if reached == len(reaches) else f"more than {count(labels)}"
            savings = [result.saving(need.strategy, other, with_loss) for other in (analysis.control, BASELINE_CURVE)]
            told = (TARGETS[target.kind](target), accuracy, loss, rule, need.strategy, len(reaches), reached)
            yield *told, first, needed, *map(in_a_cell, savings)


TARGETS = {
    TargetKind.GIVEN: lambda target: "as asked",
    TargetKind.BASELINE: lambda target: "the stratified baseline's",
    TargetKind.CONTROL: lambda target: f"random's at {100 * target.fraction:g} % of its labels",
}


def quality_table(families: Sequence[Family]) -> Table:
    """Final test metrics of every cell with intervals."""
    titles = (*(f"test {metric.title[0].lower()}{metric.title[1:]}" for metric in METRICS.values()), WORST_CLASS)
    columns = ("setting", "strategy", "seeds", "labels", "human labels", *titles)
    rows = []
    for title, cell in titled(families):
        values = [span(_bounded(cell, metric), 1 if "%" in metric.title else 3) for metric in METRICS.values()]
        labels = (mean_of(cell, "labels"), mean_of(cell, "human_labels"))
        rows.append((title, cell.label, len(cell.runs), *labels, *values, span(accuracies(cell, worst_class))))
    note = "Means with 95 % intervals from three seeds on, each within the range of its metric."
    return Table("test_metrics", "Test metrics of the best epoch", columns, rows, note)


WORST_CLASS = "worst class, recall (%)"


def _bounded(cell: Cell, metric: Metric) -> Estimate | None:
    """Mean and interval of a metric: percentages and fractions within their range, a loss without one."""
    values = cell.values(optional(metric.name))
    if np.isnan(values).any():
        return None
    if "(nats)" in metric.title:
        return _from_three(mean_interval(values), least=0.0)
    if "%" in metric.title:
        return accuracy_interval(values)
    mean, low, high, std, n = accuracy_interval(100 * values)
    return Estimate(mean / 100, low / 100, high / 100, std / 100, n)


def titled(families: Sequence[Family]) -> list[tuple[str, Cell]]:
    """Every cell once, with a title that names its setting."""
    rows = []
    for family in families:
        rows += [(_baseline_title(cell, family), cell) for cell in family.baselines]
        rows += [(setting.title, cell) for setting in family.settings for cell in setting.cells]
    return rows


def _baseline_title(cell: Cell, family: Family) -> str:
    """The title of its setting, or of its variant where it serves several settings or none."""
    served = [setting.title for setting in family.settings if setting.baseline is cell]
    variant = f"{family.title} {cell.config.variant}" + (", class weights" * cell.config.class_weights)
    return served[0] if len(served) == 1 else variant


def comparison_table(analyses: Sequence[Analysis]) -> Table:
    """Every comparison of a setting: with the reference, and of all pairs of strategies."""
    columns = ("setting", "a", "b", "seeds", "a - b (points)", "p, corrected", "standing of a", "within the margin")
    columns += ("more seeds until clear", "more seeds until shown to be below the margin")
    rows = []
    for analysis in analyses:
        made = analysis.verdict.comparisons
        for c in (*made.with_control, *made.among):
            more = (c.more.clear, c.more.negligible) if c.more else (None, None)
            told = (difference(c), p_value(c.p), c.standing.value, c.negligible, *more)
            rows.append((analysis.setting.title, called(c.a), called(c.b), c.seeds, *told))
    note = (
        "Paired by split seed; simultaneous 95 % intervals and p values corrected for all comparisons of a setting. "
        "More seeds: for a power of 80 %, if the difference is what it looks now; empty where it is settled or more "
        "than 50 would be needed."
    )
    return Table("comparisons", "All comparisons", columns, rows, note, folded=True)


CURVE_POINTS = 4
"""Label counts along a curve at which strategies are compared with random sampling."""


def curve_table(families: Sequence[Family]) -> Table:
    """Accuracy along the learning curves: every strategy against random sampling at the same label counts."""
    columns = ("setting", "labels", "strategy", "seeds", "accuracy (%)", "minus random (points)")
    settings = [setting for family in families for setting in family.settings]
    rows = [row for setting in settings for row in _along_the_curve(setting)]
    note = (
        f"At {CURVE_POINTS} label counts that all runs share, evenly spaced among these, paired by split seed. Each "
        "interval, from three seeds on, is that of one look; what is proven is in the table of comparisons, which "
        "takes the whole curve."
    )
    return Table("curves", "Accuracy along the curve, against random", columns, rows, note, folded=True)


def _along_the_curve(setting: Setting) -> list[tuple]:
    known = accuracy_at(setting.cells)
    if CONTROL not in known or len(known) < 2:
        return []
    shared = sorted(set.intersection(*(set(curve) for seeds in known.values() for curve in seeds.values())))
    chosen = {round(k) for k in np.linspace(0, len(shared) - 1, CURVE_POINTS + 1)[1:]} if shared else set()
    return [row for k in sorted(chosen) for row in _against_random(setting, known, shared[k])]


def _against_random(setting: Setting, known: dict[str, dict[int, dict[int, float]]], labels: int) -> Iterator[tuple]:
    """One row a strategy at one label count, random sampling first, then the most accurate."""
    at = {label: {seed: curve[labels] for seed, curve in seeds.items()} for label, seeds in known.items()}
    random = at[CONTROL]
    for label in sorted(at, key=lambda label: (label != CONTROL, -np.mean(list(at[label].values())))):
        minus = mean_interval([value - random[seed] for seed, value in at[label].items() if seed in random])
        told = "" if label == CONTROL or minus.n == 0 else span(_from_three(minus))
        yield setting.title, labels, label, len(at[label]), span(accuracy_interval(list(at[label].values()))), told


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
    note = (
        "How often the row beats the column: the share of budgets at which its accuracy is significantly higher "
        f"(paired t-test, 5 %, not corrected), summed over {number(used, 'setting')}. Lower column means are better. "
        "Ash et al. 2020."
    )
    return Table("penalties", "Pairwise penalty matrix", ("", *names), rows if used else [], note)


PARTS = tuple(phase for phase in PHASES if phase != "round")
"""Phases of an epoch, without the whole of it."""


def time_table(families: Sequence[Family]) -> Table:
    """Seconds by phase of every cell."""
    columns = (
        "setting",
        "strategy",
        "seeds",
        "whole run (s)",
        *(f"{phase} (s)" for phase in (*PARTS, "rest")),
        "memory (MB)",
        "device",
    )
    rows = []
    for title, cell in titled(families):
        parts = [phase_seconds(cell, phase) for phase in (*PARTS, "rest")]
        memory = mean_of(cell, "result.peak_memory_mb")
        machines = ", ".join(sorted({device.split(":")[0] for device, _ in cell.machines}))
        rows.append((title, cell.label, len(cell.runs), mean_of(cell, "seconds"), *parts, memory, machines))
    return Table(
        "seconds",
        "Seconds by phase",
        columns,
        rows,
        "Means over the seeds; clustering is part of selection. Embeddings, which are cached, are counted to each run.",
        folded=True,
    )


def phase_seconds(cell: Cell, phase: str) -> float:
    """Mean seconds of a run spent in a phase; `rest`: in none of them."""
    if phase == "rest":
        alone = [part for part in PARTS if part != "cluster"]  # which is part of selection
        return float(np.mean([max(0.0, run.seconds - sum(map(run.spent, alone))) for run in cell.runs]))
    return float(np.mean([run.spent(phase) for run in cell.runs]))


def class_tables(families: Sequence[Family]) -> list[Table]:
    """Recall by class, one table a family."""
    tables = []
    note = "Percent of a class's test images that are recognised; means over the seeds."
    for position, family in enumerate(families):
        rows = []
        for title, cell in titled([family]):
            means = class_recalls(cell)
            rows.append((title, cell.label, *(means.get(name, NAN) for name in family.classes)))
        name = "recall_by_class" + (f"_{family.slug}" if position else "")
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


def conditions_table(runs: Sequence[Run]) -> Table:
    """What the runs were made by: versions, device, precision, threads and commit, with the seeds of each."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        found = run.result.environment.model_dump(exclude={"not_repeatable"})  # which `repeatability` tells
        groups.setdefault(tuple(sorted((name, str(value)) for name, value in found.items())), []).append(run)
    names = sorted({name for known in groups for name, _ in known})
    rows = []
    for known, made in groups.items():
        seeds = ", ".join(map(str, sorted({run.seed for run in made})))
        training = ", ".join(map(str, sorted({run.config.seed for run in made})))
        rows.append((len(made), seeds, training, *(dict(known).get(name) for name in names)))
    columns = ("runs", "split seeds", "seed", *(name.replace("_", " ") for name in names))
    return Table("conditions", "What the runs were made by", columns, rows)


def repeatability(runs: Sequence[Run]) -> str:
    """Whether the same seed gives the same picks, as far as the runs say; empty where none does."""
    known = [run.result.environment for run in runs if run.result.environment.not_repeatable is not None]
    differ = [found for found in known if found.not_repeatable]
    if not known:
        return ""
    if not differ:
        told = f"{number(len(known), 'run')} had deterministic kernels for everything"
        return f"{told}: with the same device, threads and versions, the same seed gives the same picks."
    operations = sorted({operation for found in differ for operation in found.not_repeatable or ()})
    devices = sorted({found.device for found in differ})
    return (
        f"{number(len(differ), 'run')} of {len(runs)} may give other picks when made again with the same seed: torch "
        f"has no deterministic {join(operations)} on {join(devices)}."
    )
