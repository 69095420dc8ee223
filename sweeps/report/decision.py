"""The answer in plain words: does choosing beat random, which strategy is best, what it saves, and how sure that is.

Every number comes from the verdict, so that the page says the same everywhere.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from al.config import RunConfig
from sweeps.report.analysis import CONTROL, Analysis, time_ratio
from sweeps.report.cells import BASELINE
from sweeps.report.comparisons import MIN_SEEDS, Comparison, Standing
from sweeps.report.inference import HeadlineKind, Verdict
from sweeps.report.label_savings import BASELINE as BASELINE_CURVE
from sweeps.report.label_savings import Bound, Need, Saving, TargetKind, TargetResult
from sweeps.report.load import command_for
from sweeps.report.statistics import Interval
from sweeps.report.wording import between, count, duration, join, number, span

COLUMNS = ("setting", "answer", "highest mean", "ahead of the reference (points)", "labels saved (%)", "not told apart")
COLUMNS += ("seeds", "time / baseline")

WORDS = {CONTROL: "random sampling", BASELINE_CURVE: "stratified sampling"}
"""What the reference is called in a sentence."""

IN_A_WORD = {
    HeadlineKind.NOTHING: "nothing to compare",
    HeadlineKind.FIRST_LABELS: "the first labels suffice",
    HeadlineKind.HINT: "a hint at most",
    HeadlineKind.BEST: "choosing pays, one is best",
    HeadlineKind.AHEAD: "choosing pays",
    HeadlineKind.SOME_AHEAD: "choosing pays",
    HeadlineKind.BEHIND: "choosing does not pay",
    HeadlineKind.NEGLIGIBLE: "no difference that matters",
    HeadlineKind.UNCLEAR: "cannot be told yet",
}


PAYS = IN_A_WORD[HeadlineKind.AHEAD]


class Decision(NamedTuple):
    """One setting's answer."""

    setting: str
    headline: str
    details: tuple[str, ...]
    row: tuple[str, ...] = ()
    """The answer as a row of `COLUMNS`; empty where there is none."""
    command: str = ""
    """Runs the seeds that would settle what is open; empty where nothing is."""

    @property
    def text(self) -> str:
        lines = [f"{self.setting}: {self.headline}", *(f"  - {line}" for line in self.details)]
        return "\n".join([*lines, *([f"  $ {self.command}"] if self.command else [])])


def decide(analysis: Analysis, results_dir: str | Path = "results") -> Decision:
    """The answer for one setting, with no more certainty than its seeds give.

    Args:
        results_dir: folder that the command for further seeds names.
    """
    verdict, title = analysis.verdict, analysis.setting.title
    command = next_command(analysis, results_dir)
    if verdict.headline.kind is HeadlineKind.NOTHING:
        details = [*_why_nothing(analysis), *_targets(analysis), *_unlike(analysis)]
        return Decision(title, "nothing to compare yet.", tuple(details), command=command)
    details = [*_against_reference(verdict), *_among(verdict), *_targets(analysis)]
    if verdict.headline.kind is not HeadlineKind.FIRST_LABELS:
        details += [*_compute(analysis), *_sureness(verdict)]
    return Decision(title, _headline(analysis), (*details, *_unlike(analysis)), _row(analysis), command)


# The first sentence


def _headline(analysis: Analysis) -> str:
    verdict = analysis.verdict
    kind, name, reference = verdict.headline.kind, verdict.headline.strategy, _reference(verdict)
    match kind:
        case HeadlineKind.FIRST_LABELS:
            return f"the first labels alone reach {_first_target(verdict)}: no strategy chose anything before that."
        case HeadlineKind.HINT:
            return f"{name} leads so far{_gain(analysis, name)}, which {number(verdict.seeds, 'seed')} cannot prove."
        case HeadlineKind.BEST:
            others = "every other strategy" if reference is None else f"{reference} and every other strategy"
            others = reference if reference and len(verdict.estimates) == 2 else others
            return f"use {name}: it is ahead of {others}{_gain(analysis, name)}."
        case HeadlineKind.AHEAD if reference is None:
            return f"{name} has the highest mean and is ahead of {join(verdict.worse_than_leader)}."
        case HeadlineKind.AHEAD:
            alike = f"; {_alike(verdict)}" if _rivals(verdict) else ""
            return f"use {name}: it beats {reference}{_gain(analysis, name)}{alike}."
        case HeadlineKind.SOME_AHEAD:
            return f"choosing pays: {join(verdict.ahead)} beat {reference}; which strategy is best cannot be told."
        case HeadlineKind.BEHIND:
            return f"do not choose: no strategy is ahead of {reference}, and {join(verdict.behind)} fall behind it."
        case HeadlineKind.NEGLIGIBLE:
            if reference is None:
                return f"which strategy makes no difference: they are within {verdict.margin:g} point of each other."
            return f"choosing makes no difference: every strategy is within {verdict.margin:g} point of {reference}."
    return f"nothing can be told apart yet{_looks(analysis)}."


