"""Carry a published run out again, from its row alone, and hold the two against each other to the last digit.

python -m benchmarks.repeat 17                          # row 17 of benchmarks/study/runs.csv
python -m benchmarks.repeat 17 --results-dir results    # with the embeddings that are there

Images and models are looked for where the row says. On the processor and with the versions that the row names
everything comes out the same; elsewhere rounding may make some picks others.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from al.config import RunConfig
from al.errors import UserError
from al.records import learning_curve
from benchmarks.runs import run_here
from sweeps.report.csv_runs import load_csv
from sweeps.report.load import Results, Run


def main(arguments: list[str] | None = None) -> int:
    """0: the same; 1: not; 2: no such row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeat", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="+", type=int, help="numbers in the first column of runs.csv")
    parser.add_argument("--from-csv", default="benchmarks/study", help="folder of runs.csv and epochs.csv")
    parser.add_argument("--results-dir", default="results", help="where computed embeddings and zero-shot labels are")
    options = parser.parse_args(arguments)
    try:
        results = load_csv(options.from_csv)
        published = {number_of(run): run for run in results.runs}
        for row in options.rows:
            if row not in published:
                raise UserError(_no_such_row(row, options.from_csv, results))
        same = {row: repeat(published[row], Path(options.results_dir)) for row in options.rows}
        return 0 if all(same.values()) else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _no_such_row(row: int, folder: str, results: Results) -> str:
    for left in results.left_out:
        if left.source.endswith(f" {row}"):
            return f"row={row}: left out, as {left.reason}; use another row"
    return f"row={row}: no run of {folder}/runs.csv; use a number of its first column"


def number_of(run: Run) -> int:
    return int(run.source.rpartition(" ")[2])


def repeat(run: Run, caches: Path) -> bool:
    """Whether a run comes out as it is published: its accuracy, and that at every label count before it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("embeddings", "zero_shot"):
            (caches / name).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).symlink_to((caches / name).resolve())
        config = run.config.model_copy(update={"results_dir": folder, "pictures": False})
        if config.stop == "baseline" and not config.method.baseline:
            run_here(config.baseline_of())
        again = run_here(config)
        accuracy, curve = again.result().test["accuracy"], learning_curve(again.epochs.read())
    points = [(point.labels, point.test["accuracy"]) for point in learning_curve(run.epochs)]
    same = accuracy == run.test["accuracy"] and points == [(point.labels, point.test["accuracy"]) for point in curve]
    print(
        f"{describe(run.config)}: {run.test['accuracy']!r} then, {accuracy!r} now, {len(points)} label counts: ", end=""
    )
    print("the same" if same else "NOT THE SAME")
    return same


def describe(config: RunConfig) -> str:
    return f"{config.variant} {config.strategy}, split seed {config.split_seed}"


if __name__ == "__main__":
    sys.exit(main())
