"""The short answer in plain words: which strategy needs the fewest labels, what that saves, and how sure it is."""

from typing import NamedTuple

from sweeps.report.analysis import Analysis, Need, Saving, time_ratio
from sweeps.report.statistics import FEW_SEEDS, Interval

COLUMNS = ("setting", "fewest labels", "labels", "saved against stratified (%)", "saved against random (%)")
COLUMNS += ("time / baseline", "how sure")


class Decision(NamedTuple):
    """One setting's answer."""

    setting: str
    headline: str
    details: tuple[str, ...]
    row: tuple[str, ...] = ()
    """The answer as a row of `COLUMNS`; empty where there is none."""

    @property
    def text(self) -> str:
        return "\n".join([f"{self.setting}: {self.headline}", *(f"  - {line}" for line in self.details)])


def decide(analysis: Analysis) -> Decision:
    """States the answer for one setting, with no more certainty than its seeds give."""
    title, needs = analysis.setting.title, analysis.needs
    if not needs:
        return Decision(title, "nothing to compare yet.", (_why_nothing(analysis),))
    best = needs[0]
    if not best.always:
        return Decision(title, _nobody(analysis), tuple(_never(need) for need in needs))
    headline = _headline(analysis, best)
    details = [_against_stratified(analysis, best), _against_random(analysis, best), _compute(analysis, best)]
    details += [_never(need) for need in needs if not need.always] + [_unlike(analysis), _sureness(analysis, best)]
    return Decision(title, headline, tuple(line for line in details if line), _row(analysis, best))


def _row(analysis: Analysis, best: Need) -> tuple[str, ...]:
    stratified, random = analysis.saved_against_stratified(best), analysis.saved_against_random(best)
    ratio = time_ratio(best.cell, analysis.setting.baseline)
    return (
        analysis.setting.title,
        best.cell.label,
        span(best.interval, 0),
        saved(stratified),
        saved(random),
        span(ratio, 2),
        _sure_in_a_word(analysis, best),
    )


def saved(saving: Saving | None) -> str:
    return "" if saving is None else ("at least " if saving.at_least else "") + span(saving.interval)


def _sure_in_a_word(analysis: Analysis, best: Need) -> str:
    n = len(best.labels)
    seeds = f"{n} seed{'s' * (n > 1)}"
    if n < FEW_SEEDS:
        return f"{seeds}: a hint at most"
    tests = analysis.against(best)
    clear = sum(p < 0.05 for _, _, p in tests)
    if not tests:
        return f"{seeds}, nothing to compare with"
    return f"{seeds}, ahead of {'all' if clear == len(tests) else clear or 'none'} of {len(tests)} beyond chance"


def _headline(analysis: Analysis, best: Need) -> str:
    name, labels = best.cell.label, f"{count(best.interval.mean)} labels{between(best.interval, 0)}"
    goal = f"to reach {_target(analysis)}"
    if len(analysis.needs) == 1:
        return f"{name} needs {labels} {goal}."
    if len(best.labels) < FEW_SEEDS:
        return f"{name} is ahead so far: {labels} {goal}."
    if any(not p < 0.05 for _, _, p in analysis.against(best)):
        return f"no clear winner; {name} has the lowest mean, {labels}, {goal}."
    return f"{name} needs the fewest labels: {labels} {goal}."


def _why_nothing(analysis: Analysis) -> str:
    if not analysis.setting.cells:
        return "only the baseline has been run"
    if analysis.setting.baseline is None:
        return "its baseline has not been run, and there is no second strategy"
    return "strategies and baseline have no split seed in common"


def _target(analysis: Analysis) -> str:
    values = list(analysis.targets.values())
    if not values or analysis.target.endswith("%"):
        return analysis.target
    return f"{analysis.target} ({sum(values) / len(values):.1f} %{' on average' if len(values) > 1 else ''})"


def _nobody(analysis: Analysis) -> str:
    return f"no strategy reached {_target(analysis)} in every split seed; there is no saving to report."


def _never(need: Need) -> str:
    return f"{need.cell.label} reached it in {need.reached} of {len(need.labels)} split seeds only"


