"""Tables 1 and 2 of the study and its claims: one's own numbers, the published ones beside them."""

from collections.abc import Callable, Sequence
from typing import Any

from sweeps.report.analysis import accuracy, optional
from sweeps.report.cells import Cell, Family
from sweeps.report.load import Run
from sweeps.report.statistics import NAN, mean_interval
from sweeps.report.table import Table
from sweeps.report.tables import mean_of, safe_mean
from sweeps.study.claims import Claim
from sweeps.study.published import VARIANTS, Key, key_of, published, table2


def variants_table(family: Family) -> Table:
    """Table 1: images of each variant."""
    own = {cell.config.variant: (mean_of(cell, "labels"), len(cell.runs)) for cell in family.baselines}
    rows = []
    for name in [*VARIANTS, *(name for name in own if name not in VARIANTS)]:
        percent, images, distribution = VARIANTS.get(name, (None, None, None))
        mine, runs = own.get(name, (None, 0))
        difference = None if images is None or mine is None else mine - images
        rows.append((name, percent, distribution, images, mine, difference, runs))
    columns = ("variant", "share (%)", "distribution", "images, published", "images, own", "difference")
    return Table("table1_variants", "Table 1. Variants of the training set", (*columns, "baseline runs"), rows)


def _accuracy_on(split: str) -> Callable[[Run], float]:
    """In percent, of the best epoch; NaN where the split is empty."""
    return lambda run: result.scores["accuracy"] if (result := run.result.best.splits.get(split)) else NAN


MEASURES = (
    ("labels", "labels_used", lambda run: float(run.labels)),
    ("seconds", "training_time_s", lambda run: run.result.training_time_seconds),
    ("train acc. (%)", "train_accuracy", _accuracy_on("train")),
    ("val acc. (%)", "val_accuracy", _accuracy_on("val")),
    ("test acc. (%)", "test_accuracy_mean", accuracy),
    ("precision", "test_precision_mean", optional("precision")),
    ("recall", "test_recall_mean", optional("recall")),
    ("F1", "test_f1_mean", optional("f1-score")),
)


def results_table(family: Family) -> Table:
    """Table 2: every configuration, own mean, published mean, difference; test accuracy with both deviations."""
    cells = {key_of(cell.config): cell for cell in family.everyone if published(cell.runs[0])}
    keys: list[tuple[Key, Cell | None]] = [(key, cells.get(key)) for key in table2()]
    keys += [(key_of(cell.config), cell) for cell in family.everyone if cell not in cells.values()]
    columns = ["variant", "strategy", "CLIP start", "class weights", "seeds"]
    for name, *_ in MEASURES:
        columns += [name, "published", "difference"]
    columns += ["test acc. std", "published"]
    note = (
        "Own values are means over the seeds; std is the sample standard deviation. Empty: not run, or not published."
    )
    rows = [_result_row(key, cell) for key, cell in keys]
    return Table("table2_results", "Table 2. All configurations", tuple(columns), rows, note)


def _result_row(key: Key, cell: Cell | None) -> tuple:
    paper = table2().get(key, {}) if cell is None or published(cell.runs[0]) else {}
    strategy = key.strategy if cell is None else cell.label
    row: list[Any] = [key.variant, strategy, key.clip, key.weights, len(cell.runs) if cell else 0]
    for _, column, value in MEASURES:
        mine, theirs = (safe_mean(cell, value) if cell else NAN), paper.get(column, NAN)
        row += [mine, theirs, mine - theirs]
    std = mean_interval(cell.values(accuracy)).std if cell else NAN
    return (*row, std, paper.get("test_accuracy_std", NAN))


def claims_table(claims: Sequence[Claim]) -> Table:
    columns = ("", "claim", "verdict", "found here", "published", "test", "seeds")
    rows = [(c.id, c.claim, c.verdict, c.found, c.published, c.test, c.seeds) for c in claims]
    return Table("claims", "Claims C1-C8 on this data", columns, rows)
