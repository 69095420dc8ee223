"""`python -m sweeps.study [FOLDER]`: print tables, claims and analysis of the study from published runs."""

import sys
from pathlib import Path

from al.arguments import Parser
from al.errors import UserError
from sweeps.report.csv_runs import load_csv
from sweeps.report.zero_shot import own_zero_shot
from sweeps.study.answers import answers


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where there are no such runs, or two in one place."""
    parser = Parser(prog="python -m sweeps.study", description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        default="benchmarks/study",
        help="CSV files as `python -m sweeps.report --to-csv` writes them (default: benchmarks/study)",
    )
    options = parser.parse_args(arguments)
    try:
        results = load_csv(options.folder)
        lines = list(answers(results, own_zero_shot(Path(options.folder))))
    except UserError as error:
        print(f"error: {error}".replace("from-csv", "folder"), file=sys.stderr)
        return 2
    for left in results.left_out:
        print(f"left out: {left.source}: {left.reason}", file=sys.stderr)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