def _gain(analysis: Analysis, name: str) -> str:
    """` by 2.1 points ... and saves 24 % of the labels ...`, as far as it is known."""
    verdict = analysis.verdict
    found = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
    text = f" by {_points(found)}" if found else ""
    saving = main_saving(analysis, name)
    return f"{text} and {_saves(saving)}" if saving else text


def _looks(analysis: Analysis) -> str:
    verdict = analysis.verdict
    found = open_comparison(verdict)
    if verdict.reference and verdict.leader == verdict.reference:
        return f"; no strategy looks ahead of {_reference(verdict)}"
    if found is None:
        return ""
    text = f"; {called(found.a)} looks ahead of {called(found.b)} by {_points(found)}"
    more = found.more.clear if found.more else None
    return f"{text}, and {number(more, 'more seed')} would settle it" if more else text


def _points(found: Comparison) -> str:
    return f"{found.estimate:.1f} points{between(found.low, found.high)}"


def called(name: str) -> str:
    return WORDS.get(name, name)


def _reference(verdict: Verdict) -> str | None:
    return None if verdict.reference is None else called(verdict.reference)


def _rivals(verdict: Verdict) -> list[str]:
    return [name for name in verdict.not_told_apart if name != verdict.reference]


def _alike(verdict: Verdict) -> str:
    return f"{join(_rivals(verdict))} cannot be told apart from it"


# The details


def _why_nothing(analysis: Analysis) -> Iterator[str]:
    setting = analysis.setting
    if not setting.cells:
        yield "only the baseline has been run"
    elif all(cell.strategy == CONTROL for cell in setting.cells):
        yield "only random sampling has been run, and no strategy that chooses"
    elif len(setting.cells) < 2 and setting.baseline is None:
        yield "there is no second strategy, and the baseline has not been run"
    elif any(cell.config.stop == "baseline" for cell in setting.cells) and len(setting.cells) < 2:
        yield "runs that stop where they beat the baseline are not compared with it; there is no second strategy"
    else:
        yield "one split seed in common is one observation, which another may turn round"


def _against_reference(verdict: Verdict) -> Iterator[str]:
    """Question one: does choosing beat random, for which strategies, by how much?"""
    if verdict.reference is None:
        yield "whether choosing beats random sampling cannot be told: it was not run here; the command below runs it"
        return
    found = {standing: [] for standing in Standing}
    for name in verdict.estimates:
        if comparison := next((c for c in verdict.comparisons.with_control if c.a == name), None):
            found[comparison.standing].append(f"{name} {comparison.estimate:+.1f}{_range(comparison)}")
    parts = [f"{standing.value}: {', '.join(names)}" for standing, names in found.items() if names]
    yield f"against {_reference(verdict)}, points of {verdict.measure.value}: {'; '.join(parts)}"


def _range(found: Comparison) -> str:
    return "" if np.isnan(found.low) else f" [{found.low:+.1f}, {found.high:+.1f}]"


def _among(verdict: Verdict) -> Iterator[str]:
    """Question two: which strategy is best, or which cannot be told apart?"""
    if verdict.leader is None or len(verdict.estimates) < 3:
        return
    parts = [f"{called(verdict.leader)} has the highest mean"]
    if verdict.worse_than_leader:
        parts.append(f"ahead of {join([called(name) for name in verdict.worse_than_leader])}")
    if verdict.not_told_apart:
        parts.append(f"not told apart from {join([called(name) for name in verdict.not_told_apart])}")
    yield ", ".join(parts)


