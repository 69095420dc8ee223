"""Who wins where: every strategy of the registry on frozen embeddings, from the published runs alone.

    python -m benchmarks.registry                   # of benchmarks/registry: tables, and figures/registry.png
    python -m benchmarks.registry --runs=FOLDER     # from others, written by `python -m sweeps.report --to-csv FOLDER`

The verdict is the report's own: area under the learning curve over log labels, paired by split seed, one error rate of
5 % a setting.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al.errors import UserError
from sweeps.report.analysis import Analysis, analyse
from sweeps.report.cells import Setting, organise
from sweeps.report.comparisons import MIN_SEEDS, Comparison, Standing
from sweeps.report.csv_runs import load_csv
from sweeps.report.curves import accuracy_at

HERE = Path(__file__).parent
RUNS, FIGURE = HERE / "registry", HERE / "figures" / "registry.png"
LOOKS = {Standing.AHEAD: ("#0072B2", "ahead of random"), Standing.BEHIND: ("#D55E00", "behind random")}
OPEN = ("#8A8A8A", "cannot be told")
AT = (40, 160, 1000)
"""Label counts that the table shows; where a setting lacks one, the nearest above, or else its last."""


def settings_of(runs: Path) -> list[Analysis]:
    """The verdict on each setting: balanced before imbalanced, few first labels before many."""
    found = [setting for family in organise(load_csv(runs)) for setting in family.settings]
    if not found:
        raise UserError(f"runs={str(runs)!r}: no two strategies of one setting; use a folder that --to-csv wrote")
    found.sort(key=lambda setting: (not setting.config.shares.balanced, setting.config.initial_min))
    return [analyse(setting) for setting in found]


def title_of(setting: Setting) -> str:
    return f"{setting.config.variant}, from {setting.config.initial_min} labels"


def seeds_of(analysis: Analysis) -> str:
    count = max(len(cell.runs) for cell in analysis.setting.cells)
    few = "" if count >= MIN_SEEDS else ", too few to prove anything"
    return f"{count} split seed{'s' * (count > 1)}{few}"


def said(analysis: Analysis) -> str:
    """The verdict in a line, and a Markdown table: the whole curve, and single label counts."""
    verdict, setting = analysis.verdict, analysis.setting
    lines = [f"### {title_of(setting)}: {seeds_of(analysis)}", ""]
    for words, names in (("ahead of random", verdict.ahead), ("behind random", verdict.behind)):
        lines.append(f"- {words}: {', '.join(f'`{name}`' for name in names) or 'none for sure'}")
    known = accuracy_at(setting.cells)
    counts = sorted(set.intersection(*(set(curve) for seeds in known.values() for curve in seeds.values())))
    shown = sorted({min((count for count in counts if count >= at), default=counts[-1]) for at in AT})
    heads = " | ".join(f"at {count:,}" for count in shown)
    lines += ["", f"| strategy | seeds | whole curve - random (95 %) | {heads} |", "| --- " * (3 + len(shown)) + "|"]
    minus = {found.a: found for found in verdict.comparisons.with_control}
    for name in sorted(known, key=lambda name: -minus[name].estimate if name in minus else 0.0):
        means = " | ".join(f"{np.mean([curve[count] for curve in known[name].values()]):.1f}" for count in shown)
        lines.append(f"| `{name}` | {len(known[name])} | {_points(minus.get(name))} | {means} |")
    return "\n".join(lines)


def _points(found: Comparison | None) -> str:
    if found is None:
        return ""
    interval = f" ({found.low:+.1f} to {found.high:+.1f})" if np.isfinite(found.low) else ""
    return f"{found.estimate:+.1f}{interval}"


def draw(analyses: Sequence[Analysis], path: Path) -> None:
    """Each strategy's lead over random sampling along the whole curve, a panel a setting."""
    from matplotlib.lines import Line2D

    from sweeps.report.style import drawing, save

    first = sorted(analyses[0].verdict.comparisons.with_control, key=lambda found: found.estimate)
    names = [found.a for found in first]
    names = [cell.label for a in analyses for cell in a.setting.cells if cell.label not in (*names, a.control)] + names
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    with drawing(13, 5.8, columns=len(analyses), sharey=True) as (figure, axes):
        for ax, analysis in zip(axes[0], analyses):
            for found in analysis.verdict.comparisons.with_control:
                colour = LOOKS.get(found.standing, OPEN)[0]
                if np.isfinite(found.low):
                    ax.plot([found.low, found.high], [order[found.a]] * 2, color=colour, linewidth=2)
                ax.plot([found.estimate], [order[found.a]], "o", color=colour, markersize=7)
            ax.axvline(0, color="#3a3a3a", linewidth=1)
            ax.set_title(f"{title_of(analysis.setting)}\n{seeds_of(analysis)}")
            ax.set_xlabel("points of accuracy ahead of random")
            ax.set_yticks(list(order.values()), list(order))
        handles = [Line2D([], [], color=colour, marker="o", label=words) for colour, words in (*LOOKS.values(), OPEN)]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        save(figure, path)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0, or 2 where there is nothing to show."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.registry", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of runs.csv and epochs.csv")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args(arguments)
    try:
        analyses = settings_of(options.runs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n\n".join(map(said, analyses)))
    draw(analyses, options.figure)
    print(f"\nfigure in {options.figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
