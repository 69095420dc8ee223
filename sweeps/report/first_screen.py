"""What the page says first: the answer in a sentence, what it saves in one small chart, and what it all rests on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from sweeps.report.analysis import Analysis
from sweeps.report.decision import Decision, summary
from sweeps.report.inference import Verdict
from sweeps.report.label_savings import Bound, Saving
from sweeps.report.load import UNKNOWN_DEVICE, UNKNOWN_TIME, Results, Run
from sweeps.report.saving_words import beside_a_bar, pays
from sweeps.report.target_words import told_target
from sweeps.report.wording import number

MOST_ROWS = 12
"""Settings that the chart shows; the table below has them all."""
WIDEST = 100.0
"""Percent to either side at which the chart ends; what lies beyond is cut off."""


class Row(NamedTuple):
    """A saving as the chart draws it; positions in percent of the chart's width."""

    name: str
    text: str
    dot: float
    low: float
    high: float
    proved: bool
    """Whether the interval leaves out zero, and the verdict has the strategy on the same side of the reference; if not,
    this may be chance."""


@dataclass(frozen=True)
class Chart:
    """Shares of labels saved, a strategy or a setting a row."""

    title: str
    zero: float
    """Where nothing is saved, in percent of the chart's width."""
    rows: tuple[Row, ...]

    @property
    def note(self) -> str:
        """What a hollow dot means; empty where every row is proved."""
        if all(row.proved for row in self.rows):
            return ""
        return (
            "Hollow: not proved. The interval reaches over zero, or it is of this one accuracy only and the verdict on "
            "the whole curve does not say the same."
        )

    @property
    def told(self) -> str:
        """The chart for those who do not see it."""
        rows = (f"{row.name} {row.text}" + ("" if row.proved else " (not proved)") for row in self.rows)
        return f"{self.title}: " + "; ".join(rows)


class FirstScreen(NamedTuple):
    """Everything above the first heading."""

    answer: str
    chart: Chart | None
    facts: tuple[str, ...]


def first_screen(
    results: Results, analyses: Sequence[Analysis], decisions: Sequence[Decision], results_dir: str
) -> FirstScreen:
    """The answer, the chart and the facts of a report."""
    return FirstScreen(summary(decisions), _chart(analyses), tuple(_facts(results, results_dir)))


def _chart(analyses: Sequence[Analysis]) -> Chart | None:
    """Of one setting every strategy, of several the leader of each; None where no saving is known."""
    if len(analyses) == 1:
        (analysis,) = analyses
        found = [(name, analysis.saving(name), analysis) for name in analysis.verdict.estimates]
        goal = told_target(analysis.main_target) if analysis.main_target else ""
        title = f"Labels saved to reach {goal}"
    else:
        leads = [(analysis, analysis.best.label) for analysis in analyses if analysis.best]
        found = [(f"{known.setting.title}: {name}", known.saving(name), known) for known, name in leads]
        title = "Labels saved by the strategy with the highest mean"
    known = [
        (name, saving, _proved(saving, analysis.verdict)) for name, saving, analysis in found if saving is not None
    ]
    return _scaled(title, known[:MOST_ROWS]) if known else None


def _proved(saving: Saving, verdict: Verdict) -> bool:
    if pays(saving):
        return saving.low > 0 and saving.strategy in verdict.ahead
    return saving.high < 0 and saving.strategy in verdict.behind


def _scaled(title: str, savings: Sequence[tuple[str, Saving, bool]]) -> Chart:
    """The chart of savings, each with its name and whether it is proved."""
    ends = [end for _, saving, _ in savings for end in (saving.low, saving.percent, saving.high) if not np.isnan(end)]
    left, right = max(-WIDEST, min(0.0, *ends)), min(WIDEST, max(10.0, *ends))
    room = 0.03 * (right - left)
    left, width = left - room, right - left + 2 * room

    def place(percent: float) -> float:
        return float(np.clip(100 * (percent - left) / width, 0, 100))

    rows = []
    for name, saving, proved in savings:
        low, high = _ends(saving, left, left + width)
        rows.append(Row(name, beside_a_bar(saving), place(saving.percent), place(low), place(high), proved))
    return Chart(title, place(0.0), tuple(rows))


def _ends(saving: Saving, left: float, right: float) -> tuple[float, float]:
    """Ends of the line: of the interval, or the chart's own on the side that a bound leaves open."""
    low = left if saving.bound is Bound.AT_MOST else saving.percent if np.isnan(saving.low) else saving.low
    high = right if saving.bound is Bound.AT_LEAST else saving.percent if np.isnan(saving.high) else saving.high
    return low, high


def _facts(results: Results, results_dir: str) -> Iterable[str]:
    """What data, how many runs, when, by which version; what is missing."""
    runs = results.runs
    seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
    cells = len({run.config.digest(split_seed=False) for run in runs})
    text = f"{len(runs)} complete runs of {cells} configurations in {(results.read_from or (results_dir,))[-1]}"
    yield f"{text}; split seeds {seeds}." if seeds else f"{text}."
    if runs:
        yield " ".join(filter(None, [_data(runs), _when(runs), _versions(runs)]))
    if results.planned:
        done = results.planned - len(results.missing)
        yield f"Sweep files: {', '.join(results.sweeps)}; {done} of {results.planned} runs complete."
    if results.left_out or results.missing:
        left = f"{number(len(results.missing), 'run')} missing and {len(results.left_out)} left out"
        yield f"{left}: see the section on what is missing for reasons and commands."


def _data(runs: Sequence[Run]) -> str:
    known = {run.data.fingerprint: (run.config.data_name, run.data) for run in runs}.values()
    told = [f"{name} ({d.train:,} + {d.test:,} images of {len(d.classes)} classes)" for name, d in known]
    return f"Data: {', '.join(sorted(told))}."


def _when(runs: Sequence[Run]) -> str:
    """Between which days they ended; empty where a run does not say."""
    times = [run.epochs[-1].time for run in runs]
    if min(times) == UNKNOWN_TIME:
        return ""
    first, last = (datetime.fromtimestamp(end, UTC).date() for end in (min(times), max(times)))
    return f"Run on {last}." if first == last else f"Run from {first} to {last}."


def _versions(runs: Sequence[Run]) -> str:
    """Commits, versions of torch and devices, as far as the runs say."""
    told = []
    for name, words, length in (("git_commit", "commit", 12), ("torch", "torch", None), ("device", "device", None)):
        found = {str(getattr(run.result.environment, name, "unknown"))[:length] for run in runs} - {UNKNOWN_DEVICE}
        told += [f"{words} {', '.join(sorted(found))}"] if found else []
    return f"By {'; '.join(told)}." if told else ""
