"""Who wins where: every strategy of the registry on frozen embeddings, from one row a run.

    python -m benchmarks.registry                      # from benchmarks/registry/runs.csv: tables and registry.png
    python -m benchmarks.registry --results=results    # writes that file anew, from runs of sweeps/registry*.yaml

The verdict is the report's own: area under the learning curve over log labels, paired by split seed, one error rate of
5 % a setting. What is printed and drawn needs the CSV file alone.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweeps.report.comparisons import MIN_SEEDS, Comparison, Standing
from sweeps.report.inference import Evidence, Verdict, judge
from sweeps.report.label_savings import Curve

if TYPE_CHECKING:
    from sweeps.report.load import Run

HERE = Path(__file__).parent
RUNS, FIGURE = HERE / "registry" / "runs.csv", HERE / "figures" / "registry.png"
CONTROL = "random"
COLUMNS = ("variant", "first_labels", "strategy", "options", "split_seed", "labels", "accuracy", "loss")
COLUMNS += ("seconds", "peak_memory_mb", "digest")
OPTIONS = ("probcover_delta",)
"""Fields whose value tells two configurations of one strategy apart; those with one are not part of the verdict."""
COLOURS = {Standing.AHEAD: "#0072B2", Standing.BEHIND: "#D55E00"}
OPEN = "#8A8A8A"
AT = (40, 160, 1000)
"""Label counts that the table shows; of a setting that has none of them, the nearest above."""

Setting = tuple[str, int]
"""Variant and number of first labels."""
Runs = Mapping[Setting, Mapping[str, Mapping[int, Curve]]]
"""By setting, strategy and split seed."""


def rows_of(results: Path) -> list[dict[str, object]]:
    """The rows of the CSV file, a run each."""
    from sweeps.report.curves import learning_curve
    from sweeps.report.load import load_results

    rows = []
    for run in _with_everybody(load_results(results).runs):
        curve = learning_curve(run)
        told = [f"{name}={value}" for name in OPTIONS if (value := getattr(run.config, name)) is not None]
        known = (run.config.variant, int(curve.labels[0]), run.config.strategy_title, " ".join(told), run.seed)
        columns = ((curve.labels, ".0f"), (curve.accuracy, ".2f"), (curve.loss, ".4f"))
        lists = [" ".join(format(value, form) for value in values) for values, form in columns]
        cost = (f"{run.seconds:.1f}", f"{run.result.peak_memory_mb:.0f}", run.digest[:16])
        rows.append(dict(zip(COLUMNS, (*known, *lists, *cost), strict=True)))
    return sorted(rows, key=lambda row: [str(row[name]) for name in COLUMNS[:4]] + [int(str(row["split_seed"]))])


def _with_everybody(runs: Sequence["Run"]) -> list["Run"]:
    """Those of split seeds that every strategy of their setting has completed: seeds are paired."""
    present: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    for run in runs:
        present[run.config.variant, run.config.initial_min, run.seed].add(run.config.strategy)
    everybody = set().union(*present.values())
    return [run for run in runs if present[run.config.variant, run.config.initial_min, run.seed] == everybody]


def write(rows: Iterable[Mapping[str, object]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> Runs:
    found: dict[Setting, dict[str, dict[int, Curve]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            title = " ".join(part for part in (row["strategy"], row["options"]) if part)
            labels, accuracy, loss = (np.array(row[name].split(), float) for name in ("labels", "accuracy", "loss"))
            setting = row["variant"], int(row["first_labels"])
            found[setting][title][int(row["split_seed"])] = Curve(labels, labels, accuracy, loss)
    return found


def verdict_on(curves: Mapping[str, Mapping[int, Curve]]) -> Verdict:
    """What the report says of a setting, of the strategies at their defaults."""
    return judge(Evidence({name: runs for name, runs in curves.items() if "=" not in name}, CONTROL))


def against_control(verdict: Verdict) -> list[Comparison]:
    """Each strategy - random sampling, the largest first."""
    return sorted(verdict.comparisons.with_control, key=lambda found: -found.estimate)


def seeds_of(curves: Mapping[str, Mapping[int, Curve]]) -> str:
    count = len(curves[CONTROL])
    few = "" if count >= MIN_SEEDS else ": too few to prove anything"
    return f"{count} split seed{'s' * (count > 1)}{few}"


def title_of(setting: Setting) -> str:
    variant, first = setting
    return f"{variant}, from {first} labels"


def said(setting: Setting, curves: Mapping[str, Mapping[int, Curve]]) -> str:
    """The verdict in a line, and a Markdown table: the whole curve, and single label counts."""
    verdict = verdict_on(curves)
    lines = [f"### {title_of(setting)}: {seeds_of(curves)}", ""]
    for words, names in (("ahead of random", verdict.ahead), ("behind random", verdict.behind)):
        lines.append(f"- {words}: {', '.join(f'`{name}`' for name in names) or 'none for sure'}")
    counts = sorted(set.intersection(*(set(curve.labels) for runs in curves.values() for curve in runs.values())))
    shown = sorted({min((count for count in counts if count >= at), default=counts[-1]) for at in AT})
    heads = " | ".join(f"at {count:,.0f}" for count in shown)
    lines += [
        "",
        f"| strategy | whole curve - random (95 %) | {heads} | best - this |",
        "| --- " * (3 + len(shown)) + "|",
    ]
    minus = {found.a: found for found in verdict.comparisons.with_control}
    for name in [*verdict.estimates, *(name for name in curves if "=" in name)]:
        found, last = minus.get(name), ""
        told = f"{found.estimate:+.1f}" if found else ""
        told += f" ({found.low:+.1f} to {found.high:+.1f})" if found and np.isfinite(found.low) else ""
        if (lag := verdict.comparisons.of(verdict.leader, name)) and verdict.leader:
            last = f"{lag.estimate:.1f}{'' if lag.standing is Standing.AHEAD else ', not told apart'}"
        means = " | ".join(f"{accuracy_at(curves[name], count):.1f}" for count in shown)
        lines.append(f"| `{name}` | {told} | {means} | {last} |")
    return "\n".join(lines)


def accuracy_at(runs: Mapping[int, Curve], count: float) -> float:
    return float(np.mean([curve.accuracy[curve.labels == count][0] for curve in runs.values()]))


def draw(runs: Runs, path: Path) -> None:
    """Each strategy's lead over random sampling along the whole curve, a panel a setting."""
    from matplotlib.lines import Line2D

    from sweeps.report.style import drawing, save

    settings = [(setting, verdict_on(runs[setting])) for setting in runs]
    order = [found.a for found in against_control(settings[0][1])][::-1]
    with drawing(13, 5.8, columns=len(settings), sharey=True) as (figure, axes):
        for ax, (setting, verdict) in zip(axes[0], settings):
            for found in against_control(verdict):
                place, colour = order.index(found.a), COLOURS.get(found.standing, OPEN)
                ax.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
                ax.plot([found.estimate], [place], "o", color=colour, markersize=7)
            ax.axvline(0, color="#3a3a3a", linewidth=1)
            ax.set(title=f"{title_of(setting)}\n{seeds_of(runs[setting])}", xlabel="points of accuracy ahead of random")
            ax.set_yticks(range(len(order)), order)
        entries = [
            *(
                (colour, f"{standing.value} of random" if standing is Standing.AHEAD else "behind random")
                for standing, colour in COLOURS.items()
            ),
            (OPEN, "cannot be told"),
        ]
        handles = [Line2D([], [], color=colour, marker="o", label=words) for colour, words in entries]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        save(figure, path)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of runs; the CSV file is written from them")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the CSV file")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args(arguments)
    if options.results is not None:
        write(rows_of(options.results), options.runs)
    runs = read(options.runs)
    print("\n\n".join(said(setting, curves) for setting, curves in runs.items()))
    draw(runs, options.figure)
    print(f"\nfigure in {options.figure}")


if __name__ == "__main__":
    main(sys.argv[1:])
