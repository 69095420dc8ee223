"""What the published runs say in a page of Markdown: measured tables, the claims, and why they come out as they do.

Everything is computed from the runs given, such as those of `benchmarks/study`; nothing is written here by hand.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from al.config import WHERE_IT_RUNS
from al.errors import UserError
from al.records import learning_curve
from sweeps.report.analysis import accuracy, repeats_one_curve
from sweeps.report.cells import conditions_of, organise
from sweeps.report.load import Results, Run
from sweeps.report.statistics import Interval, mean_interval
from sweeps.report.zero_shot import ZeroShot
from sweeps.study.claims import CLAIMED_SAVING, STUDY_IMAGES, STUDY_STRATEGIES, claims, text
from sweeps.study.published import Key, has_clip_start, is_study, table2
from sweeps.study.tables import claims_table

BALANCED = ("balanced_75", "balanced_50", "balanced_10", "balanced_5", "balanced_3", "balanced_1")
COMPARED = ("stratified", "random", *STUDY_STRATEGIES)
_STOPPING = (*((name, "full") for name in STUDY_STRATEGIES), ("random", "full"), ("random", "variant"))
PLAIN = {"class_weights": False, "init": "stratified", "stop": "budget", "pool_scope": "full"}
"""What most runs of experiment 1 have in common."""
PLACE = ("variant", "strategy", "class_weights", "init", "stop", "pool_scope", "split_seed")
"""What the tables know a run by, besides its images."""
REPEATED = (
    "± 0.00: CLIP's first labels are the same for every seed, and so was the whole run, which is one observation. "
    "The interval beside it is that of the draws of true labels alone."
)
Line = str
Pair = tuple[Sequence[Run], Sequence[Run]]


def answers(results: Results, zero_shot: Sequence[ZeroShot] = ()) -> Iterator[Line]:
    """The whole page, line by line.

    Raises:
        UserError: two runs would have the same place in a table, such as in two precisions.
    """
    _refuse_doubles(results.runs)
    runs = [run for run in results.runs if run.data.train == STUDY_IMAGES]
    yield from _headed("Experiment 1: test accuracy in percent, mean ± standard deviation over seeds", balanced(runs))
    yield from _headed("Experiment 2: labels until the baseline is beaten", imbalanced(runs))
    others = [run for run in results.runs if run.data.train != STUDY_IMAGES]
    yield from _headed("Experiment 3: CLIP's labels first, or true ones", clip_start(others))
    yield from _headed("The claims", _claims(results, zero_shot))
    yield from _headed("Why", why(runs))
    yield from _headed("What it took", took(runs))


def _refuse_doubles(runs: Sequence[Run]) -> None:
    """The tables know a run by `PLACE`: of two in one place they would take either, or the mean of two settings."""
    seen: dict[tuple[object, ...], Run] = {}
    for run in runs:
        place = {name: getattr(run.config, name) for name in PLACE}
        first = seen.setdefault((run.identity.fingerprint, *place.values()), run)
        if first is not run:
            told = " ".join(f"{name}={place[name]}" for name in ("variant", "strategy", "split_seed"))
            raise UserError(
                f"{told}: two runs in one place of a table ({_in_what(first, run)}); put them into folders of their own"
            )


def _in_what(a: Run, b: Run) -> str:
    """Where two runs differ: `schedule=converge and epoch`."""
    one, other = ({**conditions_of(run), **run.config.model_dump(exclude=set(WHERE_IT_RUNS))} for run in (a, b))
    differing = [name for name in one if one[name] != other.get(name)]
    told = (f"{name}={' and '.join(sorted((str(one[name]), str(other.get(name)))))}" for name in differing)
    return ", ".join(told) or "they do not differ"


def _headed(title: str, lines: Iterator[Line]) -> Iterator[Line]:
    """Nothing where there is nothing below the title."""
    if found := list(lines):
        yield from (f"### {title}", "", *found, "")


def _table(columns: Sequence[str], rows: Iterator[Line]) -> Iterator[Line]:
    """Nothing where there is no row."""
    if found := list(rows):
        yield from (_row(*columns), _row(*["---"] * len(columns)), *found)


def cell(runs: Sequence[Run], **fields: Any) -> list[Run]:
    """The runs whose configuration has these values, by seed."""
    found = [run for run in runs if all(getattr(run.config, name) == value for name, value in fields.items())]
    return sorted(found, key=lambda run: run.seed)


def balanced(runs: Sequence[Run]) -> Iterator[Line]:
    columns = ("share", "labels", *(f"`{name}`" for name in COMPARED), "published: stratified, the strategies")
    yield from _table(columns, _balanced_rows(runs))


def _balanced_rows(runs: Sequence[Run]) -> Iterator[Line]:
    for variant in BALANCED:
        mine = [cell(runs, variant=variant, strategy=name, **PLAIN) for name in COMPARED]
        if labels := next((group[0].labels for group in mine if group), None):
            yield _row(variant.split("_")[1] + " %", f"{labels:,}", *map(_spread, mine), _published(variant))


def imbalanced(runs: Sequence[Run]) -> Iterator[Line]:
    names = (*STUDY_STRATEGIES, "random")
    columns = (
        "majority : minority, class weights", "baseline: labels, accuracy", *(f"`{name}`" for name in names),
        "`random` from the variant", "by the first labels alone", "published: saved",
    )  # fmt: skip
    yield from _table(columns, _imbalanced_rows(runs, names))


def _imbalanced_rows(runs: Sequence[Run], names: Sequence[str]) -> Iterator[Line]:
    for variant, share in CLAIMED_SAVING.items():
        for weights in (False, True):
            baseline = cell(runs, variant=variant, strategy="stratified", class_weights=weights)
            mine = [until_baseline(runs, variant, name, weights) for name in names]
            within = until_baseline(runs, variant, "random", weights, "variant")
            everyone = [run for group in mine for run in group]
            if everyone or baseline:
                first = sum(reached_at_once(run) for run in everyone)
                yield _row(
                    f"{variant.removeprefix('imbalanced_').replace('_', ' : ')}{', weighted' if weights else ''}",
                    f"{baseline[0].labels:,}, {_spread(baseline)}" if baseline else "",
                    *(_labels(group, baseline) for group in (*mine, within)),
                    f"{first} of {len(everyone)} runs" if everyone else "",
                    "" if weights else f"{share} %",
                )


def until_baseline(
    runs: Sequence[Run], variant: str, strategy: str, weights: bool = False, scope: str = "full"
) -> list[Run]:
    """Runs that stop where they beat the baseline."""
    fields = {"variant": variant, "strategy": strategy, "class_weights": weights, "pool_scope": scope}
    return cell(runs, stop="baseline", **fields)


def reached_at_once(run: Run) -> bool:
    """Whether the first labels beat the baseline, before anything was chosen."""
    return bool(run.result.reached_baseline) and len({epoch.labels for epoch in run.epochs}) == 1


def saved(group: Sequence[Run], baseline: Sequence[Run]) -> list[float]:
    """Percent of the baseline's labels that each seed did without; 0 where it never beat it."""
    whole = {run.seed: run.labels for run in baseline}
    return [
        100 * (1 - run.labels / whole[run.seed]) if run.result.reached_baseline else 0.0
        for run in group
        if run.seed in whole
    ]