def _targets(analysis: Analysis) -> Iterator[str]:
    """Labels needed for the target that savings are told by, and for the baseline's where that is another."""
    main = analysis.main_target
    if main is not None:
        yield _target_line(analysis, main)
    for result in analysis.verdict.targets:
        if result.target.kind is TargetKind.BASELINE and (result is not main or result.by_first_labels):
            yield _baseline_line(analysis, result)


def _target_line(analysis: Analysis, result: TargetResult) -> str:
    if result.target.kind is TargetKind.BASELINE:
        return _baseline_line(analysis, result)
    parts = [
        _need_text(need, result, analysis) for need in _ordered(analysis, result) if need.strategy != analysis.control
    ]
    control = result.need(analysis.control) if analysis.control else None
    parts += [_labels(control)] if control else []
    return f"labels to reach {told_target(result)}: {'; '.join(parts)}"


def _baseline_line(analysis: Analysis, result: TargetResult) -> str:
    goal = told_target(result)
    if result.by_first_labels:
        return f"{goal} is reached by the first labels, before any strategy chose: that is no strategy's merit"
    parts = [_need_text(need, result, analysis) for need in _ordered(analysis, result)]
    text = f"labels to reach {goal}: {'; '.join(parts)}"
    if result.target.by_construction:
        text += "; runs stop where they reach it on the test set, so that they do is no finding"
    return text


def _ordered(analysis: Analysis, result: TargetResult) -> list[Need]:
    """By what the strategies are compared by, the leader first: nobody is ranked by a target."""
    order = list(analysis.verdict.estimates)
    return sorted(result.needs, key=lambda need: order.index(need.strategy) if need.strategy in order else len(order))


def _need_text(need: Need, result: TargetResult, analysis: Analysis) -> str:
    against = BASELINE_CURVE if result.target.kind is TargetKind.BASELINE else analysis.control
    saving = result.saving(need.strategy, against) if against else None
    text = _labels(need)
    if need.with_loss is not None:
        both = sum(not reach.censored for reach in need.with_loss.values())
        seeds = number(len(need.with_loss), "seed")
        text += f" (with the loss too in {both} of {seeds})" if both != need.reached else ""
    return text + (f", {_saves(saving)}" if saving and saving.bound is not Bound.UNKNOWN else "")


def _labels(need: Need) -> str:
    """What a strategy needs; where a seed does not get there its whole budget counts, and more is needed."""
    mean = float(np.mean([reach.labels for reach in need.accuracy.values()]))
    if need.reached == len(need.accuracy):
        return f"{need.strategy} {count(mean)}"
    return (
        f"{need.strategy} more than {count(mean)} (reached in {need.reached} of {number(len(need.accuracy), 'seed')})"
    )


def told_target(result: TargetResult) -> str:
    """A target in words, with its accuracy, and its loss where that counts too."""
    target = result.target
    accuracy = float(np.mean(list(target.accuracy.values())))
    if target.kind is TargetKind.GIVEN:
        return f"{accuracy:g} %"
    if target.kind is TargetKind.CONTROL:
        share = "all its labels" if target.fraction == 1 else f"{100 * target.fraction:g} % of its labels"
        return f"what random sampling reaches with {share} ({accuracy:.1f} %)"
    loss = f", loss {np.mean(list(target.loss.values())):.3f}" if target.loss else ""
    return f"the stratified baseline's accuracy ({accuracy:.1f} %{loss})"


def main_saving(analysis: Analysis, name: str) -> Saving | None:
    """Of a strategy at the target that savings are told by, against the reference."""
    result, reference = analysis.main_target, analysis.verdict.reference
    saving = result.saving(name, reference) if result and reference else None
    return saving if saving and saving.bound is not Bound.UNKNOWN else None


