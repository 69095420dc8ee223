"""`python -m sweeps.report [FILES...]`: tables, figures and one page from the runs in a results folder."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from al.arguments import Parser, folder_name
from al.errors import UserError

if TYPE_CHECKING:
    from sweeps.report.load import Results


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where the arguments or folders are wrong."""
    options = _parser().parse_args(arguments)
    try:
        return _report(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> Parser:
    parser = Parser(prog="python -m sweeps.report", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="sweep files to report on (default: every run found)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="report on the runs that were given these parameters by --set",
    )
    parser.add_argument(
        "--results-dir", type=folder_name, default="results", metavar="DIR", help="results folder (default: results)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the report (default: RESULTS_DIR/report)")
    parser.add_argument(
        "--target",
        type=float,
        metavar="PERCENT",
        help="accuracy to reach, for the labels that it takes (default: what random sampling or the baseline reaches)",
    )
    parser.add_argument("--from-wandb", metavar="ENTITY/PROJECT", help="read the runs from W&B instead of the folder")
    parser.add_argument("--from-csv", metavar="FOLDER", help="read the runs from the files that --to-csv wrote")
    parser.add_argument("--to-csv", metavar="FOLDER", help="write the runs to FOLDER as CSV, in place of a report")
    return parser


def _report(options: argparse.Namespace) -> int:
    from sweeps.report.build import build
    from sweeps.report.load import select
    from sweeps.report.studies import STUDIES

    if options.target is not None and not 0 < options.target <= 100:
        raise UserError(f"target={options.target:g}: an accuracy in percent lies in (0, 100]; use for example 70")
    results = select(_found(options), options.files, options.results_dir, options.set)
    if options.to_csv:
        return _publish(results, Path(options.to_csv))
    out = Path(options.out) if options.out else Path(options.results_dir) / "report"
    report = build(results, options.results_dir, out, options.target, STUDIES)
    print("\n".join(report.facts), end="\n\n")
    for decision in report.decisions:
        print(decision.text, end="\n\n")
    print(f"Report: {report.index}")
    return 0


def _found(options: argparse.Namespace) -> "Results":
    from sweeps.report.csv_runs import load_csv
    from sweeps.report.from_wandb import load_wandb
    from sweeps.report.load import load_results

    if options.from_wandb and options.from_csv:
        raise UserError("from-wandb, from-csv: two places to read the runs from; give one of them")
    if options.from_wandb:
        return load_wandb(options.from_wandb)
    return load_csv(options.from_csv) if options.from_csv else load_results(options.results_dir)


def _publish(results: "Results", folder: Path) -> int:
    """Write the runs that a report would compare; one that it leaves out could not be told apart in the files."""
    from sweeps.report.cells import organise
    from sweeps.report.csv_runs import write_csv

    if not results.runs:
        raise UserError(f"to-csv={str(folder)!r}: no complete run to write; run the sweep first")
    runs = [run for family in organise(results) for cell in family.everyone for run in cell.runs]
    runs = list({run.source: run for run in runs}.values())
    write_csv(runs, folder)
    left_out = f", {len(results.left_out)} left out" if results.left_out else ""
    print(f"{len(runs)} runs, {len(results.missing)} missing{left_out}: {folder}")
    for item in results.left_out:
        print(f"  {item.source}: {item.reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