def saved_by_accuracy(group: Sequence[Run], baseline: Sequence[Run]) -> list[float]:
    """The same where a higher test accuracy were enough; 0 where that is never reached."""
    known = {run.seed: run for run in baseline}
    shares = []
    for run in (run for run in group if run.seed in known):
        goal, whole = accuracy(known[run.seed]), known[run.seed].labels
        beaten = [point.labels for point in learning_curve(run.epochs) if point.test["accuracy"] > goal]
        shares.append(100 * (1 - min(beaten, default=whole) / whole))
    return shares


def clip_start(runs: Sequence[Run]) -> Iterator[Line]:
    columns = ("labels of a pool", "strategy", "CLIP's labels first", "true labels first", "difference", "wrong")
    yield from _table(columns, _clip_start_rows(runs))
    if any(map(repeats_one_curve, _clip_starts(runs))):
        yield from ("", REPEATED)


def _clip_starts(runs: Sequence[Run]) -> Iterator[list[Run]]:
    for variant in {run.config.variant for run in runs}:
        for strategy in STUDY_STRATEGIES:
            yield cell(runs, variant=variant, strategy=strategy, init="clip")


def _clip_start_rows(runs: Sequence[Run]) -> Iterator[Line]:
    for variant in sorted({run.config.variant for run in runs}, key=lambda name: -float(name.split("_")[1])):
        pairs: list[Pair] = []
        for strategy in STUDY_STRATEGIES:
            clip, true = (cell(runs, variant=variant, strategy=strategy, init=init) for init in ("clip", "stratified"))
            if clip and true:
                pairs.append((clip, true))
                wrong = mean_interval([run.result.wrong_labels_used for run in clip]).mean
                difference = text(_paired((clip, true)), " points", sign="+")
                yield _row(_size(true), f"`{strategy}`", _spread(clip), _spread(true), difference, f"{wrong:.0f}")
        if len(pairs) > 1:
            difference = text(_paired(*pairs), " points", sign="+")
            yield _row(_size(pairs[0][1]), "mean of them", "", "", difference, "")


def _size(group: Sequence[Run]) -> str:
    return f"{group[0].labels:,} of {group[0].data.train:,}"


def _claims(results: Results, zero_shot: Sequence[ZeroShot]) -> Iterator[Line]:
    families = organise(results)
    clip = next((family for family in families if not is_study(family) and has_clip_start(family)), None)
    family = next((family for family in families if is_study(family)), None)
    if family is None:
        yield "No run on the study's data."
        return
    yield from claims_table(claims(family, zero_shot, clip)).markdown().splitlines()[2:]


