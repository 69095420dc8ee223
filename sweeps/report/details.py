"""The lines below the first sentence: every comparison, the compute, how sure it is, and what is not like for like."""

from collections.abc import Iterator
from itertools import combinations

from sweeps.report.analysis import CONTROL, Analysis, time_ratio
from sweeps.report.cells import BASELINE
from sweeps.report.comparisons import MIN_SEEDS, Standing
from sweeps.report.inference import HeadlineKind, Verdict
from sweeps.report.more_seeds import open_comparison, what_settles
from sweeps.report.statistics import Interval
from sweeps.report.target_words import target_lines
from sweeps.report.verdict_words import difference, end_points, last_labels, the_reference
from sweeps.report.wording import between, called, duration, join, number

SAME = 1e-9
"""Points within which means are one: strategies that picked the same images."""


def detail_lines(analysis: Analysis) -> Iterator[str]:
    """What there is to say of one setting besides the first sentence, a line each."""
    verdict = analysis.verdict
    kind = verdict.headline.kind
    if kind is HeadlineKind.NOTHING:
        yield from _why_nothing(analysis)
    else:
        yield from _against_reference(analysis)
        yield from _at_the_end(verdict)
        yield from _among(verdict)
    yield from target_lines(analysis)
    if kind not in (HeadlineKind.NOTHING, HeadlineKind.FIRST_LABELS):
        yield from _compute(analysis)
        yield from _repeated(analysis)
        yield from _sureness(verdict)
    yield from _unlike(analysis)


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
    yield f"against {the_reference(verdict)}, points of {verdict.measure.value}: {'; '.join(parts)}"


def _at_the_end(verdict: Verdict) -> Iterator[str]:
    """Where a curve crosses that of the reference, its mean height does not say who is ahead in the end."""
    parts = [f"{name} is {end_points(end)} it" for name, end in verdict.contradicted_at_the_end.items()]
    if parts:
        where = f"with {last_labels(verdict)} labels, where the curves end"
        yield f"not as along the curve against {the_reference(verdict)}: {where}, {'; '.join(parts)}"


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


def _repeated(analysis: Analysis) -> Iterator[str]:
    if names := analysis.repeated:
        told = join([called(name) for name in names])
        yield (
            f"one observation: all split seeds of {told} gave the same curve, so what is said of it holds for these "
            "images and these first labels"
        )


def _sureness(verdict: Verdict) -> Iterator[str]:
    seeds = number(verdict.seeds, "split seed")
    if verdict.seeds < MIN_SEEDS:
        yield f"how sure: {seeds} are too few to tell chance from effect; read it as a hint"
        return
    if verdict.missing_seeds:
        lacking = [f"{name} {', '.join(map(str, found))}" for name, found in verdict.missing_seeds.items()]
        yield f"split seeds that are missing: {'; '.join(lacking)}"
    text = (
        f"how sure: {seeds}, paired; at most {100 * verdict.level:g} % of such reports claim any difference that is "
        "not there (one error rate for all comparisons of the setting; looking again after more seeds raises it)"
    )
    found = open_comparison(verdict)
    yield text + (f"; {what_settles(found, verdict.margin)}" if found and found.more else "")