def _saves(saving: Saving) -> str:
    interval = between(saving.low, saving.high, 0, " %")
    if saving.bound in (Bound.NONE, Bound.AT_MOST) and abs(saving.percent) < 0.5:
        return f"saves no labels{interval}"
    match saving.bound:
        case Bound.AT_LEAST:
            return f"saves at least {saving.percent:.0f} % of the labels{interval}"
        case Bound.AT_MOST if saving.percent <= 0:
            return f"needs at least {-saving.percent:.0f} % more labels"
        case Bound.AT_MOST:
            return f"saves at most {saving.percent:.0f} % of the labels{interval}"
    if saving.percent >= 0:
        return f"saves {saving.percent:.0f} % of the labels{interval}"
    return f"needs {-saving.percent:.0f} % more labels{between(saving.low, saving.high, 0, ' % saved')}"


def _compute(analysis: Analysis) -> Iterator[str]:
    best, setting = analysis.best, analysis.setting
    if best is None:
        return
    if different := setting.different_conditions:
        yield f"compute: not compared, the runs differ in {different}"
        return
    parts = []
    for strategy, words in ((BASELINE, "the baseline's"), (CONTROL, "random sampling's")):
        ratio = time_ratio(best, setting.cell(strategy))
        if ratio is not None:
            parts.append(f"{ratio.mean:.2g} times {words}{_seeds_or_range(ratio)}")
    if parts:
        seconds = duration(float(best.values(lambda run: run.seconds).mean()))
        yield f"compute: a whole run of {best.label} takes {seconds}, {' and '.join(parts)}"


def _seeds_or_range(ratio: Interval) -> str:
    if ratio.n < 2:
        return " (one seed)"
    same = ratio.high - ratio.low < 0.01 * ratio.mean
    return f" (the same in all {ratio.n} seeds)" if same else between(ratio.low, ratio.high, 2)


def _unlike(analysis: Analysis) -> Iterator[str]:
    """What a reader could take for a fair comparison and is not one."""
    config = analysis.setting.config
    if not config.shares.balanced and config.pool_scope == "full" and analysis.setting.baseline:
        yield (
            "not like for like: the strategies picked from the whole training set, the baseline had the imbalanced "
            "variant only; pool_scope=variant compares on the same images"
        )


def _sureness(verdict: Verdict) -> Iterator[str]:
    seeds = number(verdict.seeds, "split seed")
    if verdict.seeds < MIN_SEEDS:
        yield f"how sure: {seeds} are too few to tell chance from effect; read it as a hint"
        return
    if verdict.missing_seeds:
        lacking = [f"{name} {', '.join(map(str, found))}" for name, found in verdict.missing_seeds.items()]
        yield f"split seeds that are missing: {'; '.join(lacking)}"
    text = f"how sure: {seeds}, paired; all comparisons of this setting together claim wrongly in at most "
    text += f"{100 * verdict.level:g} % of such reports"
    found = open_comparison(verdict)
    yield text + (f"; {_settles(found, verdict.margin)}" if found and found.more else "")


# How much more would settle it


def open_comparison(verdict: Verdict) -> Comparison | None:
    """The comparison that a reader would settle next: the leader with the reference, then with its rivals."""
    return next((found for found in verdict.unsettled if verdict.leader in (found.a, found.b)), None)


def _settles(found: Comparison, margin: float) -> str:
    told = f"{called(found.a)} against {called(found.b)}"
    if found.more.clear is None and found.more.negligible is None:
        return f"{told}: more than 50 further seeds would be needed"
    parts = []
    if found.more.clear is not None:
        parts.append(f"{number(found.more.clear, 'more seed')} would make the difference clear if it is what it looks")
    if found.more.negligible is not None:
        more = number(found.more.negligible, "more seed")
        parts.append(f"{more} would show that it is below {margin:g} point")
    return f"{told}: {' and '.join(parts)}"


