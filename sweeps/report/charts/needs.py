"""Labels that each strategy needs for each target, seed by seed, and what that saves."""

from dataclasses import dataclass

from sweeps.report.analysis import Analysis
from sweeps.report.label_savings import BASELINE, TargetKind, TargetResult
from sweeps.report.saving_words import beside_a_bar
from sweeps.report.target_words import told_target


@dataclass(frozen=True)
class Need:
    strategy: str
    labels: float
    """Mean over the seeds; a bound where a run ended before it got there."""
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    beyond: tuple[bool, ...]
    """By seed, whether the run ended before it got there."""
    saving: str
    """In words, with its interval; empty where it is not known."""


@dataclass(frozen=True)
class Goal:
    title: str
    by_first_labels: bool
    needs: tuple[Need, ...]


def needs(analysis: Analysis) -> tuple[Goal, ...]:
    """One entry a target; the target that savings are told by comes first."""
    results = sorted(analysis.verdict.targets, key=lambda result: result is not analysis.main_target)
    return tuple(_goal(analysis, result) for result in results)


def _goal(analysis: Analysis, result: TargetResult) -> Goal:
    baseline = result.target.kind is TargetKind.BASELINE
    against = BASELINE if baseline else analysis.control
    made = []
    for need in result.needs:
        reaches = dict(sorted(need.accuracy.items()))
        labels = [reach.labels for reach in reaches.values()]
        saving = result.saving(need.strategy, against) if against else None
        made.append(
            Need(
                strategy=need.strategy,
                labels=sum(labels) / len(labels),
                seeds=tuple(reaches),
                by_seed=tuple(labels),
                beyond=tuple(reach.censored for reach in reaches.values()),
                saving=beside_a_bar(saving),
            )
        )
    return Goal(told_target(result), result.by_first_labels, tuple(made))
