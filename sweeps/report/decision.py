"""The answer in plain words: does choosing beat random, which strategy is best, what it saves, and how sure that is.

Every number comes from the verdict, so that the page says the same everywhere.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweeps.report import saving_words
from sweeps.report.analysis import CONTROL, Analysis, time_ratio
from sweeps.report.cells import BASELINE
from sweeps.report.comparisons import MIN_SEEDS, Comparison, Standing
from sweeps.report.inference import HeadlineKind, Measure, Verdict
from sweeps.report.label_savings import Saving
from sweeps.report.more_seeds import next_command, open_comparison, what_settles
from sweeps.report.statistics import Interval
from sweeps.report.target_words import target_lines, told_target
from sweeps.report.wording import between, called, count, duration, join, number, span

COLUMNS = ("setting", "answer", "highest mean", "ahead of the reference (points)", "labels saved (%)", "not told apart")
COLUMNS += ("seeds", "time / baseline")

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


SAME = 1e-9
"""Points within which means are one: strategies that picked the same images."""
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
        details = [*_why_nothing(analysis), *target_lines(analysis), *_unlike(analysis)]
        return Decision(title, "nothing to compare yet.", tuple(details), command=command)
    details = [*_against_reference(analysis), *_at_the_end(verdict), *_among(verdict), *target_lines(analysis)]
    if verdict.headline.kind is not HeadlineKind.FIRST_LABELS:
        details += [*_compute(analysis), *_sureness(verdict)]
    return Decision(title, _headline(analysis), (*details, *_unlike(analysis)), _row(analysis), command)


# The first sentence


def _headline(analysis: Analysis) -> str:
    verdict = analysis.verdict
    kind, name = verdict.headline.kind, verdict.headline.strategy
    reference = _reference(verdict) if verdict.reference_tested else None
    match kind:
        case HeadlineKind.FIRST_LABELS:
            return f"the first labels alone reach {_first_target(verdict)}: no strategy chose anything before that."
        case HeadlineKind.HINT:
            lead = f"{called(name)} leads so far{_gain(analysis, name)}"
            return f"{lead}, which {number(verdict.seeds, 'seed')} cannot prove{_but(analysis, name)}."
        case HeadlineKind.BEST:
            if reference is None:
                return f"{name} is ahead of every other strategy{_untested(verdict)}{_but(analysis, name)}."
            beaten = f"every other strategy, {reference}" if len(verdict.estimates) > 2 else reference
            return f"use {name}: it beats {beaten}{_gain(analysis, name)}{_but(analysis, name)}."
        case HeadlineKind.AHEAD if reference is None:
            ahead = f"{name} has the highest mean and is ahead of {join(verdict.worse_than_leader)}"
            return f"{ahead}{_untested(verdict)}{_but(analysis, name)}."
        case HeadlineKind.AHEAD:
            alike = f"; {_alike(verdict)}" if _rivals(verdict) else ""
            return f"use {name}: it beats {reference}{_gain(analysis, name)}{alike}{_but(analysis, name)}."
        case HeadlineKind.SOME_AHEAD:
            beat = "beats" if len(verdict.ahead) == 1 else "beat"
            return f"choosing pays: {join(verdict.ahead)} {beat} {reference}; which strategy is best cannot be told."
        case HeadlineKind.BEHIND:
            return _behind(verdict)
        case HeadlineKind.NEGLIGIBLE:
            return _negligible(analysis, reference)
    return f"nothing can be told apart yet{_looks(analysis)}."


def _behind(verdict: Verdict) -> str:
    """Not to choose is advised only where nothing is left open."""
    reference = _reference(verdict)
    fall = f"{join(verdict.behind)} {'falls' if len(verdict.behind) == 1 else 'fall'} behind"
    if left := _open(verdict):
        return f"no strategy is ahead of {reference}: {fall} it, and {join(left)} cannot be told apart from it."
    return f"do not choose: no strategy is ahead of {reference}, and {fall} it{_otherwise(verdict)}."


def _open(verdict: Verdict) -> list[str]:
    """Strategies that may be ahead of the reference or behind it."""
    return [found.a for found in verdict.comparisons.with_control if not found.settled]


def _negligible(analysis: Analysis, reference: str | None) -> str:
    """A difference too small to matter in points can be many labels: where a curve is flat."""
    verdict = analysis.verdict
    within = f"within {verdict.margin:g} point of {reference or 'each other'}{_where(verdict)}"
    if reference is None:
        lacking = _untested(verdict) if verdict.reference else ""
        return f"which strategy makes no difference: they are {within}{lacking}."
    if saving := _small_lead(analysis):
        saves = saving_words.in_a_sentence(saving)
        but = _but(analysis, saving.strategy)
        return f"use {saving.strategy} to save labels: it {saves}, though in accuracy every strategy is {within}{but}."
    return f"choosing makes no difference: every strategy is {within}{_otherwise(verdict)}."


def _small_lead(analysis: Analysis) -> Saving | None:
    """What the leader certainly saves, where all are within the margin of the reference."""
    verdict = analysis.verdict
    if verdict.headline.kind is not HeadlineKind.NEGLIGIBLE or verdict.leader not in verdict.ahead:
        return None
    found = analysis.saving(verdict.leader)
    return found if found and found.low >= saving_words.NOTHING else None


def _untested(verdict: Verdict) -> str:
    if verdict.reference_tested:
        return ""
    if verdict.reference is None:
        return "; whether it beats random sampling cannot be told"
    return f"; {_reference(verdict)} has too few split seeds in common with the strategies to be compared with"


def _but(analysis: Analysis, name: str) -> str:
    """What a reader who acts on the first sentence must know besides."""
    verdict, parts = analysis.verdict, ""
    if name in verdict.contradicted_at_the_end:
        end = verdict.contradicted_at_the_end[name]
        parts += f"; but with {_last_labels(verdict)} labels, where the curves end, it is {_end_points(end)}"
        parts += f" {_reference(verdict)}"
    if fields := analysis.unlike(name):
        parts += f"; but it was run with another {join(fields)}, which may be what makes the difference"
    return parts


def _otherwise(verdict: Verdict) -> str:
    return "; but not where the curves end, see below" if verdict.contradicted_at_the_end else ""


def _end_points(end: Interval) -> str:
    """`2.1 points behind (95 % interval 1.2 to 3.0)`."""
    low, high = sorted((abs(end.low), abs(end.high)))
    return f"{abs(end.mean):.1f} points{between(low, high)} {'ahead of' if end.mean > 0 else 'behind'}"


def _last_labels(verdict: Verdict) -> str:
    return count(float(np.mean([high for _, high in verdict.spans.values()])))


def _where(verdict: Verdict) -> str:
    """What points are points of."""
    return " along the curve" if verdict.measure is Measure.AREA else ""


def _gain(analysis: Analysis, name: str) -> str:
    """` by 2.1 points ... and saves 24 % of the labels ...`, as far as it is known."""
    verdict = analysis.verdict
    found = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
    text = f" by {_points(found, verdict)}" if found else ""
    saving = analysis.saving(name)
    if saving is None:
        return text
    return f"{text} {'and' if saving_words.pays(saving) else 'but'} {saving_words.in_a_sentence(saving)}"


def _looks(analysis: Analysis) -> str:
    verdict = analysis.verdict
    found = open_comparison(verdict)
    if verdict.reference and not verdict.reference_tested:
        return _untested(verdict)
    if verdict.reference and verdict.leader == verdict.reference:
        return f"; no strategy looks ahead of {_reference(verdict)}"
    if found is None or found.estimate <= 0:  # the mean over other seeds than both have may lead all the same
        return ""
    text = f"; {called(found.a)} looks ahead of {called(found.b)} by {_points(found, verdict)}"
    more = found.more.clear if found.more else None
    return f"{text}, and {number(more, 'more seed')} would settle it" if more else text


def _points(found: Comparison, verdict: Verdict) -> str:
    return f"{found.estimate:.1f} points{between(found.low, found.high)}{_where(verdict)}"


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
    elif not any(a.by_seed.keys() & b.by_seed.keys() for a, b in combinations(setting.everyone, 2)):
        yield "no two strategies have a split seed in common"
    else:
        yield "one split seed in common is one observation, which another may turn round"


def _against_reference(analysis: Analysis) -> Iterator[str]:
    """Question one: does choosing beat random, for which strategies, by how much?"""
    verdict = analysis.verdict
    if verdict.reference is None:
        if analysis.control is None:
            text = "whether choosing beats random sampling cannot be told: it was not run here"
            yield f"{text}; the command below runs it"
        return
    found = {standing: [] for standing in Standing}
    for name in verdict.estimates:
        if comparison := next((c for c in verdict.comparisons.with_control if c.a == name), None):
            found[comparison.standing].append(f"{name} {difference(comparison)}".rstrip())
    parts = [f"{standing.value}: {', '.join(names)}" for standing, names in found.items() if names]
    yield f"against {_reference(verdict)}, points of {verdict.measure.value}: {'; '.join(parts)}"


def _range(found: Comparison) -> str:
    return "" if np.isnan(found.low) else f" [{found.low:+.1f}, {found.high:+.1f}]"


def _at_the_end(verdict: Verdict) -> Iterator[str]:
    """Where a curve crosses that of the reference, its mean height does not say who is ahead in the end."""
    parts = [f"{name} is {_end_points(end)} it" for name, end in verdict.contradicted_at_the_end.items()]
    if parts:
        where = f"with {_last_labels(verdict)} labels, where the curves end"
        yield f"not as along the curve against {_reference(verdict)}: {where}, {'; '.join(parts)}"


def _among(verdict: Verdict) -> Iterator[str]:
    """Question two: which strategy is best, or which cannot be told apart?"""
    if verdict.leader is None or len(verdict.estimates) < 3:
        return
    if all(abs(found.estimate) < SAME for found in verdict.against_leader):
        yield "all have the same mean"
        return
    parts = [f"{called(verdict.leader)} has the highest mean"]
    if verdict.worse_than_leader:
        parts.append(f"ahead of {join([called(name) for name in verdict.worse_than_leader])}")
    if verdict.not_told_apart:
        parts.append(f"not told apart from {join([called(name) for name in verdict.not_told_apart])}")
    yield ", ".join(parts)


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
            times = f"{ratio.mean:.2f}" if ratio.mean < 1 else f"{ratio.mean:.1f}"
            parts.append(f"{times} times {words}{_seeds_or_range(ratio)}")
    if parts:
        seconds = duration(float(best.values(lambda run: run.seconds).mean()))
        yield f"compute: a whole run of {best.label} takes {seconds}, {' and '.join(parts)}"


def _seeds_or_range(ratio: Interval) -> str:
    if ratio.n < MIN_SEEDS:
        return f" ({'one seed' if ratio.n == 1 else f'{ratio.n} seeds'})"
    same = ratio.high - ratio.low < 0.01 * ratio.mean
    return f" (the same in all {ratio.n} seeds)" if same else between(ratio.low, ratio.high, 2)


def _unlike(analysis: Analysis) -> Iterator[str]:
    """What a reader could take for a fair comparison and is not one."""
    compared = {name: cell for name in analysis.verdict.estimates if (cell := analysis.cell(name))}
    for field in dict.fromkeys(field for name in compared for field in analysis.unlike(name)):
        told = "; ".join(
            f"{called(name)} {' and '.join(sorted(cell.conditions[field]))}" for name, cell in compared.items()
        )
        yield f"not like for like: the {field} goes with the strategy and may be what makes the difference ({told})"
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
    text = f"how sure: {seeds}, paired; at most {100 * verdict.level:g} % of such reports claim any difference that is "
    text += "not there (one error rate for all comparisons of the setting)"
    found = open_comparison(verdict)
    yield text + (f"; {what_settles(found, verdict.margin)}" if found and found.more else "")


# As a row


def _row(analysis: Analysis) -> tuple[str, ...]:
    verdict, best = analysis.verdict, analysis.best
    name = best.label if best else ""
    found = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
    saving = analysis.saving(name)
    ratio = time_ratio(best, analysis.setting.baseline) if best else None
    return (
        analysis.setting.title,
        _answer(analysis),
        name,
        difference(found),
        saving_words.in_a_cell(saving),
        ", ".join(called(other) for other in verdict.not_told_apart),
        str(verdict.seeds),
        span(ratio, 2),
    )


def _answer(analysis: Analysis) -> str:
    """In a word; without random sampling only the strategies are compared with each other."""
    verdict = analysis.verdict
    kind = verdict.headline.kind
    if _small_lead(analysis):
        return f"{PAYS}, by less than {verdict.margin:g} point"
    if kind is HeadlineKind.BEHIND and _open(verdict):
        return "no strategy ahead, some behind"
    if verdict.reference_tested or kind in (HeadlineKind.FIRST_LABELS, HeadlineKind.HINT):
        return IN_A_WORD[kind]
    alike = {HeadlineKind.NEGLIGIBLE: "strategies alike", HeadlineKind.UNCLEAR: "strategies not told apart"}
    lacking = f"too few seeds of {_reference(verdict)}" if verdict.reference else "random sampling not run"
    return f"{alike.get(kind, 'strategies differ')}, {lacking}"


def difference(found: Comparison | None) -> str:
    """`+2.1 [+1.2, +3.0]`."""
    return "" if found is None or np.isnan(found.estimate) else f"{found.estimate:+.1f}{_range(found)}"


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
