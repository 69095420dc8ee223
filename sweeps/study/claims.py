"""The study's claims C1-C8, each tested on one's own runs: the test, the numbers, the verdict.

Claims about a size ("about 73 %", "64 % fewer") hold where the whole 95 % interval lies within the margin named in the
test, fail where it lies outside, and cannot be told yet otherwise. Claims about an order use paired t-tests over the
split seeds with Holm's correction, at 5 %.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeps.report.analysis import accuracy
from sweeps.report.cells import BASELINE, Cell, Family, Setting, paired
from sweeps.report.load import Run
from sweeps.report.statistics import (
    FAILS,
    FEW_SEEDS,
    HOLDS,
    UNKNOWN,
    Interval,
    Test,
    holm,
    mean_interval,
    paired_test,
    ratio_interval,
    within,
)
from sweeps.report.zero_shot import ZeroShot
from sweeps.study.published import Key, published_zero_shot, table2

STUDY_STRATEGIES = ("uncertainty", "margin", "typiclust")

STUDY_IMAGES = 50_000

CLOSE = 2.0
"""Points of accuracy that count as the same."""
NOTHING = 1.0
"""Points of accuracy that count as no cost at all (C8)."""
A_LITTLE = 5.0
"""Points of accuracy that still count as a little (C8)."""
SHARE = 10.0
"""Points of labels saved that count as the claimed share (C5)."""


class Claim(NamedTuple):
    """One claim on one's own data."""

    id: str
    claim: str
    test: str
    published: str
    found: str
    verdict: str
    seeds: int


def claims(family: Family, zero_shot: Sequence[ZeroShot] = (), other_pool: Family | None = None) -> list[Claim]:
    """All claims on a family's runs, in the study's order.

    Args:
        other_pool: runs with CLIP's labels on other images of CIFAR-10, for where these ones have none.
    """
    made = [_c1(family), *_c2(family), _c3(family), _c4(family), *_c5(family), _c6(family)]
    with_clip = family if other_pool is None or family.find(init="clip") else other_pool
    return [*made, _c7(family, zero_shot), *_c8(with_clip)]


def overall(verdicts: Iterable[str]) -> str:
    """Several parts as one: holds where all do, does not where one does not."""
    verdicts = list(verdicts)
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and all(verdict == HOLDS for verdict in verdicts) else UNKNOWN


def _balanced(family: Family, init: str = "stratified", variant: str | None = None) -> list[Setting]:
    settings = family.find(balanced=True, init=init, stop="budget", class_weights=False, budget=None)
    return [setting for setting in settings if variant in (None, setting.config.variant)]


def _study_cells(setting: Setting) -> list[Cell]:
    return [cell for cell in setting.cells if cell.strategy in STUDY_STRATEGIES]


def _by_seed(cells: list[Cell], value: Callable[[Run], float]) -> dict[int, float]:
    """Mean over the cells, for each split seed that all of them have."""
    shared = set.intersection(*(set(cell.by_seed) for cell in cells)) if cells else set()
    return {seed: float(np.mean([value(cell.by_seed[seed]) for cell in cells])) for seed in sorted(shared)}