def next_command(analysis: Analysis, results_dir: str | Path) -> str:
    """The command line that runs what would settle the answer; empty where nothing is open.

    That is random sampling on the seeds there are, where it is missing; enough seeds to test anything, where there are
    too few; else further seeds of the open comparison.
    """
    setting, verdict = analysis.setting, analysis.verdict
    first = 1 + max(run.seed for cell in setting.everyone for run in cell.runs)
    if verdict.reference is None and setting.cells:
        config = setting.config.model_copy(update={"strategy": CONTROL})
        return _loop(sorted({seed for cell in setting.cells for seed in cell.by_seed}), [config], results_dir)
    if verdict.seeds < MIN_SEEDS and len(setting.cells) > 1:
        missing = MIN_SEEDS - max(len(cell.runs) for cell in setting.cells)
        return _loop(range(first, first + missing), [cell.config for cell in setting.everyone], results_dir)
    found = open_comparison(verdict)
    more = found.more if found else None
    counts = [n for n in (more.clear, more.negligible) if n is not None] if more else []
    if not counts:
        return ""
    named = {cell.label: cell for cell in setting.cells} | {BASELINE_CURVE: setting.baseline}
    cells = [setting.baseline] if setting.config.stop == "baseline" and setting.baseline else []
    cells += [cell for cell in (named[found.a], named[found.b]) if cell]
    return _loop(range(first, first + min(counts)), [cell.config for cell in cells], results_dir)


def _loop(seeds: Iterable[int], configs: Iterable[RunConfig], results_dir: str | Path) -> str:
    """A shell's loop over split seeds, each configuration once a seed."""
    default = RunConfig.model_fields["split_seed"].default
    plain = (config.model_copy(update={"split_seed": default}) for config in configs)
    runs = dict.fromkeys(f"{command_for(config, results_dir)} --split_seed=$seed" for config in plain)
    return f"for seed in {' '.join(map(str, seeds))}; do {'; '.join(runs)}; done"


# As a row


def _row(analysis: Analysis) -> tuple[str, ...]:
    verdict, best = analysis.verdict, analysis.best
    name = best.label if best else ""
    found = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
    saving = main_saving(analysis, name)
    ratio = time_ratio(best, analysis.setting.baseline) if best else None
    return (
        analysis.setting.title,
        _answer(verdict),
        name,
        difference(found),
        saved(saving),
        ", ".join(called(other) for other in verdict.not_told_apart),
        str(verdict.seeds),
        span(ratio, 2),
    )


def _answer(verdict: Verdict) -> str:
    """In a word; without random sampling only the strategies are compared with each other."""
    kind = verdict.headline.kind
    if verdict.reference is not None or kind in (HeadlineKind.FIRST_LABELS, HeadlineKind.HINT):
        return IN_A_WORD[kind]
    alike = {HeadlineKind.NEGLIGIBLE: "strategies alike", HeadlineKind.UNCLEAR: "strategies not told apart"}
    return f"{alike.get(kind, 'strategies differ')}, random sampling not run"


def difference(found: Comparison | None) -> str:
    """`+2.1 [+1.2, +3.0]`."""
    return "" if found is None or np.isnan(found.estimate) else f"{found.estimate:+.1f}{_range(found)}"


def saved(saving: Saving | None) -> str:
    """`24 [15, 33]`, `at least 24`, `at most -10`."""
    if saving is None or saving.bound is Bound.UNKNOWN:
        return ""
    text = {Bound.AT_LEAST: "at least ", Bound.AT_MOST: "at most "}.get(saving.bound, "") + f"{saving.percent:.0f}"
    known = not (np.isnan(saving.low) or np.isnan(saving.high))
    return f"{text} [{saving.low:.0f}, {saving.high:.0f}]" if known else text


def _first_target(verdict: Verdict) -> str:
    return told_target(next(result for result in verdict.targets if result.by_first_labels))


def summary(decisions: Sequence[Decision]) -> str:
    """The first sentence of the page: the answer, or how many settings have which."""
    if len(decisions) == 1:
        return f"{decisions[0].setting}: {decisions[0].headline}"
    leads: dict[str, Counter[str]] = {}
    for decision in decisions:
        _, answer, best, *_ = decision.row or ("", IN_A_WORD[HeadlineKind.NOTHING], "")
        leads.setdefault(answer, Counter())[best] += 1
    parts = []
    for answer, names in sorted(leads.items(), key=lambda item: (not item[0].startswith(PAYS), -item[1].total())):
        told = ", ".join(f"{name} {n}" for name, n in names.most_common()) if answer.startswith(PAYS) else ""
        parts.append(f"{answer} in {names.total()}" + (f" (highest mean: {told})" if told else ""))
    return f"Of {len(decisions)} settings: {'; '.join(parts)}."
