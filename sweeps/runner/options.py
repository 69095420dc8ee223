"""What the commands of this folder have in common: options for every run, and errors on one line."""

import argparse
import sys
from collections.abc import Callable

from al.arguments import folder_name
from al.errors import NoRoom, UserError
from sweeps.runner.grid import parse_overrides


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that change a parameter of every run; `overrides` reads them."""
    parser.add_argument(
        "--results-dir",
        type=folder_name,
        metavar="DIR",
        help="results folder (default: what the files say, or results)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="parameters for every run, in place of those in the files",
    )


def overrides(options: argparse.Namespace) -> dict[str, object]:
    return parse_overrides(options.set) | ({"results_dir": options.results_dir} if options.results_dir else {})


def exit_code_of(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Carries a command out; an error of the user's is one line and exit code 2, a full disk one line and 1."""
    try:
        return command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NoRoom as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
