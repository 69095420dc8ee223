"""Targets in words: what is to be reached, and how many labels each strategy needs for it."""

from collections.abc import Iterator

import numpy as np

from sweeps.report.analysis import Analysis
from sweeps.report.label_savings import BASELINE as BASELINE_CURVE
from sweeps.report.label_savings import Bound, Need, TargetKind, TargetResult
from sweeps.report.saving_words import in_a_sentence
from sweeps.report.wording import count, number


def target_lines(analysis: Analysis) -> Iterator[str]:
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
    return f"{_counted(analysis)} to reach {told_target(result)}: {'; '.join(parts)}"


def _counted(analysis: Analysis) -> str:
    """What is counted: free labels are not."""
    return "human labels, beside the free ones," if analysis.setting.has_free_labels else "labels"


def _baseline_line(analysis: Analysis, result: TargetResult) -> str:
    goal = told_target(result)
    if result.by_first_labels:
        return f"{goal} is reached by the first labels, before any strategy chose: that is no strategy's merit"
    parts = [_need_text(need, result, analysis) for need in _ordered(analysis, result)]
    text = f"{_counted(analysis)} to reach {goal}: {'; '.join(parts)}"
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
    return text + (f", {in_a_sentence(saving)}" if saving and saving.bound is not Bound.UNKNOWN else "")


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
