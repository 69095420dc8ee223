"""Recompute learning curves and hold them against the kept ones; or make those again.

python -m benchmarks.reference                        # five seeds of every strategy; exit code 1 if one moved
python -m benchmarks.reference --bench three_clust    # a set of CDALBench, with the order of the strategies
python -m benchmarks.reference --update               # 20 seeds of everything, minutes: after a change that is meant
"""

import argparse
import sys

from benchmarks.reference.curves import BENCHES, SEEDS, STRATEGIES, Bench, check, mean_areas


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference", description=__doc__.partition("\n")[0])
    parser.add_argument("--bench", choices=BENCHES, action="append", help="this set only (default: digits)")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, metavar="NAME", help="these strategies only")
    parser.add_argument("--update", action="store_true", help="make the kept curves again, from 20 seeds")
    options = parser.parse_args(arguments)
    benches = [BENCHES[name] for name in options.bench or (BENCHES if options.update else ["digits"])]
    if options.update:
        for bench in benches:
            update(bench, chosen(bench, options.strategies))
        return 0
    moved = 0
    for bench in benches:
        for strategy in chosen(bench, options.strategies):
            found = check(bench, strategy)
            print(found, flush=True)
            moved += not found.holds
        print_order(bench)
    if moved:
        print(f"error: {moved} areas moved; where that is meant, make them again with --update", file=sys.stderr)
    return 1 if moved else 0


def chosen(bench: Bench, wanted: list[str] | None) -> list[str]:
    """The wanted strategies that this set has curves of."""
    return [name for name in bench.strategies if wanted is None or name in wanted]


def update(bench: Bench, strategies: list[str]) -> None:
    points = [point for point in bench.kept() if point.strategy not in strategies] if bench.file.is_file() else []
    for strategy in strategies:
        points += [point for seed in SEEDS for point in bench.curve(strategy, seed)]
        print(f"{bench.name}: {strategy}", flush=True)
    order = {name: number for number, name in enumerate(bench.strategies)}
    bench.keep(sorted(points, key=lambda point: (order[point.strategy], point.seed, point.labels)))


def print_order(bench: Bench) -> None:
    """The kept areas, the largest first, with what a strategy is ahead of random sampling."""
    for row in mean_areas(bench.kept()):
        print(
            f"{bench.name:14} {row.strategy:18} {row.area:6.2f}   ahead of random {row.ahead:+6.2f} +- {row.half:.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