def _both(a: dict[int, float], b: dict[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    seeds = sorted(set(a) & set(b))
    return np.array([a[seed] for seed in seeds]), np.array([b[seed] for seed in seeds])


def text(interval: Interval, unit: str = "", digits: int = 1, sign: str = "") -> str:
    """`mean [low, high]`."""
    if interval.n == 0:
        return "no runs"
    if interval.n == 1:
        return f"{interval.mean:{sign}.{digits}f}{unit} (one seed)"
    return f"{interval.mean:{sign}.{digits}f}{unit} [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"


def _ordered(test: Test, p: float) -> str:
    """Verdict on "a is greater than b"."""
    if not p < 0.05:
        return UNKNOWN
    return HOLDS if test.difference.mean > 0 else FAILS


def _paper(variant: str, strategies: Iterable[str], column: str, clip=False, weights=False) -> float:
    rows = [table2().get(Key(variant, strategy, clip, weights)) for strategy in strategies]
    return float(np.mean([row[column] for row in rows if row]))


def _c1(family: Family) -> Claim:
    words = "At 10 % the strategies reach about 73 %, the baseline 67.1 %"
    test = f"95 % intervals within {CLOSE:g} points of 73 and of 67.1 %"
    strategies = _paper("balanced_10", STUDY_STRATEGIES, "test_accuracy_mean")
    baseline = _paper("balanced_10", [BASELINE], "test_accuracy_mean")
    told = f"{strategies:.1f} % and {baseline:.1f} %"
    settings = _balanced(family, variant="balanced_10")
    if not settings or not _study_cells(settings[0]) or settings[0].baseline is None:
        return Claim("C1", words, test, told, "strategies or baseline not run at 10 %", UNKNOWN, 0)
    own = mean_interval(list(_by_seed(_study_cells(settings[0]), accuracy).values()))
    base = mean_interval(settings[0].baseline.values(accuracy))
    verdict = overall([within(own, 73 - CLOSE, 73 + CLOSE), within(base, 67.1 - CLOSE, 67.1 + CLOSE)])
    found = f"strategies {text(own, ' %')}, baseline {text(base, ' %')}"
    return Claim("C1", words, test, told, found, verdict, min(own.n, base.n))


def _gaps(family: Family) -> dict[str, dict[int, float]]:
    """By variant and seed: mean of the strategies minus the baseline."""
    gaps = {}
    for setting in _balanced(family):
        if setting.baseline and _study_cells(setting):
            a, b = _by_seed(_study_cells(setting), accuracy), _by_seed([setting.baseline], accuracy)
            gaps[setting.config.variant] = {seed: a[seed] - b[seed] for seed in a if seed in b}
    return {variant: gap for variant, gap in gaps.items() if gap}


def _c2(family: Family) -> list[Claim]:
    words = "The strategies beat stratified sampling at every balanced budget"
    how = "paired t-test of each strategy against the baseline at each of the study's budgets, Holm over all of them"
    tests = []
    for setting in _balanced(family):
        for cell in _study_cells(setting) if setting.baseline else ():
            a, b = paired(cell, setting.baseline, accuracy)
            if len(a):
                tests.append((setting.config.variant, cell.label, paired_test(a, b)))
    adjusted = holm([test.p for *_, test in tests])
    enough = set(_paper_gaps()) <= {variant for variant, *_ in tests}
    verdict = overall([_ordered(test, p) for (*_, test), p in zip(tests, adjusted)] + ([] if enough else [UNKNOWN]))
    gaps = {variant: mean_interval(list(gap.values())) for variant, gap in _gaps(family).items()}
    parts = [f"{_percent(variant)}: {text(gap, sign='+')} points" for variant, gap in gaps.items()]
    clear = sum(p < 0.05 and test.difference.mean > 0 for (*_, test), p in zip(tests, adjusted))
    found = (
        f"{'; '.join(parts)}. {clear} of {len(tests)} comparisons clear" if tests else "no balanced runs with baseline"
    )
    told = "; ".join(f"{_percent(variant)}: {gap:+.1f}" for variant, gap in _paper_gaps().items())
    seeds = min((test.difference.n for *_, test in tests), default=0)
    return [Claim("C2", words, how, told, found, verdict, seeds), _c2_least(family, gaps, told)]


def _paper_gaps() -> dict[str, float]:
    return {
        variant: _paper(variant, STUDY_STRATEGIES, "test_accuracy_mean")
        - _paper(variant, [BASELINE], "test_accuracy_mean")
        for variant in ("balanced_10", "balanced_5", "balanced_3", "balanced_1")
    }


def _percent(variant: str) -> str:
    return variant.removeprefix("balanced_").removeprefix("imbalanced_").replace("_", "/") + " %"


def _c2_least(family: Family, gaps: dict[str, Interval], told: str) -> Claim:
    words = "... and by least at 1 %"
    how = "paired t-tests of the lead at 1 % against the lead at each other budget, Holm"
    found = _gaps(family)
    smallest = found.get("balanced_1", {})
    others = {variant: gap for variant, gap in found.items() if variant != "balanced_1"}
    tests = {variant: paired_test(*_both(gap, smallest)) for variant, gap in others.items() if set(gap) & set(smallest)}
    if not tests:
        return Claim("C2b", words, how, told, "1 % and another budget are needed", UNKNOWN, 0)
    adjusted = holm([test.p for test in tests.values()])
    verdict = overall(_ordered(test, p) for test, p in zip(tests.values(), adjusted))
    parts = [f"{_percent(variant)} - 1 %: {text(test.difference, sign='+')}" for variant, test in tests.items()]
    return Claim("C2b", words, how, told, "; ".join(parts), verdict, gaps["balanced_1"].n)


def _c3(family: Family) -> Claim:
    words = "The three strategies do not differ in accuracy"
    how = f"pairwise paired t-tests with Holm find no difference, and every 95 % interval lies within {CLOSE:g} points"
    spread = [
        [table2()[Key(variant, strategy, False, False)]["test_accuracy_mean"] for strategy in STUDY_STRATEGIES]
        for variant in _paper_gaps()
    ]
    told = f"largest difference {max(max(row) - min(row) for row in spread):.1f} points"
    tests = []
    for setting in _balanced(family):
        for a, b in combinations(_study_cells(setting), 2):
            values = paired(a, b, accuracy)
            if len(values[0]):
                tests.append((f"{_percent(setting.config.variant)} {a.label} - {b.label}", paired_test(*values)))
    if not tests:
        return Claim("C3", words, how, told, "fewer than two strategies with seeds in common", UNKNOWN, 0)
    adjusted = holm([test.p for _, test in tests])
    differ = [(name, test) for (name, test), p in zip(tests, adjusted) if p < 0.05]
    verdict = FAILS if differ else overall(_no_fail(within(test.difference, -CLOSE, CLOSE)) for _, test in tests)
    name, widest = max(tests, key=lambda pair: abs(pair[1].difference.mean))
    found = (
        f"{len(differ)} of {len(tests)} pairs differ; largest {name}: {text(widest.difference, ' points', sign='+')}"
    )
    return Claim("C3", words, how, told, found, verdict, min(test.difference.n for _, test in tests))


def _no_fail(verdict: str) -> str:
    """An interval outside the margin that Holm's test does not confirm leaves the claim open."""
    return UNKNOWN if verdict == FAILS else verdict


def _c4(family: Family) -> Claim:
    words = "TypiClust costs about 1.5 times the training time"
    how = "ratio to the mean of uncertainty and margin over the balanced budgets, by seed; 95 % interval in 1.2 to 1.9"
    ratios = [
        _paper(variant, ["typiclust"], "training_time_s")
        / _paper(variant, ["uncertainty", "margin"], "training_time_s")
        for variant in _paper_gaps()
    ]
    told = f"{np.exp(np.mean(np.log(ratios))):.2f} times"
    logs: dict[int, list[float]] = {}
    for setting in _balanced(family):
        mine, others = setting.cell("typiclust"), [setting.cell(name) for name in ("uncertainty", "margin")]
        others = [cell for cell in others if cell]
        if mine and others and len(mine.machines.union(*(cell.machines for cell in others))) == 1:
            a, b = _by_seed([mine], _training_time), _by_seed(others, _training_time)
            for seed in set(a) & set(b):
                logs.setdefault(seed, []).append(float(np.log(a[seed] / b[seed])))
    if not logs:
        return Claim("C4", words, how, told, "no runs of both on the same kind of machine", UNKNOWN, 0)
    ratio = ratio_interval([np.exp(np.mean(values)) for values in logs.values()], np.ones(len(logs)))
    return Claim("C4", words, how, told, text(ratio, " times", 2), within(ratio, 1.2, 1.9), ratio.n)


def _training_time(run: Run) -> float:
    """Without embeddings, as the paper took it."""
    return run.result.training_time_seconds


CLAIMED_SAVING = {"imbalanced_50_1": 64, "imbalanced_10_1": 39, "imbalanced_3_1": 20}


def _saved(setting: Setting) -> dict[int, float]:
    """Percent of the baseline's labels that a strategy saved, mean by seed; one that never beat it saved nothing."""
    if setting.baseline is None or not _study_cells(setting):
        return {}
    whole = _by_seed([setting.baseline], lambda run: run.human_labels)

    def share(run: Run) -> float:
        used = run.human_labels if run.result.reached_baseline else np.inf
        return 100 * (1 - min(used, whole[run.seed]) / whole[run.seed]) if run.seed in whole else np.nan

    return {seed: saved for seed, saved in _by_seed(_study_cells(setting), share).items() if seed in whole}


def _c5(family: Family) -> list[Claim]:
    made = []
    for variant, share in CLAIMED_SAVING.items():
        words = f"On {variant} the strategies need {share} % fewer labels than the baseline"
        how = f"share saved, mean of the strategies by seed; 95 % interval within {SHARE:g} points of {share} %"
        row = {name: _paper(variant, STUDY_STRATEGIES, name) for name in ("labels_used", "variant_size")}
        told = f"{100 * (1 - row['labels_used'] / row['variant_size']):.0f} %"
        settings = family.find(variant=variant, stop="baseline", class_weights=False, init="stratified")
        saved = list(_saved(settings[0]).values()) if settings else []
        own = mean_interval(saved)
        found = text(own, " %") if saved else "not run, or no baseline"
        made.append(Claim("C5", words, how, told, found, within(own, share - SHARE, share + SHARE), own.n))
    return made


def _gains(family: Family) -> list[tuple[str, Test]]:
    """What class weights gain: points of accuracy for baselines, points of labels saved for strategies."""
    gains = []
    plain = {cell.config.variant: cell for cell in family.baselines if not cell.config.class_weights}
    for cell in family.baselines:
        other = plain.get(cell.config.variant)
        if cell.config.class_weights and other:
            values = paired(cell, other, accuracy)
            gains += [(f"{cell.config.variant} baseline accuracy", paired_test(*values))] if len(values[0]) else []
    for variant in CLAIMED_SAVING:
        pair = [
            family.find(variant=variant, stop="baseline", class_weights=on, init="stratified") for on in (True, False)
        ]
        if all(pair):
            values = _both(_saved(pair[0][0]), _saved(pair[1][0]))
            gains += [(f"{variant} labels saved", paired_test(*values))] if len(values[0]) else []
    return gains


WEIGHTED = ("imbalanced_10_1", "imbalanced_3_1")
"""Variants that the study trained with class weights too; the claim is of both."""


def _c6(family: Family) -> Claim:
    words = "Class weights do not help"
    how = f"paired t-tests with and without, Holm, find no gain, and every 95 % interval ends below {CLOSE:g} points"
    with_and_without = [
        [_paper(variant, [BASELINE], "test_accuracy_mean", weights=on) for on in (True, False)] for variant in WEIGHTED
    ]
    told = "accuracy of the baseline " + ", ".join(f"{on - off:+.1f} points" for on, off in with_and_without)
    gains = _gains(family)
    if not gains:
        return Claim("C6", words, how, told, "no pair of runs with and without class weights", UNKNOWN, 0)
    adjusted = holm([test.p for _, test in gains])
    helped = [name for (name, test), p in zip(gains, adjusted) if p < 0.05 and test.difference.mean > 0]
    small = all(test.difference.n >= FEW_SEEDS and test.difference.high <= CLOSE for _, test in gains)
    found = "; ".join(f"{name} {text(test.difference, sign='+')}" for name, test in gains)
    every = all(any(variant in name for name, _ in gains) for variant in WEIGHTED)
    verdict = FAILS if helped else HOLDS if small and every else UNKNOWN
    return Claim("C6", words, how, told, found, verdict, min(test.difference.n for _, test in gains))


def _c7(family: Family, zero_shot: Sequence[ZeroShot]) -> Claim:
    words = "CLIP's labels are 87.5 % right on the training set"
    how = "Wilson's 95 % interval of the share within 1 point of 87.5 %"
    paper = published_zero_shot()
    told = f"{100 * paper.right / paper.total:.1f} % of {paper.total:,}"
    own = [_share_right(labels) for labels in zero_shot if labels.total == family.images]
    found = "; ".join(f"{text(share, ' %', 2)} of {share.n:,}" for share in own)
    if len(own) != 1:
        others = [f"{text(share, ' %', 2)} of {share.n:,} other images" for share in map(_share_right, zero_shot)]
        found = (
            f"{len(own)} sets of labels, by different models or prompts: {found}"
            if own
            else "; ".join(["no zero-shot labels of it", *others])
        )
        return Claim("C7", words, how, told, found, UNKNOWN, 0)
    return Claim("C7", words, how, told, found, within(own[0], 86.5, 88.5), 1)


def _share_right(labels: ZeroShot) -> Interval:
    ends = stats.binomtest(labels.right, labels.total).proportion_ci(method="wilson")
    share = 100 * labels.right / labels.total
    return Interval(share, 100 * ends.low, 100 * ends.high, float("nan"), labels.total)


def _c8(family: Family) -> list[Claim]:
    parts = (
        ("balanced_10", 5000, "At 10 % CLIP initialisation costs nothing in accuracy", -NOTHING, NOTHING),
        ("balanced_3", 1500, "At 3 % CLIP initialisation costs a little accuracy", -A_LITTLE, 0.0),
    )
    made = []
    for paper_variant, labels, words, low, high in parts:
        variant = f"balanced_{100 * labels / family.images:g}"  # the study's label count, also of a smaller pool
        how = (
            f"CLIP start minus true labels, mean of the strategies by seed; 95 % interval in {low:g} to {high:g} points"
        )
        paper = [_paper(paper_variant, STUDY_STRATEGIES, "test_accuracy_mean", clip=clip) for clip in (True, False)]
        pair = [_balanced(family, init, variant) for init in ("clip", "stratified")]
        values = _clip_difference(*(settings[0] for settings in pair)) if all(pair) else ()
        own = mean_interval(values)
        found = text(own, " points", sign="+") if len(values) else "not run with both starts"
        found += f", {labels:,} of a pool of {family.images:,}" if family.images != STUDY_IMAGES else ""
        made.append(Claim("C8", words, how, f"{paper[0] - paper[1]:+.1f} points", found, within(own, low, high), own.n))
    return made


def _clip_difference(clip: Setting, true: Setting) -> NDArray[np.float64]:
    names = {cell.strategy for cell in _study_cells(clip)} & {cell.strategy for cell in _study_cells(true)}
    if not names:
        return np.array([])
    a, b = _both(*(_by_seed([setting.cell(name) for name in names], accuracy) for setting in (clip, true)))
    return a - b