def _against_stratified(analysis: Analysis, best: Need) -> str:
    saving = analysis.saved_against_stratified(best)
    if saving is None:
        return "against stratified sampling: not known, its runs are missing"
    return f"against stratified sampling it {_saves(saving)}"


def _against_random(analysis: Analysis, best: Need) -> str:
    if best.cell.strategy == "random":
        return "random sampling itself does best here"
    saving = analysis.saved_against_random(best)
    if saving is None:
        return "against random sampling: not known, its runs are missing"
    return f"against random sampling it {_saves(saving)}"


def _saves(saving: Saving) -> str:
    interval = saving.interval
    least = "at least " if saving.at_least else ""
    if interval.mean >= 0:
        text = f"saves {least}{interval.mean:.0f} % of the labels{between(interval, 0, ' %')}"
    else:
        text = f"needs {-interval.mean:.0f} % more labels{between(interval, 0, ' % saved')}"
    if interval.n >= FEW_SEEDS and interval.low <= 0 <= interval.high:
        text += ", which may be nothing: the interval holds zero"
    return text


def _compute(analysis: Analysis, best: Need) -> str:
    parts = []
    for strategy, words in (("stratified", "the baseline's"), ("random", "random sampling's")):
        ratio = time_ratio(best.cell, analysis.setting.cell(strategy))
        if ratio is not None:
            parts.append(f"{ratio.mean:.2g} times {words}{between(ratio, 2)}")
    if not parts and len(analysis.setting.everyone) > 1:
        return "" if analysis.setting.same_machine else "compute: not compared, the runs come from different machines"
    seconds = duration(float(best.cell.values(lambda run: run.seconds).mean()))
    return f"compute: a whole run takes {seconds}, {' and '.join(parts)}" if parts else ""


def _unlike(analysis: Analysis) -> str:
    """What a reader could take for a fair comparison and is not one."""
    config = analysis.setting.config
    if config.shares.balanced or config.pool_scope != "full" or not analysis.stratified:
        return ""
    return (
        "not like for like: the strategies picked from the whole training set, the baseline had the imbalanced variant "
        "only; pool_scope=variant compares on the same images"
    )


def _sureness(analysis: Analysis, best: Need) -> str:
    n = len(best.labels)
    if n == 1:
        return "how sure: one split seed, so this is one observation; another seed may turn it round"
    if n < FEW_SEEDS:
        return f"how sure: {n} split seeds are too few to tell chance from effect; read it as a hint"
    tests = analysis.against(best)
    if not tests:
        return f"how sure: {n} split seeds; no other strategy to compare with"
    alike = [other.cell.label for other, _, p in tests if not p < 0.05]
    beaten = [other.cell.label for other, _, p in tests if p < 0.05]
    parts = []
    if beaten:
        parts.append(f"fewer labels than {join(beaten)} beyond chance")
    if alike:
        parts.append(f"not told apart from {join(alike)}")
    return f"how sure: {n} split seeds, paired t-tests with Holm's correction at 5 %: {'; '.join(parts)}"


def span(interval: Interval | None, digits: int = 1) -> str:
    """`mean [low, high]`; without brackets from one seed."""
    if interval is None or interval.n == 0:
        return ""
    if interval.n == 1:
        return f"{interval.mean:,.{digits}f}"
    return f"{interval.mean:,.{digits}f} [{interval.low:,.{digits}f}, {interval.high:,.{digits}f}]"


def between(interval: Interval | None, digits: int, unit: str = "") -> str:
    """The interval in brackets, or how many seeds there are where it says nothing."""
    if interval is None:
        return ""
    if interval.n < 2:
        return " (one seed)"
    if interval.high - interval.low <= 1e-9 * abs(interval.mean):
        return f" (the same in all {interval.n} seeds)"
    low, high = (count(value) if abs(value) >= 1000 else f"{value:.{digits}f}" for value in interval[1:3])
    return f" (95 % interval {low} to {high}{unit})"


def count(value: float) -> str:
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
