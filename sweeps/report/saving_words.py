"""A saving in words: in a sentence, beside a bar of a chart, in a cell of a table.

What is negative is not saved but costs, and is said so: nobody should have to read that something "saves -15 %". Of
runs that miss the target a bound is all there is, and the interval is open on that side.
"""

import numpy as np

from sweeps.report.label_savings import Bound, Saving

NOTHING = 0.5
"""Percent below which, rounded, nothing is saved."""
MOST = 900.0
"""Percent of more labels from which a factor says it better: few seeds can leave an interval almost without an end."""
MOST_TIMES = 1000.0


def pays(saving: Saving) -> bool:
    """Whether anything is saved, as far as the estimate goes."""
    return saving.percent >= NOTHING


def in_a_sentence(saving: Saving) -> str:
    """`saves 24 % of the labels (95 % interval 15 to 33 %)`, `costs at least 15 % more labels`; after a subject."""
    return _estimate(saving, " of the labels", " labels") + _interval(saving)


def beside_a_bar(saving: Saving | None) -> str:
    """`saves 24 % [15, 33]`, `costs 15 % more [8, 23]`: brackets count what the words do. Empty where unknown."""
    if saving is None or saving.bound is Bound.UNKNOWN:
        return ""
    ends = (-saving.high, -saving.low) if saving.percent <= -NOTHING else (saving.low, saving.high)
    return _estimate(saving, "", "") + _brackets(*ends)


def in_a_cell(saving: Saving | None) -> str:
    """`24 [15, 33]`, `24 or more`, `-15 [-23, -8]`: percent saved, as the heading says. Empty where unknown."""
    if saving is None or saving.bound is Bound.UNKNOWN:
        return ""
    limit = {Bound.AT_LEAST: " or more", Bound.AT_MOST: " or less"}.get(saving.bound, "")
    return f"{round(saving.percent):,}{limit}{_brackets(saving.low, saving.high)}"


def _estimate(saving: Saving, of: str, more: str) -> str:
    """What is saved or costs; `of` and `more` say of what."""
    bound, percent = saving.bound, saving.percent
    if abs(percent) < NOTHING:
        return "costs no more labels" if bound is Bound.AT_LEAST else "saves no labels"
    limits = {Bound.AT_LEAST: "at least ", Bound.AT_MOST: "at most "}
    if percent > 0:
        return f"saves {limits.get(bound, '')}{percent:.0f} %{of}"
    # A saving that is at least -15 % is a cost that is at most 15 %.
    turned = {Bound.AT_LEAST: Bound.AT_MOST, Bound.AT_MOST: Bound.AT_LEAST}.get(bound)
    cost = f"{-percent:.0f} % more{more}" if -percent < MOST else _times(percent)
    return f"costs {limits.get(turned, '')}{cost}"


def _interval(saving: Saving) -> str:
    """In brackets after the estimate; nothing where there is none, or where it says nothing."""
    low, high = saving.low, saving.high
    if np.isnan(low) and np.isnan(high):
        return ""
    if np.isnan(high):
        end = f"{low:.0f} % or more" if low >= NOTHING else f"{_end(low)} or better"
        return "" if low <= -MOST else f" (95 % interval: {end})"
    if np.isnan(low):
        if pays(saving):
            return f" (95 % interval: up to {high:.0f} %)"
        return f" (95 % interval: {_end(high)} or worse)"
    if low > -NOTHING:
        return f" (95 % interval {round(low)} to {round(high)} %)"
    if high < NOTHING and low > -MOST:
        return f" (95 % interval {round(-high)} to {round(-low)} % more)"
    return f" (95 % interval: from {_end(low)} to {_end(high)})"


def _end(percent: float) -> str:
    """One end of an interval, whichever side of nothing it lies on."""
    if abs(percent) < NOTHING:
        return "nothing saved"
    if percent > 0:
        return f"{percent:.0f} % saved"
    return f"{-percent:.0f} % more labels" if percent > -MOST else _times(percent)


def _times(percent: float) -> str:
    """A saving far below nothing, as the labels over those of the other."""
    times = 1 - percent / 100
    return f"{times:,.0f} times the labels" if times < MOST_TIMES else f"over {MOST_TIMES:,.0f} times the labels"


def _brackets(low: float, high: float) -> str:
    """Nothing where an end is open; what lies beyond `MOST` is cut off."""
    if np.isnan(low) or np.isnan(high):
        return ""
    ends = ["< -900" if end < -MOST else "> 900" if end > MOST else str(round(end)) for end in (low, high)]
    return f" [{', '.join(ends)}]"
