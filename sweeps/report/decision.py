"""The answer in plain words: does choosing beat random, which strategy is best, what it saves, and how sure that is.

Every number comes from the verdict, so that the page says the same everywhere.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sweeps.report import saving_words
from sweeps.report.analysis import Analysis, time_ratio
from sweeps.report.details import detail_lines
from sweeps.report.headline import headline, may_pay, small_lead
from sweeps.report.inference import HeadlineKind
from sweeps.report.more_seeds import next_command
from sweeps.report.verdict_words import difference, the_reference
from sweeps.report.wording import called, span

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
    row = () if analysis.verdict.headline.kind is HeadlineKind.NOTHING else _row(analysis)
    command = next_command(analysis, results_dir)
    return Decision(analysis.setting.title, headline(analysis), tuple(detail_lines(analysis)), row, command)


def _row(analysis: Analysis) -> tuple[str, ...]:
    verdict, best = analysis.verdict, analysis.best
    name = verdict.leader or (best.label if best else "")
    found = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
    saving = analysis.saving(name)
    cell = analysis.cell(name)
    ratio = time_ratio(cell, analysis.setting.baseline) if cell else None
    return (
        analysis.setting.title,
        _answer(analysis),
        called(name),
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
    if small_lead(analysis):
        return f"{PAYS}, by less than {verdict.margin:g} point"
    if kind is HeadlineKind.BEHIND and may_pay(verdict):
        return "no strategy ahead, some behind"
    if kind is HeadlineKind.UNCLEAR and verdict.reference_tested and verdict.worse_than_leader:
        return "none told from the reference, some differ"
    if verdict.reference_tested or kind in (HeadlineKind.FIRST_LABELS, HeadlineKind.HINT):
        return IN_A_WORD[kind]
    alike = {HeadlineKind.NEGLIGIBLE: "strategies alike", HeadlineKind.UNCLEAR: "strategies not told apart"}
    lacking = f"too few seeds of {the_reference(verdict)}" if verdict.reference else "random sampling not run"
    return f"{alike.get(kind, 'strategies differ')}, {lacking}"


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
