"""All benchmarks, each in a process of its own, and one table at the end.

python -m benchmarks                      # the default sizes, about twenty minutes on two cores
python -m benchmarks --only=scoring,startup
python -m benchmarks ablation                  # what each part of al.fast buys: only where it is named
python -m benchmarks million --strategies=badge,coreset    # one of them with its own options: the same as the next
python -m benchmarks.scoring --images=50000    # see its --help
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import HEADING, line

ROOT = Path(__file__).resolve().parents[1]
ALL = {
    "scoring": ("scoring",),
    "training_step": ("training_step",),
    "selection": ("selection", "--repeats=2"),
    "million": ("million", "--rows=1000000", "--strategies=typiclust"),
    "whole_run": ("whole_run", "--repeats=2"),
    "startup": ("startup",),
    "memory": ("memory", "--strategies=typiclust"),
    "logging_cost": ("logging_cost",),
}
"""Name -> module and what it is run with here."""
NAMED = {"ablation": ("ablation",)}
"""Those that run only where they are named."""


def run(name: str, out: Path, own: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of one benchmark, with its `own` options; none where it failed, which it has said itself."""
    module, *arguments = (ALL | NAMED)[name]
    path = out / f"{name}.csv"
    path.unlink(missing_ok=True)
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, *own, f"--csv={path}"]
    subprocess.run(command, cwd=ROOT, check=False)
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of " + ", ".join(ALL | NAMED) + "; none: all but " + ", ".join(NAMED))
    parser.add_argument("--only", default=",".join(ALL), help="the same, comma-separated")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder of the CSV files")
    options, own = parser.parse_known_args(arguments)
    names = options.names or options.only.split(",")
    if own and len(names) != 1:
        parser.error(f"{' '.join(own)}: options of one benchmark; name that one alone")
    if unknown := set(names) - set(ALL | NAMED):
        parser.error(f"{', '.join(sorted(unknown))}: no such benchmark; use {', '.join(ALL | NAMED)}")
    rows = {name: run(name, options.out.resolve(), own) for name in names}
    print(f"\n{HEADING}")
    for row in (row for found in rows.values() for row in found):
        print(line(row))
    failed = [name for name, found in rows.items() if not found]
    print(f"files in {options.out}" + (f"; FAILED: {', '.join(failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
