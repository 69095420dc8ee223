"""`python -m al`: propose what to label next, accept the answers, say how it stands.

    python -m al propose --data=DIR --k=100 --strategy=margin --audit=50
    python -m al accept DIR/al-labels/proposals/round_001/next.csv
    python -m al status --target=90

DIR holds images in any nesting (bmp, jpeg, png, webp). What is known of them lies in DIR/al-labels, or where --state
says. An image is known by its path and its content: it may be renamed and moved. Labels come as a CSV with the columns
path and label, as a JSON export of Label Studio, as a folder of class folders, or in CVAT's ImageNet form.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from al.errors import EXIT_FAILED, EXIT_HELD, EXIT_USAGE, HeldElsewhere, NoRoom, UserError
from al.signals import StopRequested, StopSignals
from al.threads import sleep_while_waiting


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line, as everyone else's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for what the user can put right, 3 where another process is at it."""
    sleep_while_waiting()  # before torch is imported
    try:
        StopSignals().install()
        options = _parser().parse_args(arguments)
        options.command(options)
        return 0
    except UserError as error:
        code, said = EXIT_USAGE, f"error: {error}"
    except (FloatingPointError, NoRoom) as error:
        code, said = EXIT_FAILED, f"error: {error}"
    except HeldElsewhere as error:
        code, said = EXIT_HELD, f"error: {error}; wait for it, or stop it"
    except StopRequested as stop:
        code, said = stop.exit_code, f"stopped by {stop}: nothing is half-written, give the same command again"
    print(said, file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser("python -m al", description=__doc__, formatter_class=plain, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_propose(
        commands.add_parser(
            "propose",
            help="choose what to label next",
            usage="python -m al propose --data=DIR [--NAME=VALUE ...]",
            description=propose_command.__doc__,
            allow_abbrev=False,
        )
    )
    accept = commands.add_parser(
        "accept", help="take answers back", description=accept_command.__doc__, allow_abbrev=False
    )
    accept.set_defaults(command=accept_command)
    accept.add_argument("file", type=Path, help="a .csv, a .json of Label Studio, or a folder of class folders")
    accept.add_argument(
        "--replace", action="store_true", help="let an answer that contradicts an earlier one replace it"
    )
    accept.add_argument(
        "--new_classes", "--new-classes", action="store_true", help="accept classes that are not known yet"
    )
    status = commands.add_parser(
        "status", help="labels, accuracy, when to stop", description=status_command.__doc__, allow_abbrev=False
    )
    status.set_defaults(command=status_command)
    status.add_argument("--target", type=float, metavar="PERCENT", help="accuracy; guess how many labels it takes")
    for command in (accept, status):
        command.add_argument(
            "--data", type=Path, metavar="DIR", help="folder of the images (default: found from FILE or here)"
        )
        command.add_argument(
            "--state", type=Path, metavar="FOLDER", help="where the labels are (default: DIR/al-labels)"
        )
    return parser


def _add_propose(parser: argparse.ArgumentParser) -> None:
    from al.options import add_field
    from labelling.options import OPTIONS, OTHER_TEXTS, SHOWN_DEFAULTS

    parser.set_defaults(command=propose_command)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the images, in any nesting")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="where the labels are kept [DIR/al-labels]")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="labels to read first, as accept does")
    parser.add_argument("--k", type=int, default=100, help="images to choose [100]")
    parser.add_argument(
        "--audit", type=int, default=0, metavar="N",
        help="random images to add, which no model learns from: accuracy is estimated from them alone [0]",
    )  # fmt: skip
    parser.add_argument(
        "--classes", metavar="A,B,C", help="all classes, where the labels do not show them yet [those of the labels]"
    )
    parser.add_argument(
        "--image_url", "--image-url", default="data", metavar="PREFIX",
        help="where Label Studio finds the images. data: small copies are put into its tasks; /data/local-files/?d=: "
        "it serves them from a folder of its own [data]",
    )  # fmt: skip
    group = parser.add_argument_group(
        "parameters of a run", "the same as those of train.py; a value that is given once holds for later proposals too"
    )
    for name in OPTIONS:
        add_field(group, name, text=OTHER_TEXTS.get(name, ""), default=SHOWN_DEFAULTS.get(name), prefix="run_")


def propose_command(options: argparse.Namespace) -> None:
    """Choose what to label next."""
    from labelling.library import Learner

    given = {name[4:]: value for name, value in vars(options).items() if name.startswith("run_") and value is not None}
    learner = Learner.open(options.data, options.state, say=print, **given)
    folder = learner.propose_files(
        options.k,
        audit=options.audit,
        labels=options.labels,
        classes=options.classes or (),
        image_url=options.image_url,
    )
    print(f"look at {folder / 'contact_sheet.html'}")
    print("answer in next.csv beside it, in by_class/, or by label_studio.json in Label Studio; then")
    print(f"python -m al accept {folder / 'next.csv'}")


def accept_command(options: argparse.Namespace) -> None:
    """Read the labels that somebody gave, from any of the forms a proposal has."""
    from labelling.accepting import Rules, accept, lines
    from labelling.project import Project

    project = Project.find(options.data, options.state, options.file, Path.cwd())
    with project.locked("accept"):
        outcome = accept(project, options.file, Rules(options.replace, options.new_classes))
    print("\n".join(lines(outcome)))


def status_command(options: argparse.Namespace) -> None:
    """Say how many labels there are, how good the model is, and whether to stop."""
    from labelling.project import Project
    from labelling.status import status_of
    from labelling.status_page import show, write_page

    if options.target is not None and not 0 < options.target < 100:
        raise UserError(f"--target={options.target:g}: an accuracy in percent, between 0 and 100")
    project = Project.find(options.data, options.state, Path.cwd())
    status = status_of(project, options.target)
    show(status)
    try:
        print(f"page: {write_page(project, status)}")
    except OSError as error:  # the folder of somebody else, which may be read
        print(f"page: not written, as {project.state} cannot be written to ({error.strerror})")