def why(runs: Sequence[Run]) -> Iterator[Line]:
    """The numbers behind the README's analysis."""
    for variant in ("balanced_10", "balanced_5", "balanced_3", "balanced_1"):
        control = cell(runs, variant=variant, strategy="random", **PLAIN)
        gaps = [f"{name} {_gap(runs, variant, name, 'random')}" for name in (*STUDY_STRATEGIES, "stratified")]
        if control:
            told = "ahead of `random` where the curves end, in points, each interval by itself"
            yield f"- {variant}: {told}: {'; '.join(gaps)}."
    for variant in CLAIMED_SAVING:
        baseline = cell(runs, variant=variant, strategy="stratified", class_weights=False)
        told, by_accuracy = [], []
        for name, scope in _STOPPING:
            group = until_baseline(runs, variant, name, scope=scope)
            if group and baseline:
                title = f"{name} from the variant" if scope == "variant" else name
                told.append(f"{title} {text(mean_interval(saved(group, baseline)), ' %', 0)}")
                by_accuracy.append(f"{title} {text(mean_interval(saved_by_accuracy(group, baseline)), ' %', 0)}")
        if told:
            yield f"- {variant}: labels saved under the stopping rule: {'; '.join(told)}."
            yield f"- {variant}: labels saved by accuracy alone, its loss not asked: {'; '.join(by_accuracy)}."
        yield from _first_labels(runs, variant, baseline)


def took(runs: Sequence[Run]) -> Iterator[Line]:
    """Seconds of each strategy's runs, start-up and W&B not counted, and of the embeddings that they share."""
    yield from _table(("strategy", "runs", "seconds each", "seconds in all", "device"), _took_rows(runs))
    if embedding := max((epoch.seconds.get("embed", 0.0) for run in runs for epoch in run.epochs), default=0.0):
        yield from ("", f"The embeddings of all images took {embedding:.0f} s, once.")


def _took_rows(runs: Sequence[Run]) -> Iterator[Line]:
    for name in COMPARED:
        group = [run for run in runs if run.config.strategy == name]
        if group:
            each = [run.result.training_time_seconds for run in group]
            where = {run.result.environment.device for run in group}
            span = f"{min(each):.1f} to {max(each):.1f}"
            yield _row(f"`{name}`", f"{len(group)}", span, f"{sum(each):,.0f}", "; ".join(sorted(where)))


def _first_labels(runs: Sequence[Run], variant: str, baseline: Sequence[Run]) -> Iterator[Line]:
    """What the balanced first labels alone reach, beside the whole imbalanced variant."""
    group = until_baseline(runs, variant, "margin")
    if group and baseline:
        first = [learning_curve(run.epochs)[0] for run in group]
        mean = np.mean([epoch.test["accuracy"] for epoch in first])
        whole = np.mean([accuracy(run) for run in baseline])
        yield (
            f"- {variant}: {first[0].labels} first labels, stratified over the whole training set, reach {mean:.1f} %; "
            f"the baseline's {baseline[0].labels:,} of the variant {whole:.1f} %."
        )


def _gap(runs: Sequence[Run], variant: str, strategy: str, control: str) -> str:
    mine, other = (cell(runs, variant=variant, strategy=name, **PLAIN) for name in (strategy, control))
    return text(_paired((mine, other)), sign="+")


def _paired(*pairs: Pair) -> Interval:
    """Accuracy of the first of each pair minus that of the second, averaged over the pairs seed by seed."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for a, b in pairs:
        known = {run.seed: accuracy(run) for run in b}
        for run in (run for run in a if run.seed in known):
            by_seed[run.seed].append(accuracy(run) - known[run.seed])
    return mean_interval([float(np.mean(found)) for found in by_seed.values() if len(found) == len(pairs)])


def _spread(group: Sequence[Run]) -> str:
    if not group:
        return ""
    found = mean_interval([accuracy(run) for run in group])
    return f"{found.mean:.2f} ± {found.std:.2f}" if found.n > 1 else f"{found.mean:.2f}"


def _labels(group: Sequence[Run], baseline: Sequence[Run]) -> str:
    if not group:
        return ""
    reached = sum(bool(run.result.reached_baseline) for run in group)
    mean = np.mean([run.labels for run in group])
    shares = saved(group, baseline)
    told = f"{mean:,.0f} ({np.mean(shares):.0f} % saved)" if shares else f"{mean:,.0f}"
    if reached == len(group):
        return told
    return f"{told}, beaten in {reached} of {len(group)}, ends at {np.mean([accuracy(run) for run in group]):.1f} %"


def _published(variant: str) -> str:
    rows = {name: table2().get(Key(variant, name, False, False)) for name in ("stratified", *STUDY_STRATEGIES)}
    known = {name: row["test_accuracy_mean"] for name, row in rows.items() if row}
    others = [value for name, value in known.items() if name != "stratified"]
    span = f", {min(others):.2f} to {max(others):.2f}" if others else ""
    return f"{known['stratified']:.2f}{span}"


def _row(*cells: str) -> Line:
    return f"| {' | '.join(cells)} |"
