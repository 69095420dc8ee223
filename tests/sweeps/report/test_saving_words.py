"""Savings in words: every combination of sign, interval and bound reads as somebody would say it."""

import itertools
import re

import pytest

from sweeps.report.label_savings import Bound, Saving
from sweeps.report.saving_words import beside_a_bar, in_a_cell, in_a_sentence, pays

NAN, INF = float("nan"), float("inf")
NONE, AT_LEAST, AT_MOST, UNKNOWN = Bound.NONE, Bound.AT_LEAST, Bound.AT_MOST, Bound.UNKNOWN


def saving(bound, percent, low=NAN, high=NAN) -> Saving:
    return Saving("margin", "random", False, percent, low, high, bound, 5, 3, 2)


TABLE = [
    # All runs reach the target: an estimate, perhaps with an interval.
    (NONE, 24, 15, 33, "saves 24 % of the labels (95 % interval 15 to 33 %)", "saves 24 % [15, 33]", "24 [15, 33]"),
    (NONE, 24, 0.2, 44, "saves 24 % of the labels (95 % interval 0 to 44 %)", "saves 24 % [0, 44]", "24 [0, 44]"),
    (
        *(NONE, 24, -5, 44, "saves 24 % of the labels (95 % interval: from 5 % more labels to 44 % saved)"),
        *("saves 24 % [-5, 44]", "24 [-5, 44]"),
    ),
    (
        *(NONE, 24, -2305, 97, "saves 24 % of the labels (95 % interval: from 24 times the labels to 97 % saved)"),
        *("saves 24 % [< -900, 97]", "24 [< -900, 97]"),
    ),
    (
        *(NONE, 24, -INF, 100),
        "saves 24 % of the labels (95 % interval: from over 1,000 times the labels to 100 % saved)",
        *("saves 24 % [< -900, 100]", "24 [< -900, 100]"),
    ),
    (NONE, 24, NAN, NAN, "saves 24 % of the labels", "saves 24 %", "24"),
    (
        *(NONE, 0.3, -8, 7, "saves no labels (95 % interval: from 8 % more labels to 7 % saved)"),
        *("saves no labels [-8, 7]", "0 [-8, 7]"),
    ),
    (NONE, -0.3, -8, 0.2, "saves no labels (95 % interval 0 to 8 % more)", "saves no labels [-8, 0]", "0 [-8, 0]"),
    (NONE, -0.3, NAN, NAN, "saves no labels", "saves no labels", "0"),
    (
        *(NONE, -15, -30, 2, "costs 15 % more labels (95 % interval: from 30 % more labels to 2 % saved)"),
        *("costs 15 % more [-2, 30]", "-15 [-30, 2]"),
    ),
    (
        *(NONE, -15, -23, -8, "costs 15 % more labels (95 % interval 8 to 23 % more)"),
        *("costs 15 % more [8, 23]", "-15 [-23, -8]"),
    ),
    (
        *(NONE, -15, -INF, 60),
        "costs 15 % more labels (95 % interval: from over 1,000 times the labels to 60 % saved)",
        *("costs 15 % more [-60, > 900]", "-15 [< -900, 60]"),
    ),
    (NONE, -15, NAN, NAN, "costs 15 % more labels", "costs 15 % more", "-15"),
    (NONE, -2000, NAN, NAN, "costs 21 times the labels", "costs 21 times the labels", "-2,000"),
    # The other misses the target: the true saving is larger, and the interval has no upper end.
    (
        *(AT_LEAST, 24, 15, NAN, "saves at least 24 % of the labels (95 % interval: 15 % or more)"),
        *("saves at least 24 %", "24 or more"),
    ),
    (
        *(AT_LEAST, 24, -5, NAN, "saves at least 24 % of the labels (95 % interval: 5 % more labels or better)"),
        *("saves at least 24 %", "24 or more"),
    ),
    (AT_LEAST, 24, -INF, NAN, "saves at least 24 % of the labels", "saves at least 24 %", "24 or more"),
    (AT_LEAST, 24, NAN, NAN, "saves at least 24 % of the labels", "saves at least 24 %", "24 or more"),
    (AT_LEAST, 0, NAN, NAN, "costs no more labels", "costs no more labels", "0 or more"),
    (
        *(AT_LEAST, -15, -23, NAN, "costs at most 15 % more labels (95 % interval: 23 % more labels or better)"),
        *("costs at most 15 % more", "-15 or more"),
    ),
    # The strategy misses it: the true saving is smaller, and the interval has no lower end.
    (
        *(AT_MOST, 24, NAN, 33, "saves at most 24 % of the labels (95 % interval: up to 33 %)"),
        *("saves at most 24 %", "24 or less"),
    ),
    (AT_MOST, 24, NAN, NAN, "saves at most 24 % of the labels", "saves at most 24 %", "24 or less"),
    (
        *(AT_MOST, 0, NAN, 7, "saves no labels (95 % interval: 7 % saved or worse)"),
        *("saves no labels", "0 or less"),
    ),
    (
        *(AT_MOST, -15, NAN, 2, "costs at least 15 % more labels (95 % interval: 2 % saved or worse)"),
        *("costs at least 15 % more", "-15 or less"),
    ),
    (
        *(AT_MOST, -15, NAN, -8, "costs at least 15 % more labels (95 % interval: 8 % more labels or worse)"),
        *("costs at least 15 % more", "-15 or less"),
    ),
    (
        *(AT_MOST, -15, NAN, -0.1, "costs at least 15 % more labels (95 % interval: nothing saved or worse)"),
        *("costs at least 15 % more", "-15 or less"),
    ),
    (
        AT_MOST,
        -2000,
        NAN,
        NAN,
        "costs at least 21 times the labels",
        "costs at least 21 times the labels",
        "-2,000 or less",
    ),
]


@pytest.mark.parametrize(("bound", "percent", "low", "high", "sentence", "short", "cell"), TABLE)
def test_each_is_said_as_somebody_would(bound, percent, low, high, sentence, short, cell):
    found = saving(bound, percent, low, high)
    assert in_a_sentence(found) == sentence
    assert beside_a_bar(found) == short
    assert in_a_cell(found) == cell
    assert pays(found) == (sentence.startswith("saves ") and not sentence.startswith("saves no"))


def test_nobody_saves_a_negative_number_whatever_the_numbers():
    ends, percents = (-INF, -2000, -23, -0.3, 0, 0.4, 12, 99.7), (-3000, -15, -0.4, 0, 0.6, 24)
    for bound, percent, low, high in itertools.product((NONE, AT_LEAST, AT_MOST), percents, ends, ends):
        open_low, open_high = low > percent or bound is AT_MOST, high < percent or bound is AT_LEAST
        found = saving(bound, percent, NAN if open_low else low, NAN if open_high else high)
        for said in (in_a_sentence(found), beside_a_bar(found).partition("[")[0]):  # in brackets an end may be negative
            assert not re.search(r"-\d|nan|inf\b", said), said
        assert "nan" not in in_a_cell(found)


def test_what_is_not_known_is_not_said():
    assert beside_a_bar(saving(UNKNOWN, NAN)) == beside_a_bar(None) == in_a_cell(saving(UNKNOWN, NAN)) == ""
