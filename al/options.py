"""The command line: one option for every field of `RunConfig`, and what a sweep sets on top of it."""

import argparse
import sys
from collections.abc import Sequence

from al.arguments import Parser
from al.config import RunConfig
from al.dataset_defaults import defaults_of
from al.errors import UserError, nearest
from al.tracking.sweep import sweep_parameters, under_sweep


def read_parameters(arguments: Sequence[str], description: str) -> RunConfig:
    """The configuration from a command line and, where a sweep started this process, from its parameters.

    A sweep's parameters win. An argument that is no parameter is an error on a command line; under a sweep,
    whose agent may add some of its own, it is passed over with a warning.

    Raises:
        UserError: an unknown parameter or argument, or a value against its rule.
    """
    options, unknown = _parser(description).parse_known_args(arguments)
    if unknown and not under_sweep():
        name = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
        raise UserError(f"{unknown[0]}: unknown argument; {nearest(name, RunConfig.model_fields)}; see --help")
    for argument in unknown:
        print(f"warning: argument {argument} is no parameter and is passed over", file=sys.stderr)
    return RunConfig.from_mapping(vars(options) | sweep_parameters())


def _parser(description: str) -> Parser:
    parser = Parser(
        "train.py",
        usage="train.py [--NAME=VALUE ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, field in RunConfig.model_fields.items():
        default = "unset" if field.default is None else str(field.default).lower()
        default += "".join(f"; {dataset}: {value}".lower() for dataset, value in defaults_of(name).items())
        flag = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        spellings = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        text = f"{field.description} [{default}]".replace("%", "%%")
        parser.add_argument(*spellings, dest=name, metavar="VALUE", help=text, **flag)
    return parser
